"""Opening a media file with everything that FFmpeg could do beyond reading that one file switched
off.

The demuxer is the one `sniff` chose, only the `file` protocol exists, a MOV may not refer to other
files, decoders outside the table of `decoders` are never opened, and frames above the limit are
refused by FFmpeg before it allocates them. Foreign errors become typed ones here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.decoders import (
    AUDIO_DECODERS,
    SUBTITLE_DECODERS,
    VIDEO_DECODERS,
)
from gpu_worker_processors.media.open_limits import check_tags, limited
from gpu_worker_processors.media.repaired_file import RepairedFile, repaired
from gpu_worker_processors.media.sniff import Kind, sniff
from gpu_worker_processors.media.truncation import has_moov, missing_bytes, mov_boxes


def _options(kind: Kind, limits: Limits, *, decode: bool) -> dict[str, str]:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": kind.demuxer,
        "codec_whitelist": ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS | SUBTITLE_DECODERS))
        if decode
        else "none",
        "max_streams": str(limits.max_streams),
        "max_pixels": str(limits.decoder_max_pixels),
    }
    if kind.demuxer == "mov":
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    return options


def admitted(path: Path, limits: Limits) -> Kind:
    """The container of a file whose header was read within the limits on that.

    Raises:
        TaskError: as `sniff` and `opened`.
    """
    kind = sniff(path)
    with opened(path, kind, limits, decode=False) as container:
        check_tags(tags_of(container))
    return kind


def tags_of(container: InputContainer) -> int:
    """How many tags the file and its streams have."""
    return sum(len(owner.metadata) for owner in (container, *container.streams))


@contextmanager
def opened(
    path: Path, kind: Kind, limits: Limits, *, decode: bool = True
) -> Generator[InputContainer]:
    """The container, opened and its streams analysed; closed at the end of the block. Without
    `decode` no decoder is opened: sizes are what headers declare. An opening that takes too long,
    or without `decode` too much memory, ends this process: see `open_limits`.

    Raises:
        TaskError: `corrupt_media`, `no_frames` (a header and nothing else), `media_limit` (too many
            streams).
    """
    file = repaired(path, kind)
    with file or nullcontext():
        # Decoded frames take memory too, as much as the size of the frame allows.
        with limited(limits, memory=not decode):
            _check_whole(path, kind, limits)
            container = _open(path, file, kind, limits, decode=decode)
        with container:
            if file is None and limits.on_damage == "fail":
                _refuse_cut_off(samples_beyond_end(path, kind, container))
            yield container


def _check_whole(path: Path, kind: Kind, limits: Limits) -> None:
    if limits.on_damage == "fail":
        _refuse_cut_off(missing_bytes(path, kind))


def _refuse_cut_off(missing: int) -> None:
    if missing:
        raise TaskError(
            ErrorCode.corrupt_media,
            f"the file is cut off: at least {missing} bytes are missing at its end; upload it"
            " again",
            missing_bytes=missing,
        )


def samples_beyond_end(path: Path, kind: Kind, container: InputContainer) -> int:
    """Bytes of samples that the index of an ISO media file names beyond the file's end, up to its
    first fragment."""
    size = path.stat().st_size
    if kind.demuxer != "mov" or all(at + length <= size for _, at, length in mov_boxes(path)):
        return 0
    entries = (entry for stream in container.streams for entry in stream.index_entries)
    return max(0, max((entry.pos + entry.size for entry in entries), default=0) - size)


def _open(
    path: Path, file: RepairedFile | None, kind: Kind, limits: Limits, *, decode: bool
) -> InputContainer:
    try:
        return av.open(
            file or f"file:{path}",
            "r",
            format=kind.demuxer,
            options=_options(kind, limits, decode=decode),
            metadata_errors="replace",
        )
    except FFmpegError as error:
        _raise_open_error(error, path, kind, limits)


def _raise_open_error(error: FFmpegError, path: Path, kind: Kind, limits: Limits) -> NoReturn:
    if isinstance(error, MemoryError):
        # FFmpeg reports its stream limit as "out of memory"; asking again would not help, so it is
        # never gpu_oom-like.
        raise TaskError(
            ErrorCode.media_limit,
            f"the file has more than {limits.max_streams} streams",
            limit=limits.max_streams,
        ) from error
    if isinstance(error, EOFError):
        raise TaskError(
            ErrorCode.no_frames,
            f"the {kind.name} file ends right after its header: it holds no frame",
        ) from error
    if kind.demuxer == "mov" and not has_moov(path):
        raise TaskError(
            ErrorCode.corrupt_media,
            "the MP4/MOV file has no index (moov box): the recording or the upload broke off before"
            " its end",
        ) from error
    raise TaskError(
        ErrorCode.corrupt_media, f"the {kind.name} file cannot be parsed: its structure is damaged"
    ) from error


def corrupt(where: str) -> TaskError:
    """The error of a file whose decode broke midway; nothing made from it may be delivered."""
    return TaskError(
        ErrorCode.corrupt_media,
        f"the video is damaged: {where}; upload an intact copy or re-encode it",
    )


def check_decoder(stream: VideoStream) -> None:
    """Refuses a decoder outside the list before it is opened.

    Raises:
        TaskError: `unsupported_media` naming the codec.
    """
    context = stream.codec_context
    name = context.name if context is not None else "unknown"  # pyright: ignore[reportUnnecessaryComparison] - None for unknown codecs
    if name not in VIDEO_DECODERS:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"the video codec `{name}` is not supported; re-encode to H.264, HEVC, AV1, VP9 or"
            " ProRes",
            codec=name,
        )
