"""What a file is by its first bytes, before any parser touches it.

Owns the table of containers this worker reads. The demuxer that FFmpeg will use is chosen here and
forced, so a playlist, a script or an image that calls itself .mp4 never reaches a parser that
would open other files. Reads 4 KiB, never the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError

_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Kind:
    """A container this worker reads."""

    demuxer: str
    """FFmpeg's short name, to force with `format=`."""
    name: str
    """For people: "MP4/MOV"."""


_MOV = Kind("mov", "MP4/MOV")
_TS = Kind("mpegts", "MPEG-TS")

_MEDIA: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"ftyp", _MOV),
    (4, b"moov", _MOV),
    (4, b"mdat", _MOV),
    (4, b"wide", _MOV),
    (4, b"free", _MOV),
    (4, b"skip", _MOV),
    (0, b"\x1a\x45\xdf\xa3", Kind("matroska", "Matroska/WebM")),
    (8, b"AVI ", Kind("avi", "AVI")),
    (8, b"WAVE", Kind("wav", "WAV")),
    (8, b"AIFF", Kind("aiff", "AIFF")),
    (8, b"AIFC", Kind("aiff", "AIFF")),
    (0, b"caff", Kind("caf", "CAF")),
    (0, b"riff\x2e\x91\xcf\x11", Kind("w64", "Wave64")),
    (0, b"FLV\x01", Kind("flv", "FLV")),
    (0, b"\x00\x00\x01\xba", Kind("mpeg", "MPEG-PS")),
    (0, b"GIF8", Kind("gif", "GIF")),
    (0, b"OggS", Kind("ogg", "Ogg")),
    (0, b"fLaC", Kind("flac", "FLAC")),
    (0, b"ID3", Kind("mp3", "MP3")),
)
"""(offset, bytes there, container)."""

_STILLS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
)

_NOT_MEDIA: tuple[tuple[bytes, str], ...] = (
    (b"#EXTM3U", "an HLS playlist; send the video itself, not the list of its segments"),
    (b"#EXT-X-", "an HLS playlist; send the video itself, not the list of its segments"),
    (b"ffconcat", "an ffconcat script; send the video itself"),
    (b"v=0", "an SDP session description"),
    (b"[playlist]", "a playlist"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "gzip data; was it stored with Content-Encoding gzip?"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"push graphic-context", "a drawing script"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"{", "JSON text; an API answered in place of the storage?"),
    (b"http", "text that names another file"),
    (b"file:", "text that names another file"),
)

_ERROR_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_TS_PACKET_BYTES = ((0, 188), (4, 192), (0, 204))
"""(offset of the sync byte, packet size): plain, Blu-ray's with a 4-byte timestamp, DVB's with
error correction."""


def sniff(path: Path) -> Kind:
    """The container of a file.

    Raises:
        TaskError: `not_media` for anything that is no media file, saying what it is when known;
            `unsupported_media` for a still image or a container outside the table;
            `corrupt_media` when the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    _refuse_text(head)
    _refuse_still(head)
    for offset, magic, kind in _MEDIA:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if transport_packet_bytes(head):
        return _TS
    return _audio_frames(head)


def _refuse_text(head: bytes) -> None:
    if not head:
        raise TaskError(ErrorCode.not_media, "the input is empty (0 bytes)")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        raise TaskError(ErrorCode.not_media, f"the input is no media file: got {_markup(text)}")
    for magic, what in _NOT_MEDIA:
        if text.startswith(magic):
            raise TaskError(ErrorCode.not_media, f"the input is no media file: got {what}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and head[2:40:2].isascii():
        raise TaskError(ErrorCode.not_media, "the input is no media file: got UTF-16 text")


def _markup(text: bytes) -> str:
    """Names an XML or HTML page; an S3-style error page by its code, which is what the uploader
    needs to know."""
    code = _ERROR_CODE.search(text)
    if code:
        return (
            f"an XML error page ({code[1].decode()}); the storage refused the URL that once filled"
            " this object"
        )
    lower = text[:1024].lower()
    if b"<svg" in lower:
        return "an SVG drawing"
    if b"<mpd" in lower or b"<smil" in lower:
        return "a DASH or SMIL manifest; send the video itself"
    if b"<html" in lower or lower.startswith(b"<!doctype html"):
        return "an HTML page; is the URL a web page or a sign-in?"
    return "an XML document"


def _refuse_still(head: bytes) -> None:
    for offset, magic, name in _STILLS:
        if head[offset : offset + len(magic)] == magic:
            raise TaskError(
                ErrorCode.unsupported_media,
                f"the input is a still picture ({name}); this task needs a video",
            )


def transport_packet_bytes(head: bytes) -> int:
    """Size of a transport stream's packets by the first bytes of it; 0 for anything else."""
    return next((size for offset, size in _TS_PACKET_BYTES if _repeats(head, offset, size)), 0)


def _repeats(head: bytes, offset: int, size: int) -> bool:
    offsets = range(offset, min(len(head), offset + 8 * size), size)
    return len(offsets) >= 3 and all(head[at] == 0x47 for at in offsets)


def _audio_frames(head: bytes) -> Kind:
    """MPEG audio and ADTS have no magic but an 11- or 12-bit sync word."""
    if head[0] == 0xFF and len(head) > 1:
        if head[1] & 0xF6 == 0xF0:
            return Kind("aac", "AAC")
        if head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
            return Kind("mp3", "MP3")
    if head.startswith(b"\x30\x26\xb2\x75"):
        raise TaskError(
            ErrorCode.unsupported_media,
            "WMV/ASF files are not supported; convert to MP4 or Matroska first",
        )
    raise TaskError(
        ErrorCode.not_media,
        "the input does not begin like a video or audio file; send MP4, MOV, Matroska, WebM, AVI,"
        " MPEG-TS, FLV or GIF",
    )
