"""The last look at a written file: what is not as promised does not leave."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from support import clips
from support.upscale_kit import planes, upscaled, writer_spec

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encode import VideoWriter
from gpu_worker_processors.media.probe import probe
from gpu_worker_processors.media.verify import Promise, verify_output

TAGS = ColorTags(1, 1, 1, False)


def promise(**changes: Any) -> Promise:
    facts = {
        "width": 64,
        "height": 48,
        "frames": 40,
        "span_seconds": Fraction(39, 25),
        "last_seconds": Fraction(1, 25),
        "tags": TAGS,
    }
    return Promise(**{**facts, **changes})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "out.mp4", writer_spec()) as writer:
        for index in range(40):
            writer.write(planes(5 * index), index)
    return tmp_path / "out.mp4"


def test_a_right_file_passes(written: Path) -> None:
    verify_output(written, promise())


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 41},
        {"frames": 39},
        {"width": 66},
        {"height": 50},
        {"span_seconds": Fraction(40, 25)},
        {"last_seconds": Fraction(3, 25)},
        {"audio_seconds": (Fraction(40, 25),)},
        {"tags": ColorTags(6, 1, 1, False)},
        {"tags": ColorTags(1, 1, 1, True)},
    ],
)
def test_a_file_that_is_not_as_promised_is_refused(written: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(TaskError) as caught:
        verify_output(written, promise(**wrong))
    assert caught.value.code == ErrorCode.output_invalid


def test_a_damaged_file_is_refused(written: Path) -> None:
    data = bytearray(written.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    written.write_bytes(data)
    with pytest.raises(TaskError) as caught:
        verify_output(written, promise())
    assert caught.value.code == ErrorCode.output_invalid


def test_a_cut_off_file_is_refused(written: Path) -> None:
    written.write_bytes(written.read_bytes()[:-200])
    with pytest.raises(TaskError) as caught:
        verify_output(written, promise())
    assert caught.value.code == ErrorCode.output_invalid


def test_a_source_that_breaks_off_in_its_sound_is_refused(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=50, audio_seconds=2))
    info = probe(source, Limits())
    assert info.audio
    source.write_bytes(source.read_bytes()[:-3000])
    with pytest.raises(TaskError) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert caught.value.code == ErrorCode.corrupt_media
    assert not (tmp_path / "out.mp4").exists()
