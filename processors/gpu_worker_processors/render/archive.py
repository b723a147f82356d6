"""Several files as one: a playlist and its segments, images by number, come out as a ZIP archive,
or as a tar where the output's name ends in .tar. Nothing is compressed twice."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.render.check import Output
from gpu_worker_processors.render.progress import Report

MAX_FILES = 20_000
"""In one archive: an image of every frame of ten minutes."""
_PLAYLIST = ".m3u8"


def check_growth(folder: Path, limits: Limits) -> None:
    """Called while FFmpeg writes.

    Raises:
        TaskError: `output_too_large`.
    """
    count = size = 0
    for path in _files(folder):
        count += 1
        size += path.lstat().st_size
    if count > MAX_FILES:
        raise TaskError(
            ErrorCode.output_too_large, f"the command makes more than {MAX_FILES} files"
        )
    if size > limits.max_output_bytes:
        raise TaskError(
            ErrorCode.output_too_large, "the outputs together exceed this worker's size limit"
        )


def pack(folder: Path, output: Path, written: Report) -> Output:
    """Moves all files of a folder into an archive.

    Args:
        written: FFmpeg's last report.

    Raises:
        TaskError: `output_invalid`: a file is empty, or a playlist names one that is not there.
    """
    files = sorted(_files(folder))
    if not files:
        _fail("the command made no file")
    for path in files:
        if not path.lstat().st_size:
            _fail(f"{path.name} is empty")
        if path.suffix == _PLAYLIST:
            _check_playlist(path)
    names = [str(path.relative_to(folder)) for path in files]
    if output.suffix.lower() == ".tar":
        with tarfile.open(output, "w") as tar:
            for path, name in zip(files, names, strict=True):
                tar.add(path, name, filter=_without_owner)
                path.unlink()
    else:
        with zipfile.ZipFile(output, "w", strict_timestamps=False) as archive:
            for path, name in zip(files, names, strict=True):
                archive.write(path, name)
                path.unlink()
    return Output(
        written.seconds, written.frames, written.has_video, has_audio=False, video_codec=None
    )


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def _check_playlist(path: Path) -> None:
    for line in path.read_text("utf-8", "replace").splitlines():
        if line and not line.startswith("#") and not _is_made(path.parent / line):
            _fail(f"{path.name} names a file that was not made")


def _is_made(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is longer than the system takes
        return False


def _without_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _fail(what: str) -> None:
    raise TaskError(ErrorCode.output_invalid, f"the rendered files are not right: {what}")
