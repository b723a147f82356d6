"""What an input is, by its first bytes: the demuxer is chosen here and forced, so that no file is
taken for a playlist or a script that opens more files. Reads 4 KiB; the name decides nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.sniff import is_animated_png, is_animated_webp, sniff
from gpu_worker_processors.render.command import formats, units
from gpu_worker_processors.render.command.drawn_text import read_drawn_text
from gpu_worker_processors.render.command.errors import Denied, shown
from gpu_worker_processors.render.command.motion_file import check_motion
from gpu_worker_processors.render.fonts import is_font, letters

_HEAD_BYTES = 4096
_TEXT_BYTES = 64 * 1024
_IMAGES = (
    (0, b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (0, b"\xff\xd8\xff", "jpeg_pipe"),
    (8, b"WEBPVP", "webp_pipe"),
    (0, b"BM", "bmp_pipe"),
    (0, b"II*\x00", "tiff_pipe"),
    (0, b"MM\x00*", "tiff_pipe"),
)
"""(offset, bytes there, demuxer)."""
_TEXTS = (
    (re.compile(rb"WEBVTT(?:[ \t\r\n]|\Z)"), "webvtt"),
    (re.compile(rb"\[Script Info\]"), "ass"),
    (re.compile(rb"\s*[0-9]{1,9}[ \t]*\r?\n[0-9:,. ]{8,16}-->"), "srt"),
    (re.compile(rb";FFMETADATA1"), "ffmetadata"),
)
_METADATA_BYTES = 16 * 1024**2
"""Of a file of metadata: a cover image in it takes a few."""
_METADATA_ENTRY = re.compile(rb"(?:^|[\n\r\0])(?!(?:TIMEBASE|START|END)=)[^;#\n\r\0]")
"""A tag, or the head of a section; the times of a chapter are none."""
_LUT_SUFFIXES = (".cube", ".3dl", ".dat", ".m3d", ".csp")
_NAMES = {"mp4": "mov", "webm": "matroska"}
"""Demuxers with several names, by the one that `sniff` gives."""


def demuxer_of(path: Path) -> str:
    """FFmpeg's demuxer for a file: a video, audio, an image or subtitles.

    Raises:
        TaskError: `not_media` or `unsupported_media`, saying what it is.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if is_animated_webp(head):
        return "webp_anim"
    if is_animated_png(head):
        return "apng"
    for offset, magic, demuxer in _IMAGES:
        if head[offset : offset + len(magic)] == magic:
            return demuxer
    text = head.removeprefix(b"\xef\xbb\xbf")
    for form, demuxer in _TEXTS:
        if form.match(text):
            return demuxer
    return sniff(path).demuxer


def check_stated(stated: str, demuxer: str) -> None:
    """Holds what `-f` says against what the file is.

    Raises:
        Denied: it is something else.
    """
    if _NAMES.get(stated, stated) != demuxer:
        raise Denied(f'-f says what the file is not: it is "{demuxer}"; leave -f out')


def check_purpose(path: Path, purpose: str, limits: Limits) -> None:
    """Whether a file is what the filter that reads it expects.

    Args:
        purpose: as `InputFile.purpose` says; "stream" is not for here.

    Raises:
        Denied: it is none of that kind.
        TaskError: `not_media` or `unsupported_media` for subtitles that are none, or a damaged
            font.
    """
    if purpose == "subtitle":
        demuxer_of(path)
    elif purpose == "lut":
        if path.suffix.lower() not in _LUT_SUFFIXES:
            raise Denied(f"a colour table's name must end in one of {', '.join(_LUT_SUFFIXES)}")
    elif purpose == "font":
        if not is_font(path):
            raise Denied("the file is no TrueType or OpenType font")
        letters(path)  # FFmpeg takes another font for a damaged one, and says nothing
    elif purpose == "movie":
        _check_decoders(path, limits)
    elif purpose == "text":
        _check_text(path)
    elif purpose == "motion":
        check_motion(path)
    elif purpose == "rnn":
        with path.open("rb") as file:
            if not file.read(32).startswith(b"rnnoise-nu model file version"):
                raise Denied("the file is no model for arnndn")


def _check_decoders(path: Path, limits: Limits) -> None:
    """What every other input is held to, and not what the filter `movie` reads."""
    import av
    from av.error import FFmpegError

    from gpu_worker_processors.media.open_limits import limited

    options = {"protocol_whitelist": "file", "codec_whitelist": "none"}
    try:
        with limited(limits, memory=True):
            container: Any = av.open(f"file:{path}", format=demuxer_of(path), options=options)
        with container:
            codecs = [stream.codec_context for stream in container.streams if stream.codec_context]
    except FFmpegError:
        raise Denied("the file that the filter reads cannot be opened") from None
    for codec in codecs:
        if codec.name not in formats.DECODERS:
            raise Denied(f"the file has a stream of {shown(codec.name)}, which is not allowed")
        if codec.type == "video" and codec.width * codec.height > units.MAX_PIXELS:
            raise Denied(f"the frames of the file have more than {units.MAX_PIXELS} pixels")


def check_metadata(path: Path) -> None:
    """Holds a file of metadata to the tags that every other input may have.

    Raises:
        TaskError: `media_limit`.
    """
    from gpu_worker_processors.media.open_limits import check_tags

    if path.stat().st_size > _METADATA_BYTES:
        raise TaskError(
            ErrorCode.media_limit,
            f"a file of metadata may have {_METADATA_BYTES} bytes",
            limit=_METADATA_BYTES,
        )
    check_tags(sum(1 for _ in _METADATA_ENTRY.finditer(path.read_bytes())))


def _check_text(path: Path) -> None:
    """FFmpeg expands `%{...}` in the text of a file as in any other."""
    read_drawn_text(read_text(path))


def read_text(path: Path) -> str:
    """
    Raises:
        Denied: the file is too large, or not UTF-8.
    """
    if path.stat().st_size > _TEXT_BYTES:
        raise Denied(f"a text may have {_TEXT_BYTES} bytes")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise Denied("the text is not UTF-8") from None
