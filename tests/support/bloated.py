"""Good clips with far too many tags, each in the way of its own container."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from support.media_job import ffmpeg

Bloat = Callable[[bytes, int], bytes]
"""A file's bytes and a number of tags -> the file with them."""


def boxed(kind: bytes, *content: bytes) -> bytes:
    """A box of an ISO media file."""
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def element(name: bytes, *content: bytes) -> bytes:
    """A Matroska element with a size of eight bytes."""
    body = b"".join(content)
    return name + struct.pack(">Q", len(body) | 1 << 56) + body


def with_packed_index(data: bytes, size: int | None = None, *, repeat: int = 0) -> bytes:
    """The same file with its moov, which stands last, as old QuickTime files have it: zlib's in a
    cmov.

    Args:
        size: what the cmov says of the unpacked moov; None is the truth.
        repeat: so many megabytes of zeros instead of the moov.
    """
    at = data.rindex(b"moov") - 4
    moov = bytes(repeat << 20) if repeat else data[at:]
    said = struct.pack(">I", len(moov) if size is None else size)
    packed = boxed(b"cmvd", said, zlib.compress(moov, 9))
    return data[:at] + boxed(b"moov", boxed(b"cmov", boxed(b"dcom", b"zlib"), packed))


def names(count: int) -> Iterable[bytes]:
    return (b"KEY%06d" % number for number in range(count))


def in_moov(data: bytes, extra: bytes) -> bytes:
    """Appends to the moov box, which stands last."""
    at = data.rindex(b"moov") - 4
    body = data[at + 8 :] + extra
    return data[:at] + boxed(b"moov", body)


def before_clusters(data: bytes, extra: bytes) -> bytes:
    """Puts elements before the first cluster, in a segment of unknown size."""
    segment = data.index(b"\x18\x53\x80\x67") + 4
    cluster = data.index(b"\x1f\x43\xb6\x75", segment)
    head = data[:segment] + b"\x01" + b"\xff" * 7
    return head + data[segment + 8 : cluster] + extra + data[cluster:]


def mp4_items(data: bytes, count: int) -> bytes:
    items = (
        boxed(
            b"----",
            boxed(b"mean", bytes(4), b"a.b"),
            boxed(b"name", bytes(4), name),
            boxed(b"data", bytes((0, 0, 0, 1)), bytes(4), b"v"),
        )
        for name in names(count)
    )
    handler = boxed(b"hdlr", bytes(8), b"mdirappl", bytes(9))
    return in_moov(data, boxed(b"udta", boxed(b"meta", bytes(4), handler, boxed(b"ilst", *items))))


def mov_keys(data: bytes, count: int) -> bytes:
    keys = boxed(
        b"keys", struct.pack(">II", 0, count), *(boxed(b"mdta", name) for name in names(count))
    )
    value = boxed(b"data", bytes((0, 0, 0, 1)), bytes(4), b"v")
    items = (boxed(struct.pack(">I", number + 1), value) for number in range(count))
    handler = boxed(b"hdlr", bytes(8), b"mdta", bytes(13))
    return in_moov(data, boxed(b"meta", handler, keys, boxed(b"ilst", *items)))


def mkv_tags(data: bytes, count: int) -> bytes:
    simple = (
        element(b"\x67\xc8", element(b"\x45\xa3", name), element(b"\x44\x87", b"v"))
        for name in names(count)
    )
    tag = element(b"\x73\x73", element(b"\x63\xc0"), *simple)
    return before_clusters(data, element(b"\x12\x54\xc3\x67", tag))


def flv_script(data: bytes, entries: bytes) -> bytes:
    body = b"\x02" + amf(b"onMetaData") + b"\x08" + bytes(4) + entries + b"\x00\x00\x09"
    head = b"\x12" + len(body).to_bytes(3, "big") + bytes(7)
    return data[:13] + head + body + struct.pack(">I", len(body) + 11) + data[13:]


def amf(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def flv_entries(data: bytes, count: int) -> bytes:
    return flv_script(data, b"".join(amf(name) + b"\x02" + amf(b"v") for name in names(count)))


def flv_index(data: bytes, count: int) -> bytes:
    """An index of that many times, most of them missing."""
    times = amf(b"times") + b"\x0a" + struct.pack(">I", count) + bytes(9000)
    return flv_script(data, amf(b"keyframes") + b"\x03" + times)


def vorbis_comments(count: int) -> bytes:
    comments = (struct.pack("<I", len(name) + 2) + name + b"=v" for name in names(count))
    return struct.pack("<II", 0, count) + b"".join(comments)


def flac_comments(data: bytes, count: int) -> bytes:
    at, last = 4, False
    while not last:
        last, length = bool(data[at] & 0x80), int.from_bytes(data[at + 1 : at + 4], "big")
        at += 4 + length
    stream_info = bytes(1) + data[5:42]
    comments = vorbis_comments(count)
    head = b"\x84" + len(comments).to_bytes(3, "big")
    return b"fLaC" + stream_info + head + comments + data[at:]


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3_frames(data: bytes, count: int) -> bytes:
    texts = (b"\x00" + name + b"\x00v\x00" for name in names(count))
    frames = b"".join(b"TXXX" + synchsafe(len(text)) + bytes(2) + text for text in texts)
    return b"ID3\x04\x00\x00" + synchsafe(len(frames)) + frames + data


BLOATS: dict[str, tuple[str, Bloat]] = {
    "MP4 ilst": ("mp4", mp4_items),
    "MOV keys": ("mov", mov_keys),
    "Matroska tags": ("mkv", mkv_tags),
    "FLV onMetaData": ("flv", flv_entries),
    "FLAC comments": ("flac", flac_comments),
    "ID3 frames": ("mp3", id3_frames),
}
"""Kind of tag -> (suffix of the file, what puts them in)."""


def clip(folder: Path, suffix: str) -> Path:
    """Half a second of video and audio, or of audio only."""
    path = folder / f"clip.{suffix}"
    video = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.5"]
    audio = ["-f", "lavfi", "-i", "sine=d=0.5"]
    ffmpeg(*([] if suffix in ("flac", "mp3") else video), *audio, path)
    return path


def bloat(folder: Path, kind: str, count: int) -> Path:
    """A clip with that many tags of this kind."""
    suffix, change = BLOATS[kind]
    path = clip(folder, suffix)
    path.write_bytes(change(path.read_bytes(), count))
    return path


def status_of(program: str, *words: object) -> int:
    """How a Python process ends that runs this program."""
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, capture_output=True, check=False).returncode
