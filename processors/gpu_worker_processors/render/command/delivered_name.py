"""Whether the suffix under which a command's output is delivered is right: the command chooses what
is written, and the output's URL or path only names it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.command import Command
from gpu_worker_processors.render.command.script import Script

_ONE_FORMAT = (
    {"mp4", "ipod"},
    {"ogg", "ogv", "oga", "opus"},
    {"mpeg", "vob", "dvd", "svcd", "vcd"},
)
"""Muxers of FFmpeg that write one format, with other defaults."""
_KNOWN = formats.MUXER_OF_SUFFIX.keys() | {"zip", "tar", "json"}
"""Suffixes that say what a file is. Of any other, nothing is said."""


def suffix_warnings(command: Command, name: str) -> Iterator[ResultWarning]:
    """`suffix_mismatch` where the name says another format than the one that is written.

    Args:
        name: of the delivered file.
    """
    suffix = _suffix(name)
    if suffix not in _KNOWN:
        return
    written = [one for one in command.script.outputs if one.writes_file]
    if command.is_archive:
        right: Collection[str] = ("zip", "tar")
        cure = "is a ZIP archive of all that the command makes: name the output .zip or .tar"
    elif not command.writes_output:
        right = ("json",)
        cure = "is the command's measurements as JSON: name the output .json"
    else:
        right = _suffixes(written[0]) if written else [_suffix(command.script.side_files[0])]
        what = f".{right[0]}" if right else written[0].muxer
        cure = (
            f"is {what}: the command's last word chooses the container, or its -f. Give that word"
            f" the suffix .{suffix}, or name the output as the command does"
        )
    if suffix not in right:
        message = f"the output's name ends in .{suffix}, and the file {cure}"
        yield ResultWarning(code="suffix_mismatch", message=message)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def _suffixes(one: Script) -> list[str]:
    """Those that are right for an output."""
    muxer, encoder = formats.MUXERS[one.muxer], one.encoder("v") or one.default_video
    if muxer.still and encoder != "copy":
        return [suffix for suffix, name in formats.IMAGE_ENCODERS.items() if name == encoder]
    same = next((muxers for muxers in _ONE_FORMAT if one.muxer in muxers), set[str]())
    aliases = (suffix for name in sorted(same) for suffix in formats.MUXERS[name].suffixes)
    return list(dict.fromkeys((*muxer.suffixes, *aliases)))
