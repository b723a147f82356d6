"""Several inputs that are read as one stream: images by number (`img%03d.png`) or by a pattern
(`-pattern_type glob`), files one after another (`concat:a.ts|b.ts`, a list for `-f concat`)."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from collections.abc import Sequence as Words
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from gpu_worker_processors.render.command import units
from gpu_worker_processors.render.command.errors import Denied
from gpu_worker_processors.render.command.quoting import quote, read_quoted
from gpu_worker_processors.render.command.script import Given
from gpu_worker_processors.render.command.sources import demuxer_of
from gpu_worker_processors.render.command.values import Sequence

_NUMBER = re.compile(r"%(?:0([1-9]))?d")
_CONCAT = "concat:"
_DIRECTIVE = re.compile(r"\s*(\w+)\s+(.*?)\s*")
_TIMES = frozenset({"duration", "inpoint", "outpoint"})
_MAX_LIST_BYTES = 1024 * 1024


def find_sequence(source: str, settings: Words[Given], names: Collection[str]) -> Sequence | None:
    """The inputs that a source names together; None for the name of one.

    Raises:
        Denied: it matches none of the inputs, or names one that is not there.
    """
    if source in names:
        return None
    if source.startswith(_CONCAT):
        parts = tuple(source.removeprefix(_CONCAT).split("|"))
        if not set(parts) <= set(names):
            raise Denied("concat: names the task's own inputs, with | between them")
        return Sequence(source, parts)
    if any(given.name == "pattern_type" and given.plain == "glob" for given in settings):
        found = tuple(sorted(name for name in names if fnmatchcase(name, source)))
    elif _NUMBER.search(source) and source.count("%") == 1:
        found = _numbered(source, names)
    else:
        return None
    if not found:
        raise Denied("no input of the task has a name that fits this pattern")
    return Sequence(source, found)


def _numbered(pattern: str, names: Collection[str]) -> tuple[str, ...]:
    number = _NUMBER.search(pattern)
    assert number is not None, "the caller has looked"
    digits = f"[0-9]{{{number[1]},}}" if number[1] else "[0-9]+"
    form = re.compile(
        f"{re.escape(pattern[: number.start()])}({digits}){re.escape(pattern[number.end() :])}"
    )
    found = [(int(match[1]), name) for name in names if (match := form.fullmatch(name))]
    return tuple(name for _, name in sorted(found))


def words_of(sequence: Sequence, paths: Mapping[str, Path]) -> list[str]:
    """`-f` and `-i` of a sequence, with what FFmpeg may open."""
    files = [paths[name] for name in sequence.names]
    if _NUMBER.search(sequence.pattern) and not sequence.pattern.startswith(_CONCAT):
        return ["-f", "image2", "-i", f"file:{_numbered_path(sequence, files)}"]
    demuxers = {demuxer_of(path) for path in files}
    if len(demuxers) != 1:
        raise Denied("these inputs are not all of one kind")
    joined = _CONCAT + "|".join(str(path) for path in files)
    return ["-protocol_whitelist", "concat,file", "-f", demuxers.pop(), "-i", joined]


def _numbered_path(sequence: Sequence, files: Words[Path]) -> Path:
    """The pattern with the folder in which the files lie, and what the worker puts before their
    names."""
    first, name = files[0], sequence.names[0]
    before = first.name.removesuffix(name)
    assert all(
        path == first.with_name(before + own)
        for path, own in zip(files, sequence.names, strict=True)
    ), "the worker gives every input its own name"
    return first.with_name(before + sequence.pattern)


@dataclass(frozen=True)
class FileList:
    """A list for `-f concat`, its files resolved."""

    files: tuple[Path, ...]
    text: str

    def words(self) -> list[str]:
        """`-f` and `-i`. The list stands in the command line; `long_words` writes a long one into a
        file."""
        data = base64.b64encode(self.text.encode()).decode()
        # image2 is what FFmpeg finds by a picture's suffix.
        demuxers = sorted({"concat", "image2", *(demuxer_of(path) for path in self.files)})
        return [
            *("-protocol_whitelist", "file,data", "-format_whitelist", ",".join(demuxers)),
            *("-f", "concat", "-safe", "0", "-i", f"data:text/plain;base64,{data}"),
        ]


def read_list(path: Path, inputs: Mapping[str, Path]) -> FileList:
    """Reads a list of files; each must be an input, by its name or the last part of its path.

    Raises:
        Denied: a line that is none of `file`, `duration`, `inpoint` and `outpoint`, or a file that
            is no input.
    """
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise Denied("a list of files may have 1 MiB")
    lines = ["ffconcat version 1.0"]
    files: list[Path] = []
    for line in path.read_text("utf-8", "replace").splitlines():
        if not line.strip() or line.lstrip().startswith("#") or line.startswith("ffconcat version"):
            continue
        found = _DIRECTIVE.fullmatch(line)
        word, value = (found[1], found[2]) if found else ("", "")
        if word == "file":
            quoted = read_quoted(value, 0, "")[0] if value.startswith("'") else value.strip('"')
            name = quoted.removeprefix("file:").replace("\\", "/").rpartition("/")[2]
            if name not in inputs:
                raise Denied(
                    "the list names a file that is none of the task's inputs", name, inputs
                )
            files.append(inputs[name])
            lines.append(f"file {quote(f'file:{inputs[name]}', '')}")
        elif word in _TIMES and units.seconds(value) is not None:
            lines.append(f"{word} {value}")
        else:
            raise Denied("a list may have lines with file, duration, inpoint and outpoint")
    if not files:
        raise Denied("the list names no file")
    return FileList(tuple(files), "\n".join([*lines, ""]))
