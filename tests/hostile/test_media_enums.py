"""Colours, clocks and sizes at the edge of what FFmpeg's converters know: the frames come out, or
the error is typed and not to be retried."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support import bloated, clips
from support.media_job import ffmpeg

from gpu_worker_client.protocol import DetectScenesParams, ErrorCode, TaskError
from gpu_worker_processors.base import Limits, LocalJob
from gpu_worker_processors.detect_scenes.processor import PROCESSOR
from gpu_worker_processors.engine.errors import as_task_error
from gpu_worker_processors.media.probe import probe

KNOWN_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}
"""Of ITU-T H.273, table 4, those that libswscale converts."""


def outcome(path: Path) -> int | ErrorCode:
    """Frames, or how the job ends."""
    job = LocalJob("row", DetectScenesParams(), path.parent, path)
    try:
        return PROCESSOR.run(job).stats.total_frames
    except Exception as raised:  # noqa: BLE001 - as at the engine's own edge
        return as_task_error(raised).code


@pytest.mark.parametrize("matrix", [*range(18), 255])
def test_a_matrix_is_converted_or_named(matrix: int, tmp_path: Path) -> None:
    clips.make(tmp_path / "in.mp4", clips.Clip(frames=3))
    tagged = tmp_path / "tagged.mp4"
    change = f"h264_metadata=matrix_coefficients={matrix}"
    ffmpeg("-i", tmp_path / "in.mp4", "-c", "copy", "-bsf:v", change, tagged)
    found = outcome(tagged)
    if matrix in KNOWN_MATRICES:
        assert found == 3
    else:
        assert found in (3, ErrorCode.unsupported_media)


def test_a_frame_of_68_years_is_no_bug(tmp_path: Path) -> None:
    """Its edit list, in ticks of a 12,800th, now leaves out all frames but the first."""
    data = bloated.clip(tmp_path, "mp4").read_bytes()
    clock = data.index(b"mdhd") + 16
    data = data[:clock] + struct.pack(">I", 1) + data[clock + 4 :]
    delta = data.index(b"stts") + 16
    slow = tmp_path / "slow.mp4"
    slow.write_bytes(data[:delta] + struct.pack(">I", 2**31 - 1) + data[delta + 4 :])
    assert outcome(slow) == 1


def test_the_largest_frame_may_have_any_width(tmp_path: Path) -> None:
    """FFmpeg pads each row to 64 pixels before it counts them."""
    path = clips.make(tmp_path / "in.mp4", clips.Clip(66, 1000, frames=2))
    video = probe(path, Limits(max_pixels=66_000)).video
    assert video is not None and (video.width, video.height) == (66, 1000)
    with pytest.raises(TaskError, match="66x1000") as caught:
        probe(path, Limits(max_pixels=65_999))
    assert caught.value.code is ErrorCode.media_limit
