"""What is held for copyable is what plain FFmpeg copies and reads back."""

from __future__ import annotations

import struct
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


def bitmaps() -> bytes:
    """A .sup file: a white rectangle, shown at 0.1 s and taken away at 0.4 s, as segments of a
    Presentation Graphics Stream (US 2009/0185789 A1, figures 19 to 29)."""
    width, height = 16, 8
    lines = bytes([0, 0x80 | width, 1, 0, 0]) * height
    shown = struct.pack(">HBBHH", 0, 0, 0, 8, 32)
    window = struct.pack(">BBHHHH", 1, 0, 8, 32, width, height)
    image = struct.pack(">HBB", 0, 0, 0xC0) + (len(lines) + 4).to_bytes(3, "big")
    image += struct.pack(">HH", width, height) + lines
    file = b""
    for number, (seconds, objects) in enumerate(((0.1, shown), (0.4, b""))):
        head = struct.pack(">HHBHBBBB", 64, 64, 0x10, number, 0x80, 0, 0, len(objects) // 8)
        segments = [(0x16, head + objects), (0x17, window)]
        if objects:
            segments += [(0x14, bytes([0, 0, 1, 235, 128, 128, 255])), (0x15, image)]
        for kind, body in (*segments, (0x80, b"")):
            times = struct.pack(">IIBH", round(seconds * 90_000), 0, kind, len(body))
            file += b"PG" + times + body
    return file


def with_bitmaps(codec: str, suffix: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "a.sup").write_bytes(bitmaps())
        words = ("-i", folder / "a.sup", "-map", 0, "-map", 1, "-c:v", "mpeg2video", "-c:s", codec)
        ffmpeg(*PICTURE, *words, folder / f"in.{suffix}")
        return folder / f"in.{suffix}"

    return build


def with_cues(folder: Path, registration: bytes = b"\x05\x04CUEI") -> Path:
    """Marks of SCTE-35: the programme map (ISO/IEC 13818-1, 2.4.4.8) gives the KLV stream their
    type, 0x86, and itself their registration (ANSI/SCTE 35, 8.1)."""
    path = with_klv(folder)
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        if data[at + 4 : at + 6] != b"\0\2":  # a section that starts, of a programme map
            continue
        section = data[at + 5 : at + 188]
        of_video = int.from_bytes(section[15:17], "big") % 4096
        section[17 + of_video] = 0x86
        section[10:12] = (0xF000 + len(registration)).to_bytes(2, "big")
        section[12:12] = registration
        del section[183:]
        length = int.from_bytes(section[1:3], "big") % 4096 + len(registration)
        section[1:3] = (0xB000 + length).to_bytes(2, "big")
        checksum = 0xFFFFFFFF
        for byte in section[: length - 1]:
            for shift in range(7, -1, -1):
                bit = checksum >> 31 != byte >> shift & 1
                checksum = (checksum << 1 ^ (0x04C11DB7 if bit else 0)) & 0xFFFFFFFF
        section[length - 1 : length + 3] = checksum.to_bytes(4, "big")
        data[at + 5 : at + 188] = section
    path.write_bytes(data)
    return path


def with_unknown(folder: Path) -> Path:
    """A stream of a type that says nothing without that registration."""
    return with_cues(folder, b"")


EXTRAS: dict[str, tuple[Callable[[Path], Path], str]] = {
    # how it is made; the muxers that take it
    "a JPEG cover of MP4": (with_cover("mp4", "jpeg"), "mp4 mkv"),
    "a PNG cover of MP4": (with_cover("mp4", "png"), "mp4 mkv"),
    "a JPEG cover of Matroska": (with_cover("mkv", "jpeg"), "mp4 mkv"),
    "a font": (with_font, "mkv"),
    "KLV data": (with_klv, ""),
    "PGS subtitles": (with_bitmaps("copy", "mkv"), "mkv"),
    "DVB subtitles": (with_bitmaps("dvbsub", "ts"), "mkv"),
    "DVB subtitles of Matroska": (with_bitmaps("dvbsub", "mkv"), "mkv"),
    "DVD subtitles": (with_bitmaps("dvdsub", "mkv"), "mp4 mkv"),
    "SCTE-35 cues": (with_cues, ""),
    "a stream of no known type": (with_unknown, ""),
}


UNLIKE_FFMPEG = {
    # plain FFmpeg makes a video of it
    *((row, "mkv") for row in EXTRAS if "cover" in row),
    # plain FFmpeg takes the type's number in the source for a codec's, which nobody reads
    ("DVB subtitles", "mov"),
    # plain FFmpeg ends at its own mark for "until the next one", 2^32 - 1 ms
    ("DVD subtitles", "mp4"),
}


def extra(path: Path) -> bytes | None:
    """The content of the last stream, where it is not the video."""
    with av.open(str(path)) as container:
        stream = container.streams[-1]
        if stream.index == 0:
            return None
        if stream.type == "attachment":
            return bytes(stream.data)
        assert stream.type in ("data", "subtitle") or stream.disposition.name == "attached_pic"
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
    if "SCTE" in row:
        assert "(scte_35)" in task.warnings[0].message
    if (row, suffix) not in UNLIKE_FFMPEG:
        words = [FFMPEG, "-v", "error", "-i", source, "-map", "0", "-c", "copy"]
        plain = tmp_path / f"plain.{suffix}"
        done = subprocess.run([*words, plain], capture_output=True, check=False)
        assert (done.returncode == 0 and extra(plain) is not None) == is_carried


@pytest.mark.parametrize("suffix", MUXERS.values())
def test_a_subtitle_may_outlast_the_video(suffix: str, tmp_path: Path) -> None:
    text, source = tmp_path / "text.srt", tmp_path / "in.mkv"
    text.write_text(SUBTITLES + "\n2\n00:00:07,000 --> 00:00:09,500\nlate\n")
    ffmpeg(*PICTURE, "-i", text, "-c:v", "mpeg4", "-c:s", "srt", source)
    task = job(source, tmp_path / f"out.{suffix}", scale=2)
    upscale_file(task, Repeat(scale=2))
    with av.open(str(task.require_output())) as container:
        packets = [packet for packet in container.demux(container.streams[1]) if packet.size]
    assert b"late" in bytes(packets[-1])
