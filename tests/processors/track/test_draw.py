"""The pictures of a video made by one thread and by several: the same ones, in the same order, with
the same cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import clips

from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe, require_video
from gpu_worker_processors.track.detectors.hog import HogDetector
from gpu_worker_processors.track.loop import FrameSource, Step, scaler_threads


def looked(path: Path, lookers: int, stride: int) -> tuple[list[Step], FrameSource]:
    info = probe(path)
    video = require_video(info)
    look = FrameSource(
        FrameReader(path, info),
        video,
        HogDetector(["person"], 0.5),
        stride,
        with_gray=True,
        scalers=lookers,
    )
    return list(look), look


@pytest.mark.parametrize("stride", [1, 3])
def test_several_threads_see_what_one_sees(tmp_path: Path, stride: int) -> None:
    shots = [(20, 30, 40), (240, 230, 220), (60, 10, 10), (250, 250, 160)]

    def picture(index: int, width: int, height: int) -> np.ndarray:
        frame = np.full((height, width, 3), shots[index // 10], np.uint8)
        frame[:, index % width :] //= 2
        return frame

    path = clips.make(tmp_path / "in.mp4", clips.Clip(width=176, height=144, frames=40), picture)
    (one, first), (several, second) = looked(path, 1, stride), looked(path, 4, stride)
    assert [step.frame.index for step in several] == list(range(40))
    assert [step.is_cut for step in several] == [step.is_cut for step in one]
    assert [step.frame.index for step in one if step.is_cut] == [10, 20, 30]
    for a, b in zip(one, several, strict=True):
        assert a.frame.time_seconds == b.frame.time_seconds
        assert (a.frame.image is None) == (b.frame.image is None) == (a.frame.index % stride != 0)
        if a.frame.image is not None:
            np.testing.assert_array_equal(a.frame.image, b.frame.image)
            np.testing.assert_array_equal(a.frame.gray, b.frame.gray)
    assert len(first.times) == len(second.times) == 40
    assert first.gray_scale == second.gray_scale


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 64, 1), ("cuda:0", 16, 8), ("cuda:0", 4, 2), ("cuda:0", 1, 1)],
)
def test_how_many_threads(device: str, cores: int, expected: int) -> None:
    assert scaler_threads(device, cores) == expected
