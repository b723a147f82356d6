"""The output of `-f tee`: the files that one encoding goes to, "[f=mpegts]live.ts|a.mp4"."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.errors import Denied, shown
from gpu_worker_processors.render.command.options import STREAM, Scope, find_option
from gpu_worker_processors.render.command.values import Text

MAX_FILES = 16
_FILE = re.compile(r"(?:\[(?P<options>[^][|\\']*)\])?(?P<name>[^][|\\']+)")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_PLAIN = re.compile(r"[A-Za-z0-9_.+,-]{1,128}")
"""A value that needs no quoting."""
_OWN = {
    "select": re.compile(rf"{STREAM}(?:,{STREAM}){{0,31}}"),
    "onfail": re.compile(r"abort"),
}
"""Options of tee itself. A file that fails is never left out in silence: no onfail=ignore."""


@dataclass(frozen=True)
class TeeFile:
    """One of the files."""

    name: str
    muxer: str
    options: tuple[tuple[str, str], ...] = ()

    def text(self, folder: str) -> str:
        """As the muxer reads it; `folder` ends in a slash, or is empty."""
        options = ":".join(f"{key}={value}" for key, value in (("f", self.muxer), *self.options))
        return f"[{options}]{folder}{self.name}"

    @property
    def is_checked(self) -> bool:
        muxer = formats.MUXERS[self.muxer]
        return muxer.is_checked and not muxer.is_many  # a playlist is no media file


def read_tee(text: str, names: Collection[str]) -> tuple[TeeFile, ...]:
    """
    Args:
        names: of the task's inputs.

    Raises:
        Denied: a file has a path or an input's name, or an option that is not in the table.
    """
    parts = text.split("|")
    if len(parts) > MAX_FILES:
        raise Denied(f"tee may write {MAX_FILES} files")
    files = tuple(_file(part.strip(), names) for part in parts)
    if len({file.name for file in files}) < len(files):
        raise Denied("two outputs have one name")
    return files


def _file(text: str, names: Collection[str]) -> TeeFile:
    found = _FILE.fullmatch(text)
    name = found["name"].strip() if found else ""
    if found is None or not _NAME.fullmatch(name) or name in names:
        raise Denied(
            "tee takes names of files with | between them, options in brackets before each: no"
            " path, no URL, no name of an input"
        )
    options = dict(_option(pair, names) for pair in (found["options"] or "").split(":") if pair)
    muxer = options.pop("f", None) or formats.MUXER_OF_SUFFIX.get(name.rpartition(".")[2].lower())
    if muxer is None:
        raise Denied(f"give {shown(name)} its container, as in [f=mpegts]{{name}}")
    return TeeFile(name, muxer, tuple(options.items()))


def _option(pair: str, names: Collection[str]) -> tuple[str, str]:
    key, _, value = pair.partition("=")
    if key in _OWN:
        if not _OWN[key].fullmatch(value):
            raise Denied(f"in tee: {key} must be like \"select='a:0'\" without quotes, or abort")
        return key, value
    if key == "f":
        if value not in formats.MUXERS or value in formats.NOT_INSIDE:
            raise Denied(f"in tee: the container {shown(value)} is not allowed", value)
        return key, value
    option, specifier = find_option(key, before_input=False)
    read = option.read(value, names) if option.scope is Scope.OUTPUT and not specifier else None
    if not isinstance(read, Text) or not _PLAIN.fullmatch(read.content) or option.per_stream:
        raise Denied(f"in tee: the option {shown(key)} is not allowed")
    return key, read.content
