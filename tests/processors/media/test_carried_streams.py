"""What is held for copyable is what plain FFmpeg copies and reads back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from support.media_job import FFMPEG, ffmpeg
from support.upscale_kit import Repeat, job

from gpu_worker_processors.media.passthrough import carries
from gpu_worker_processors.upscale.upscale import upscale_file

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


PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.4")
KLV = bytes.fromhex("060e2b34020b01010e01030101000000") + b"\x04abcd"
"""A key of SMPTE ST 336 with four bytes."""


def with_cover(suffix: str, image: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        cover, path = folder / f"cover.{image}", folder / f"in.{suffix}"
        ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", 1, cover)
        words = ("-map", 0, "-map", 1, "-c:v:0", "mpeg4", "-c:v:1", "copy")
        if suffix == "mkv":
            mimetype = f"mimetype=image/{image}"
            ffmpeg(*PICTURE, "-attach", cover, "-metadata:s:t", mimetype, "-c:v", "mpeg4", path)
        else:
            ffmpeg(*PICTURE, "-i", cover, *words, "-disposition:v:1", "attached_pic", path)
        return path

    return build


def with_font(folder: Path) -> Path:
    (folder / "a.ttf").write_bytes(b"\0\1\0\0" + bytes(100))
    mimetype = "mimetype=font/ttf"
    words = ("-attach", folder / "a.ttf", "-metadata:s:t", mimetype, "-c:v", "mpeg4")
    ffmpeg(*PICTURE, *words, folder / "in.mkv")
    return folder / "in.mkv"


def with_klv(folder: Path) -> Path:
    (folder / "a.klv").write_bytes(KLV)
    words = ("-f", "data", "-i", folder / "a.klv", "-map", 0, "-map", 1, "-c:d", "copy")
    ffmpeg(*PICTURE, *words, "-c:v", "mpeg2video", folder / "in.ts")
    return folder / "in.ts"


EXTRAS: dict[str, tuple[Callable[[Path], Path], str]] = {
    # how it is made; the muxers that take it
    "a JPEG cover of MP4": (with_cover("mp4", "jpeg"), "mp4 mkv"),
    "a PNG cover of MP4": (with_cover("mp4", "png"), "mp4 mkv"),
    "a JPEG cover of Matroska": (with_cover("mkv", "jpeg"), "mp4 mkv"),
    "a font": (with_font, "mkv"),
    "KLV data": (with_klv, ""),
}


def extra(path: Path) -> bytes | None:
    """The content of the last stream, where it is not the video."""
    with av.open(str(path)) as container:
        stream = container.streams[-1]
        if stream.index == 0:
            return None
        if stream.type == "attachment":
            return bytes(stream.data)
        assert stream.type == "data" or stream.disposition.name == "attached_pic"
        return next((bytes(packet) for packet in container.demux(stream) if packet.size), None)


@pytest.mark.parametrize("suffix", MUXERS.values())
@pytest.mark.parametrize("row", EXTRAS)
def test_what_is_no_video_is_copied_or_named(row: str, suffix: str, tmp_path: Path) -> None:
    build, takers = EXTRAS[row]
    source, output = build(tmp_path), tmp_path / f"out.{suffix}"
    task = job(source, output, scale=2)
    upscale_file(task, Repeat(scale=2))
    is_carried = suffix in takers.split()
    assert extra(output) == (extra(source) if is_carried else None)
    assert [w.code for w in task.warnings] == ([] if is_carried else ["stream_left_out"])
    if "cover" not in row:  # plain FFmpeg makes a video of a cover in Matroska
        words = [FFMPEG, "-v", "error", "-i", source, "-map", "0", "-c", "copy"]
        plain = tmp_path / f"plain.{suffix}"
        done = subprocess.run([*words, plain], capture_output=True, check=False)
        assert (done.returncode == 0 and extra(plain) is not None) == is_carried
