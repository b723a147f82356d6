"""The words of a command to a `Script`: options found in the table, values read by their kind, the
whole checked for sense."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.base import is_file_name
from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.errors import Denied, at_token, no_input, shown
from gpu_worker_processors.render.command.graph import parse_graph
from gpu_worker_processors.render.command.legacy import (
    OF_OUTPUT_ANYWHERE,
    modern_value,
    with_async,
)
from gpu_worker_processors.render.command.options import (
    OPTIONS,
    Option,
    Scope,
    Setting,
    find_option,
    is_option,
)
from gpu_worker_processors.render.command.script import Given, Input, Script
from gpu_worker_processors.render.command.sequence import find_sequence
from gpu_worker_processors.render.command.tee import read_tee
from gpu_worker_processors.render.command.values import InputFile
from gpu_worker_processors.render.command.whole_command import check_sense

MAX_INPUTS = 32
MAX_OUTPUTS = 16
MAX_WORDS = 512
MAX_CHARS = 32 * 1024
"""Of all words together; the wire allows no more either."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""All control characters but tab and line feed, as on the wire."""
_NUMBERED = re.compile(r"([A-Za-z0-9_.-]{0,100})%(?:0([1-9]))?[dv]([A-Za-z0-9_.-]{1,100})")
"""A name with the number of a file or of a variant in it."""
_VARIANTS = re.compile(r"[A-Za-z0-9_-]{0,64}%v/[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}\.m3u8")
"""A playlist in a folder of its own for each variant: "v%v/index.m3u8"."""
_FROM_FILE = re.compile(
    r"/(?P<option>[a-z].*)|(?P<old>filter_complex_script|filter_script(?::.*)?)"
)
"""An option whose value is in a file, as FFmpeg 7 writes it and as those before did."""
_NOWHERE = frozenset({"/dev/null", "NUL", "nul"})
_STDOUT = frozenset({"-", "pipe:", "pipe:1"})
_LEFT_TO_WORKER = frozenset({("hwaccel", "auto"), ("hwaccel", "none")})
"""What to decode on is then nobody's business but the worker's: frames are the same."""
_FLAGS = frozenset(option.name for option in OPTIONS if not option.takes_value)


def parse_command(
    args: Sequence[str],
    names: Collection[str],
    output_filename: str | None = None,
    read_text: Callable[[str], str] | None = None,
) -> Script:
    """Reads a command.

    Args:
        args: what follows `ffmpeg`: options, inputs, the last output last.
        names: of the task's inputs.
        output_filename: what the last word must be; None: any file name that is no input's.
        read_text: the text in an input, for an option whose value is in a file (`-/vf graph.txt`);
            None: no such options.

    Raises:
        TaskError: `ffmpeg_arg_denied`; `token_index` in its details is the word's position,
            `nearest` an allowed name like it.
    """
    if len(args) > MAX_WORDS or sum(map(len, args)) > MAX_CHARS:
        raise TaskError(
            ErrorCode.invalid_task,
            f"a command may have {MAX_WORDS} words of {MAX_CHARS} characters in all",
        )
    reader = _Reader(names, read_text)
    index = 0
    while index < len(args) - 1:
        with at_token(index):
            index += reader.read(args, index)
    with at_token(max(index, 0)):
        if index >= len(args):
            raise Denied("the output file must be the last word")
        script = reader.finish(args[index], index, output_filename)
    check_sense(script, output_token=index)
    return script


@dataclass(frozen=True)
class _Word:
    """An option before it is known what it belongs to."""

    name: str
    value: str | None
    token: int


class _Reader:
    """Collects options until an `-i` or the end says whose they are."""

    def __init__(self, names: Collection[str], read_text: Callable[[str], str] | None) -> None:
        self._names = names
        self._read_text = read_text
        self._pending: list[_Word] = []
        self._common: list[Given] = []
        self._inputs: list[Input] = []
        self._outputs: list[Script] = []
        """Without what they have in common."""
        self._for_output: list[_Word] = []
        """Options of the output that older versions of FFmpeg took at any position."""

    def read(self, args: Sequence[str], index: int) -> int:
        """Reads the option at `index`; returns how many words it had."""
        word = args[index]
        for number, text in enumerate(args[index : index + 2]):
            if _CONTROL.search(text):
                with at_token(index + number):
                    raise Denied("a control character")
        if index == 0 and word == "ffmpeg":
            raise Denied("the command begins after the word ffmpeg; leave it out")
        if not word.startswith("-") or word in _STDOUT:
            self._outputs.append(self._output(word, index, None))
            return 1
        if " " in word:
            raise Denied(
                "an option with a space in it; each word is an item of its own, as a shell would"
                " split them"
            )
        name = word[1:]
        from_file = _FROM_FILE.fullmatch(name)
        if from_file is not None and self._read_text is not None:
            name = from_file["option"] or from_file["old"].replace("_script", "")
        if name.partition(":")[0] in _FLAGS:
            self._pending.append(_Word(name, None, index))
            return 1
        if name != "i":
            find_option_anywhere(name)
        if index + 1 >= len(args) - 1:
            raise Denied(f"-{name} needs a value, and the output file must follow")
        value = args[index + 1]
        if from_file is not None and self._read_text is not None:
            with at_token(index + 1):
                value = self._text_of(value)
        if name == "i":
            self._inputs.append(self._input(value, index))
        else:
            self._pending.append(_Word(name, value, index))
        return 2

    def _text_of(self, name: str) -> str:
        """What is in an input that holds an option's value."""
        assert self._read_text is not None, "the caller has looked"
        if name not in self._names:
            raise no_input(name, self._names)
        text = self._read_text(name)
        if _CONTROL.search(text):
            raise Denied("a control character in the file")
        return text

    def _input(self, source: str, index: int) -> Input:
        if len(self._inputs) == MAX_INPUTS:
            raise Denied(f"a command may have {MAX_INPUTS} inputs")
        settings = self._settle(before_input=True)
        stated = next((given for given in reversed(settings) if given.name == "f"), None)
        rest = tuple(given for given in settings if given.name != "f")
        with at_token(index + 1):
            if stated is not None and stated.plain == "lavfi":
                return Input(parse_graph(source, self._names), rest, index)
            sequence = find_sequence(source, settings, self._names)
            rest = tuple(given for given in rest if given.name != "pattern_type")
            if sequence is not None:
                return Input(sequence, rest, index, stated)
            if source not in self._names:
                known = ", ".join(sorted(self._names)) or "none"
                raise Denied(
                    f"an input is one of the task's own, by its name: {known}", source, self._names
                )
        return Input(InputFile(source, "stream"), rest, index, stated)

    def _settle(self, before_input: bool) -> list[Given]:
        """The pending options, now that it is known whether an input follows; those of the whole
        command are put aside."""
        settled: list[Given] = []
        for word in self._pending:
            if before_input and word.name in OF_OUTPUT_ANYWHERE:
                self._for_output.append(word)
                continue
            with at_token(word.token):
                option, specifier = find_option(word.name, before_input)
                if (option.name, word.value) in _LEFT_TO_WORKER:
                    continue
                given = Given(option, specifier, None, word.token)
            if word.value is not None:
                with at_token(word.token + 1):
                    value = _read(option, word.name, word.value, self._names)
                    given = Given(option, specifier, value, word.token)
            if option.scope is not Scope.IGNORED:
                (self._common if option.scope is Scope.GLOBAL else settled).append(given)
        self._pending.clear()
        return settled

    def finish(self, output: str, token: int, output_filename: str | None) -> Script:
        """The whole command, its last word being an output."""
        last = self._output(output, token, output_filename)
        *earlier, script = (
            dataclasses.replace(one, common=tuple(self._common), inputs=tuple(self._inputs))
            for one in (*self._outputs, last)
        )
        return dataclasses.replace(script, earlier=tuple(earlier))

    def _output(self, output: str, token: int, output_filename: str | None) -> Script:
        if len(self._outputs) == MAX_OUTPUTS:
            raise Denied(f"a command may have {MAX_OUTPUTS} outputs")
        self._pending = [*self._for_output, *self._pending]
        settings = self._settle(before_input=False)
        stated = next((given.plain for given in reversed(settings) if given.name == "f"), None)
        rest = with_async([given for given in settings if given.name != "f"])
        with at_token(token):
            if stated == "tee":
                tee = read_tee(output, self._names)
                return Script((), (), rest, "tee", "|".join(one.text("") for one in tee), tee)
            if output in _NOWHERE or (output in _STDOUT and stated == "null"):
                return Script((), (), rest, "null", "-")
            # FFmpeg's standard output is the output file here.
            output = f"output.{stated}" if output in _STDOUT and stated else output
            self._check_name(output, output_filename)
            muxer = _muxer(settings, output)
            if "%" in output and not (formats.MUXERS[muxer].still or formats.MUXERS[muxer].is_many):
                raise Denied("only images and segments have numbers in their names")
        return Script((), (), rest, muxer, output)

    def _check_name(self, output: str, output_filename: str | None) -> None:
        if not is_file_name(output) and not any(
            form.fullmatch(output) for form in (_NUMBERED, _VARIANTS)
        ):
            raise Denied(
                "a word that belongs to no option must be an output file's name: no path, no URL"
            )
        if output in self._names:
            raise Denied("the output has the name of an input; give -i before an input")
        if any(output == one.output for one in self._outputs):
            raise Denied("two outputs have one name")
        if output_filename is not None and output != output_filename:
            raise Denied(
                "the last word must be the task's output_filename", output, [output_filename]
            )


def _read(option: Option, name: str, text: str, names: Collection[str]) -> Setting:
    try:
        return option.read(modern_value(name, text), names)
    except Denied as denied:
        raise denied.within(f"-{name}") from None


def find_option_anywhere(name: str) -> None:
    """Refuses at once a name that is unknown at any position, so that the word itself is blamed and
    not the one after it."""
    try:
        find_option(name, before_input=False)
    except Denied:
        if is_option(name, before_input=False) and not is_option(name, before_input=True):
            raise
        find_option(name, before_input=True)


def _muxer(settings: Sequence[Given], output: str) -> str:
    target = next((given.plain for given in settings if given.name == "target"), None)
    if target is not None:
        return "dv" if target.rpartition("-")[2] == "dv50" else target.rpartition("-")[2]
    stated = next((given for given in reversed(settings) if given.name == "f"), None)
    if stated is not None:
        with at_token(stated.token + 1):
            if stated.plain not in formats.MUXERS:
                raise Denied(
                    f"the container {shown(stated.plain)} can be read, not written",
                    stated.plain,
                    formats.MUXERS,
                )
        return stated.plain
    suffix = output.rpartition(".")[2].lower() if "." in output else ""
    if "%" in output and suffix in formats.IMAGE_ENCODERS:
        return "image2"
    if suffix not in formats.MUXER_OF_SUFFIX:
        known = ", ".join(sorted(formats.MUXER_OF_SUFFIX))
        raise Denied(
            f"the output's name must end in one of {known}{formats.why_not(suffix)}",
            suffix,
            formats.MUXER_OF_SUFFIX,
        )
    return formats.MUXER_OF_SUFFIX[suffix]
