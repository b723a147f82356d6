"""FrameReader.probed: the file is opened once, and the frames are those of a reader that opens it
after the probe."""

from __future__ import annotations

import hashlib
import wave
from pathlib import Path

import av
import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.decode import DecodedFrame, FrameReader
from gpu_worker_processors.media.probe import probe

X264 = (("crf", "20"), ("preset", "medium"), ("g", "10"))
"""With B-frames, so that display order differs from decoding order, and a key frame every ten."""


def seen(frame: DecodedFrame) -> tuple[int, int, float, str]:
    return (
        frame.index,
        frame.pts,
        frame.time_seconds,
        hashlib.sha256(frame.frame.to_ndarray(format="rgb24")).hexdigest(),
    )


@pytest.mark.parametrize("threads", [0, 6])
@pytest.mark.parametrize("frames", [1, 5, 40])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
def test_all_frames_without_opening_the_file_again(
    tmp_path: Path, suffix: str, frames: int, threads: int
) -> None:
    path = clips.make(
        tmp_path / f"a.{suffix}", clips.Clip(frames=frames, options=X264, audio_seconds=1.0)
    )
    expected = [seen(frame) for frame in FrameReader(path, probe(path))]
    assert len(expected) == frames
    with FrameReader.probed(path, threads=threads) as reader:
        if (
            suffix != "ts"
        ):  # a recording of a broadcast may begin between key frames, so its reader starts afresh
            path.rename(tmp_path / "away")
        assert [seen(frame) for frame in reader] == expected


def test_a_second_iteration_starts_over(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=5))
    with FrameReader.probed(path) as reader:
        assert len({tuple(map(seen, reader)) for _ in range(3)}) == 1


def test_what_the_probe_says_does_not_depend_on_the_threads(tmp_path: Path) -> None:
    path = clips.make(
        tmp_path / "a.mp4", clips.Clip(rotation=-90, options=X264, color=(1, 1, 1, 2))
    )
    with FrameReader.probed(path, threads=6) as reader:
        assert reader.video == probe(path).video


def test_the_file_is_closed_at_the_end(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip())
    with FrameReader.probed(path) as reader:
        next(iter(reader))
    held = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path not in held


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("broken", [0, 1, 7, 30])
def test_a_damaged_frame_is_an_error_wherever_it_stands(
    tmp_path: Path, suffix: str, broken: int
) -> None:
    """The probe finds its frame in a file whose first ones cannot be decoded; a reader must not go
    on from there."""
    codec = {"codec": "mpeg4", "options": ()} if suffix == "avi" else {"options": X264}
    path = clips.make(
        tmp_path / f"a.{suffix}", clips.Clip(width=320, height=240, frames=60, **codec)
    )
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[broken]
    assert position is not None
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with pytest.raises(TaskError) as caught, FrameReader.probed(path, threads=6) as reader:
        list(reader)
    assert caught.value.code is ErrorCode.corrupt_media


def test_limits_hold_from_the_first_frame_on(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=11))
    for limits in (Limits(max_pixels=64 * 48 - 1), Limits(max_frames=10)):
        with pytest.raises(TaskError) as caught, FrameReader.probed(path, limits=limits) as reader:
            list(reader)
        assert caught.value.code is ErrorCode.media_limit


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(TaskError) as caught, FrameReader.probed(path):
        pass
    assert caught.value.code is ErrorCode.no_video_stream
