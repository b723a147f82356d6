"""What a file is by its first bytes, before any parser touches it.

Owns the table of containers this worker reads. The demuxer that FFmpeg will use is chosen here and
forced, so a playlist, a script or an image that calls itself .mp4 never reaches a parser that
would open other files. Reads 4 KiB (of Motion JPEG the first frame; of what starts like nothing
known, the 64 KiB in which audio or a broadcast may start), never the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.audio_frames import SEARCHED_BYTES, first_frame
from gpu_worker_processors.media.tags import end_of_leading_tags

_HEAD_BYTES = 4096
_WEBP_ANIMATION = 0x02
"""The flag in a VP8X chunk: developers.google.com/speed/webp/docs/riff_container"""
_MAX_JPEG_BYTES = 32 * 1024 * 1024
"""An image of 36 megapixels, a worker's limit, at nearly 8 bits a pixel."""


@dataclass(frozen=True)
class Kind:
    """A container this worker reads."""

    demuxer: str
    """FFmpeg's short name, to force with `format=`."""
    name: str
    """For people: "MP4/MOV"."""
    start: int = 0
    """Offset at which FFmpeg is to start: behind tags that it does not know, or behind what is left
    of a frame."""


_MOV = Kind("mov", "MP4/MOV")
_TS = Kind("mpegts", "MPEG-TS")
_PS = Kind("mpeg", "MPEG-PS")
_PACK = b"\x00\x00\x01\xba"
_READS_ID3 = frozenset({"mp3", "aac", "flac", "tta"})
"""Demuxers that read an ID3 tag before them by themselves, and the image of the cover with it."""
_RAW_AUDIO = {"mp3": "MP3", "aac": "AAC", "ac3": "AC-3", "dts": "DTS", "loas": "AAC in LOAS"}

_H264_FIRST = (b"\x67", b"\x27", b"\x47", b"\x09")
"""First bytes of the units that an H.264 stream begins with (ITU-T H.264, 7.3.1): a sequence
parameter set, an access unit delimiter."""
_HEVC_FIRST = (b"\x40\x01", b"\x46\x01")
"""The same of HEVC (ITU-T H.265, 7.3.1.2): a video parameter set, an access unit delimiter."""

_MEDIA: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"ftyp", _MOV),
    (4, b"moov", _MOV),
    (4, b"mdat", _MOV),
    (4, b"wide", _MOV),
    (4, b"free", _MOV),
    (4, b"skip", _MOV),
    (4, b"styp", _MOV),
    (0, b"\x1a\x45\xdf\xa3", Kind("matroska", "Matroska/WebM")),
    (8, b"AVI ", Kind("avi", "AVI")),
    (8, b"WAVE", Kind("wav", "WAV")),
    (8, b"AIFF", Kind("aiff", "AIFF")),
    (8, b"AIFC", Kind("aiff", "AIFF")),
    (0, b"caff", Kind("caf", "CAF")),
    (0, b"riff\x2e\x91\xcf\x11", Kind("w64", "Wave64")),
    (0, b"FLV\x01", Kind("flv", "FLV")),
    (0, _PACK, _PS),
    (0, b"GIF8", Kind("gif", "GIF")),
    (0, b"OggS", Kind("ogg", "Ogg")),
    (0, b"fLaC", Kind("flac", "FLAC")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind("asf", "WMV/ASF")),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02", Kind("mxf", "MXF")),
    (0, b"\x1f\x07\x00", Kind("dv", "DV")),
    (0, b"YUV4MPEG2 ", Kind("yuv4mpegpipe", "YUV4MPEG2")),
    (0, b"nut/multimedia container\x00", Kind("nut", "NUT")),
    (0, b"DKIF\x00\x00", Kind("ivf", "IVF")),
    (0, b".RMF", Kind("rm", "RealMedia")),
    (0, b"\x00\x00\x00\x00\x01\xbc", Kind("gxf", "GXF")),
    (0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11", Kind("wtv", "WTV")),
    # video without a container
    (0, b"\x00\x00\x01\xb3", Kind("mpegvideo", "MPEG-2 video")),
    (0, b"\x00\x00\x01\xb0", Kind("m4v", "MPEG-4 video")),
    (0, b"\x00\x00\x01\x00\x00\x00\x01\x20", Kind("m4v", "MPEG-4 video")),
    (0, b"\x00\x00\x01\x0f", Kind("vc1", "VC-1 video")),
    *((0, b"\x00\x00\x00\x01" + unit, Kind("hevc", "HEVC video")) for unit in _HEVC_FIRST),
    *((0, b"\x00\x00\x01" + unit, Kind("hevc", "HEVC video")) for unit in _HEVC_FIRST),
    *((0, b"\x00\x00\x00\x01" + unit, Kind("h264", "H.264 video")) for unit in _H264_FIRST),
    *((0, b"\x00\x00\x01" + unit, Kind("h264", "H.264 video")) for unit in _H264_FIRST),
    (0, b"\x12\x00\x0a", Kind("obu", "AV1 video")),
    # audio
    (0, b"wvpk", Kind("wv", "WavPack")),
    (0, b"MAC ", Kind("ape", "Monkey's Audio")),
    (0, b"TTA1", Kind("tta", "TTA")),
    (0, b"tBaK", Kind("tak", "TAK")),
    (0, b"MPCK", Kind("mpc8", "Musepack")),
    (0, b"MP+", Kind("mpc", "Musepack")),
    (0, b"#!AMR", Kind("amr", "AMR")),
    (0, b".snd", Kind("au", "AU")),
    (0, b"DSD ", Kind("dsf", "DSF")),
    (0, b"\x0b\x77", Kind("ac3", "AC-3")),
    (0, b"\x7f\xfe\x80\x01", Kind("dts", "DTS")),
    (4, b"\xf8\x72\x6f\xba", Kind("truehd", "TrueHD")),
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
_TS_SYNC = b"\x47"
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
        tagged = end_of_leading_tags(file)
        file.seek(0)
        is_id3 = file.read(3) == b"ID3"
        file.seek(tagged)
        head = file.read(_HEAD_BYTES)
        if tagged and not head:
            raise TaskError(ErrorCode.not_media, "the input holds a tag and no audio")
        kind = _by_magic(path, head) or _inside(file, tagged) or _audio_frames(head)
    if tagged and not (is_id3 and kind.demuxer in _READS_ID3):
        return replace(kind, start=tagged + kind.start)
    return kind


def _by_magic(path: Path, head: bytes) -> Kind | None:
    _refuse_text(head)
    if is_animated_png(head):
        return Kind("apng", "APNG")
    if head.startswith(b"\xff\xd8\xff") and _is_jpeg_sequence(path):
        return Kind("mjpeg", "Motion JPEG")
    _refuse_still(head)
    for offset, magic, kind in _MEDIA:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return _TS if transport_packet_bytes(head) else None


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


def is_animated_png(head: bytes) -> bool:
    """By the first 4 KiB of a file: the chunk stands before the first image (W3C PNG, 5.6)."""
    return head.startswith(b"\x89PNG") and b"acTL" in head


def is_animated_webp(head: bytes) -> bool:
    """By the first bytes of a file."""
    return head[8:16] == b"WEBPVP8X" and any(flag & _WEBP_ANIMATION for flag in head[20:21])


def _refuse_still(head: bytes) -> None:
    if is_animated_webp(head):
        raise TaskError(
            ErrorCode.unsupported_media,
            "the input is an animated WebP, which this task does not decode; make a video of it"
            ' with render, command_args ["-i", "in.webp", "out.mp4"]',
        )
    for offset, magic, name in _STILLS:
        if head[offset : offset + len(magic)] == magic:
            raise TaskError(
                ErrorCode.unsupported_media,
                f"the input is a still picture ({name}), not a video or audio",
            )


def transport_packet_bytes(head: bytes) -> int:
    """Size of a transport stream's packets by the first bytes of it; 0 for anything else."""
    return next((size for offset, size in _TS_PACKET_BYTES if _repeats(head, offset, size)), 0)


def _repeats(head: bytes, offset: int, size: int) -> bool:
    offsets = range(offset, min(len(head), offset + 8 * size), size)
    return len(offsets) >= 3 and all(head[at] == _TS_SYNC[0] for at in offsets)


def _inside(file: BinaryIO, start: int) -> Kind | None:
    """What starts in the middle of a frame or packet: audio without a container, or a broadcast."""
    file.seek(start)
    data = file.read(2 * SEARCHED_BYTES)
    found = first_frame(data)
    if found:
        return Kind(found[1], _RAW_AUDIO[found[1]], found[0])
    pack = data.find(_PACK)
    if 0 <= pack < data.rfind(_PACK):
        return replace(_PS, start=pack)
    sync = data.find(_TS_SYNC)
    while 0 <= sync < SEARCHED_BYTES:
        for ahead, size in _TS_PACKET_BYTES:
            if sync >= ahead and _repeats(data, sync, size):
                return replace(_TS, start=sync - ahead)
        sync = data.find(_TS_SYNC, sync + 1)
    return None


def _audio_frames(head: bytes) -> Kind:
    """A file of a frame or two: MPEG audio and ADTS have no magic but an 11- or 12-bit sync
    word."""
    if head[0] == 0xFF and len(head) > 1:
        if head[1] & 0xF6 == 0xF0:
            return Kind("aac", "AAC")
        if head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
            return Kind("mp3", "MP3")
    raise TaskError(
        ErrorCode.not_media,
        "the input does not begin like a video or audio file; send MP4, MOV, Matroska, WebM, AVI,"
        " MPEG-TS, MXF, WMV, FLV or GIF",
    )


def _is_jpeg_sequence(path: Path) -> bool:
    """Whether one JPEG image follows right after another. A camera's photo with a second one
    behind it says so in its head (CIPA DC-007, `MPF`), and is no video."""
    with path.open("rb") as file:
        data = file.read(_MAX_JPEG_BYTES)
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xDA:  # the samples, in which a 0xff is followed by no marker but these
            end = data.find(b"\xff\xd9\xff\xd8\xff", at)
            return end >= 0 and b"MPF\x00" not in data[:at]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
