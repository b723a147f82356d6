"""What is held for copyable is what plain FFmpeg copies and reads back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import pytest
from support.media_job import FFMPEG, ffmpeg

from gpu_worker_processors.media.passthrough import carries

SUBTITLES = "1\n00:00:00,100 --> 00:00:00,500\nwords\n"
MUXERS = {"mp4": "mp4", "mov": "mov", "matroska": "mkv"}
SOURCES = {
    "subrip": "mkv",
    "ass": "mkv",
    "webvtt": "mkv",
    "mov_text": "mp4",
    "ttml": "mp4",
}


ONLY_FFMPEG = {("ttml", "mp4"), ("ttml", "mov")}
"""PyAV copies no stream that it has no decoder for."""


def copied(source: Path, into: Path) -> bool:
    """Whether plain FFmpeg copies the subtitles of a file, and finds them again."""
    words = [FFMPEG, "-v", "error", "-y", "-i", source, "-map", "0", "-c", "copy", into]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        return False
    with av.open(str(into)) as container:
        packets = [p for p in container.demux(container.streams[0]) if p.size]
    return any(b"words" in bytes(packet) for packet in packets)


@pytest.mark.parametrize("muxer", MUXERS)
@pytest.mark.parametrize("codec", SOURCES)
def test_a_claim_is_what_the_muxer_does(codec: str, muxer: str, tmp_path: Path) -> None:
    text = tmp_path / "text.srt"
    text.write_text(SUBTITLES)
    source = tmp_path / f"in.{SOURCES[codec]}"
    ffmpeg("-i", text, "-c:s", codec, source)
    with av.open(str(source)) as container:
        claimed = carries(muxer, container.streams[0])
    is_carried = copied(source, tmp_path / f"out.{MUXERS[muxer]}")
    assert is_carried == (claimed or (codec, muxer) in ONLY_FFMPEG)
