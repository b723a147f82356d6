"""Commands for the `render` task: one that encodes on the graphics card, and those that another
package has built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import PurePath
from typing import Any, Protocol, TypeVar, cast

from gpu_worker_client.protocol.base import CONTAINERS, INDEXED, is_file_name

T = TypeVar("T")

NVENC_CODECS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
_WORKERS_OWN = frozenset({"-y", "-n", "-hide_banner", "-nostdin", "-nostats", "-stats"})


class Compilable(Protocol):
    """An output stream of `ffmpeg-python` or `typed-ffmpeg`."""

    def compile(self) -> object:
        """The whole command as a list of words, the program's name first."""
        ...


def create_nvenc_command(
    input_file: str, output_file: str, bitrate: str = "5M", codec: str = "h264_nvenc"
) -> list[str]:
    """`command_args` that encode one video on the graphics card. Where the worker's card has no
    encoder, libx264, libx265 or libsvtav1 stands in and `stats.fallback_reason` says so.

    Args:
        input_file: a name or a path, of which the name counts: the task's `inputs` must have it.
        output_file: likewise; its suffix chooses the container.
        bitrate: of the video, "5M" or "800k" for example.
        codec: one of `NVENC_CODECS`; ValueError for another.
    """
    if codec not in NVENC_CODECS:
        raise ValueError(f"codec must be one of: {', '.join(NVENC_CODECS)}")
    source, target = PurePath(input_file).name, PurePath(output_file)
    video = ["-c:v", codec, "-preset", "p4", "-rc", "vbr", "-b:v", bitrate]
    words = ["-i", source, *video, "-c:a", "aac", "-b:a", "192k"]
    if CONTAINERS.get(target.suffix.lower()) in INDEXED:
        words += ["-movflags", "+faststart"]
    return [*words, target.name]


def command_args(command: Sequence[str] | Compilable) -> list[str]:
    """The words of a command that follow the program's name: such words already, or a stream of
    `ffmpeg-python` or `typed-ffmpeg` whose files have the names of the task's `inputs`. Raises
    TypeError: it is neither."""
    if isinstance(command, str):
        raise TypeError("the command is one text: give a list of words, as shlex.split makes it")
    if isinstance(command, Sequence):
        return list(command)
    words: Any = command.compile()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TypeError("compile() gave no list of words")
    given = cast("list[str]", words)[1:]
    # `overwrite_output()` and its like write their flag behind the output's name, where FFmpeg
    # takes it and the task does not; the worker sets these itself.
    while given and given[-1] in _WORKERS_OWN:
        given.pop()
    return given


def plainly_named(
    words: Sequence[str], files: Mapping[str, T], output: str
) -> tuple[list[str], dict[str, T]]:
    """A command and its files under names that the task takes: one with a colon, a question mark
    and the like becomes `file-1.mp4`, among the files and where it is a whole word of the command.
    Other names stay. `files` are by the command's names; `output` is its last word."""
    given = dict.fromkeys([*files, output])
    stems = {PurePath(name).stem for name in given}
    free = (f"file-{number}" for number in count(1) if f"file-{number}" not in stems)
    names = {name: name for name in given if is_file_name(name)}
    for name in [name for name in given if name not in names]:
        suffix = PurePath(name).suffix
        names[name] = next(free) + (suffix if is_file_name(f"_{suffix}") else "")
    said = [names[word] if word in files else word for word in words[:-1]]
    last = [names[word] if word == output else word for word in words[-1:]]
    return said + last, {names[name]: file for name, file in files.items()}
