"""Hostile media, row by row: how to make each file, and how a task on it may end. The rows' numbers
are those of the project's table of hostile inputs."""

from __future__ import annotations

import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from support import clips

OK = "ok"
Build = Callable[[Path], Path]
SMALL = clips.Clip(width=320, height=240, frames=60, options=(("preset", "medium"), ("crf", "20")))


def ffmpeg(*args: object) -> None:
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)],
        check=True,
        capture_output=True,
    )


def text(content: str | bytes) -> Build:
    def build(path: Path) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return build


def clip(**options: object) -> Build:
    return lambda path: clips.make(path, clips.Clip(**options))


def changed(change: Callable[[bytes], bytes], *, faststart: bool = False) -> Build:
    """A good mp4 whose bytes are then changed."""

    def build(path: Path) -> Path:
        clips.make(path, SMALL)
        if faststart:
            moved = path.with_name("fast.mp4")
            ffmpeg("-i", path, "-c", "copy", "-movflags", "+faststart", moved)
            path = moved
        path.write_bytes(change(path.read_bytes()))
        return path

    return build


def made_by_ffmpeg(*args: str, suffix: str = "mp4") -> Build:
    """ffmpeg's output from a good clip with audio; `{in}` and `{dir}` are filled in."""

    def build(path: Path) -> Path:
        source = clips.make(path.with_name("source.mp4"), clips.Clip(audio_seconds=1.0, frames=25))
        (path.parent / "attached.bin").write_bytes(b"attachment")
        out = path.with_suffix(f".{suffix}")
        ffmpeg(*(a.format_map({"in": source, "dir": path.parent}) for a in args), out)
        return out

    return build


def flip(count: int, start: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        dice, damaged = random.Random(3), bytearray(data)
        for _ in range(count):
            damaged[dice.randrange(int(len(data) * start), len(data))] ^= 0xFF
        return bytes(damaged)

    return change


def box(data: bytes, kind: bytes, start: int = 0) -> tuple[int, int]:
    """(offset, end) of the first box of that type."""
    offset = data.index(kind, start) - 4
    return offset, offset + int.from_bytes(data[offset : offset + 4], "big")


def in_moov(edit: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Edits the moov box, which stands last, so that no offset in the file moves."""

    def change(data: bytes) -> bytes:
        start, end = box(data, b"moov")
        assert end == len(data)
        body = edit(data[start + 8 : end])
        return data[:start] + struct.pack(">I4s", len(body) + 8, b"moov") + body

    return change


def many_tracks(moov: bytes) -> bytes:
    start, end = box(moov, b"trak")
    return moov + moov[start:end] * 20_000


def edit_list(media_time: int) -> Callable[[bytes], bytes]:
    """One edit of 2^31 ticks that starts at that time of the media."""
    content = struct.pack(">IIIi", 0, 1, 2**31, media_time)

    def edit(moov: bytes) -> bytes:
        at = moov.index(b"elst") + 4
        return moov[:at] + content + moov[at + len(content) :]

    return edit


def endless_durations(moov: bytes) -> bytes:
    """Version 0 of mvhd, tkhd, mdhd: the duration stands at byte 16, 20, 16 of the body."""
    for kind, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        at = moov.index(kind) + 4 + offset
        moov = moov[:at] + b"\xff\xff\xff\xfe" + moov[at + 4 :]
    return moov


def declared(width: int, height: int) -> Build:
    """A Matroska file whose MJPEG frames are small and claim another size in their own
    headers."""

    def build(path: Path) -> Path:
        path = clips.make(
            path.with_suffix(".mkv"),
            clips.Clip(codec="mjpeg", pix_fmt="yuvj420p", options=(), frames=2),
        )
        data = path.read_bytes()
        frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 48, 64)
        assert frame in data
        path.write_bytes(
            data.replace(frame, b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width))
        )
        return path

    return build


def declared_by_the_track(path: Path) -> Path:
    """A Matroska file whose track header claims 65535x65535; the elements' sizes stay as they
    were."""
    path = clips.make(
        path.with_suffix(".mkv"), clips.Clip(320, 272, codec="ffv1", options=(), frames=2)
    )
    data = path.read_bytes()
    for name, size in ((b"\xb0", 320), (b"\xba", 272)):
        old = name + b"\x82" + struct.pack(">H", size)
        assert data.count(old) == 1
        data = data.replace(old, name + b"\x82\xff\xff")
    path.write_bytes(data)
    return path


@cache
def png(width: int, height: int) -> bytes:
    """An image of one colour: megabytes of zeros in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def png_file(path: Path) -> Path:
    path.write_bytes(png(8000, 8000))
    return path


def png_track(path: Path) -> Path:
    """The same bomb as the one frame of a Matroska track."""
    still = png_file(path.with_name("bomb.png"))
    path = path.with_suffix(".mkv")
    ffmpeg("-i", still, "-c", "copy", path)
    still.unlink()
    return path


def two_joined(path: Path, **second: object) -> Path:
    one = clips.make(path.with_name("one.ts"), clips.Clip(frames=10))
    two = clips.make(path.with_name("two.ts"), clips.Clip(frames=10, **second))
    path.write_bytes(one.read_bytes() + two.read_bytes())
    return path


R2_ERROR = (
    '<?xml version="1.0"'
    ' encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>'
)
INIT_SEGMENT = made_by_ffmpeg(
    "-i", "{in}", "-map", "0:v", "-c", "copy", "-movflags", "frag_keyframe+empty_moov"
)


def header_only(path: Path) -> Path:
    path = INIT_SEGMENT(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])
    return path


CENC = (
    "-encryption_scheme",
    "cenc-aes-ctr",
    "-encryption_key",
    "0" * 32,
    "-encryption_kid",
    "1" * 32,
)
STTS = struct.pack(">I4sII", 16 + 8 * 10**6, b"stts", 0, 10**6) + struct.pack(">II", 1, 1) * 10**6


def long_stts(moov: bytes) -> bytes:
    """A million entries in the table of durations, with every box around it grown to fit."""
    start, end = box(moov, b"stts")
    moov = moov[:start] + STTS + moov[end:]
    for kind in (b"trak", b"mdia", b"minf", b"stbl"):
        at = moov.index(kind) - 4
        size = int.from_bytes(moov[at : at + 4], "big") + len(STTS) - (end - start)
        moov = moov[:at] + struct.pack(">I", size) + moov[at + 4 :]
    return moov


ROWS: dict[str, tuple[Build, str | tuple[str, ...]]] = {
    "M01 empty": (text(b""), "not_media"),
    "M02 storage error page": (text(R2_ERROR), "not_media"),
    "M02 html": (text("\n <!DOCTYPE html><html><body>Sign in</body></html>"), "not_media"),
    "M02 json": (text('{"error": "denied"}'), "not_media"),
    "M03 no moov": (changed(lambda data: data[: len(data) // 2]), "corrupt_media"),
    "M04 half, faststart": (
        changed(lambda data: data[: len(data) // 2], faststart=True),
        "corrupt_media",
    ),
    "M05 less 1 KB": (changed(lambda data: data[:-1024], faststart=True), "corrupt_media"),
    "M05 less 1 byte": (changed(lambda data: data[:-1], faststart=True), "corrupt_media"),
    "M06 200 flips": (changed(flip(200, 0.3), faststart=True), "corrupt_media"),
    "M06 5 flips": (changed(flip(5, 0.3), faststart=True), "corrupt_media"),
    "M07 audio only": (made_by_ffmpeg("-i", "{in}", "-vn", "-c", "copy"), "no_video_stream"),
    "M08 header only": (header_only, "no_frames"),
    "M08 header only, matroska": (
        made_by_ffmpeg("-i", "{in}", "-map", "0:v", "-t", "0", "-c", "copy", suffix="mkv"),
        "no_frames",
    ),
    "M09 cover picture": (
        made_by_ffmpeg(
            "-i",
            "{in}",
            "-map",
            "0:a",
            "-map",
            "0:v",
            "-c:a",
            "copy",
            "-c:v",
            "mjpeg",
            "-frames:v",
            "1",
            "-disposition:v",
            "attached_pic",
        ),
        "no_video_stream",
    ),
    "M10 1x1": (clip(width=1, height=1, pix_fmt="yuv444p", frames=5), OK),
    "M10 2x2": (clip(width=2, height=2, frames=5), OK),
    "M10 3x65500": (
        clip(width=3, height=65500, codec="mjpeg", pix_fmt="yuvj444p", options=(), frames=2),
        OK,
    ),
    "M11 8000x8000 png": (png_file, ("media_limit", "unsupported_media")),
    "M11 8000x8000 png in matroska": (png_track, "media_limit"),
    "M11 65535x65535 by the track": (declared_by_the_track, "media_limit"),
    "M11 65535x65535 by the picture": (declared(65535, 65535), ("media_limit", "corrupt_media")),
    "M12 odd size": (clip(width=853, height=479, pix_fmt="yuv444p", frames=5), OK),
    "M13 size changes": (lambda path: two_joined(path, width=128, height=96), OK),
    "M14 clock starts again": (two_joined, OK),
    "M14 variable rate": (clip(frames=5, pts=(0, 1, 90000, 90001, 9_000_000)), OK),
    "M15 turned": (clip(rotation=90, frames=5), OK),
    "M18 endless by its header": (changed(in_moov(endless_durations)), OK),
    "M19 20,000 tracks": (changed(in_moov(many_tracks)), "media_limit"),
    "M20 edit list beyond the end": (
        changed(in_moov(edit_list(2**30))),
        ("no_frames", "corrupt_media", OK),
    ),
    "M20 negative edit list": (
        changed(in_moov(edit_list(-(2**30)))),
        ("no_frames", "corrupt_media", OK),
    ),
    "M20 a million durations": (changed(in_moov(long_stts)), ("corrupt_media", OK)),
    "M20 metadata of 2 GB": (
        changed(in_moov(lambda moov: moov + struct.pack(">I4s", 2**31, b"udta"))),
        ("corrupt_media", OK),
    ),
    "M21 HLS": (
        text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{canary}\n#EXT-X-ENDLIST\n"),
        "not_media",
    ),
    "M21 DASH": (
        text('<?xml version="1.0"?><MPD><BaseURL>file://{canary}</BaseURL></MPD>'),
        "not_media",
    ),
    "M21 ffconcat": (text("ffconcat version 1.0\nfile '{canary}'\n"), "not_media"),
    "M21 SDP": (
        text("v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
        "not_media",
    ),
    "M21 SMIL": (text('<smil><body><video src="{canary}"/></body></smil>'), "not_media"),
    "M21 pls": (text("[playlist]\nFile1={canary}\n"), "not_media"),
    "M21 list of names": (text("{canary}\n"), "not_media"),
    "M23 SVG": (
        text('<svg xmlns="http://www.w3.org/2000/svg"><image href="{canary}"/></svg>'),
        "not_media",
    ),
    "M23 MVG": (
        text("push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '{canary}'\n"),
        "not_media",
    ),
    "M23 PDF": (text("%PDF-1.7\n"), "not_media"),
    "M23 ZIP": (text(b"PK\x03\x04" + bytes(99)), "not_media"),
    "M23 strm": (text("file://{canary}\n"), "not_media"),
    "M23 avs": (text('DirectShowSource("{canary}")\n'), "not_media"),
    "M23 vpy": (
        text("import vapoursynth as vs\ncore.ffms2.Source('{canary}').set_output()\n"),
        "not_media",
    ),
    "M25 attachment": (
        made_by_ffmpeg(
            "-i",
            "{in}",
            "-c",
            "copy",
            "-attach",
            "{dir}/attached.bin",
            "-metadata:s:t",
            "mimetype=application/x-sharedlib",
            "-metadata:s:t",
            "filename=../../x.so",
            suffix="mkv",
        ),
        OK,
    ),
    "M26 encrypted": (made_by_ffmpeg("-i", "{in}", "-c", "copy", *CENC), "unsupported_media"),
    "M29 rare decoder": (
        made_by_ffmpeg("-i", "{in}", "-an", "-vf", "format=gbrp", "-c:v", "magicyuv", suffix="mkv"),
        "unsupported_media",
    ),
}
