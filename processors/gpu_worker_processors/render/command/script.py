"""A command as a tree: options with their checked values, inputs, outputs. Text comes from it,
never into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.graph import Graph
from gpu_worker_processors.render.command.options import Option, Setting
from gpu_worker_processors.render.command.tee import TeeFile
from gpu_worker_processors.render.command.values import InputFile, OutputFile, Sequence


@dataclass(frozen=True)
class Given:
    """An option as the command gives it."""

    option: Option
    specifier: str
    """Which streams: "v", "a:0"; "" for all."""
    value: Setting
    token: int = field(default=-1, compare=False)
    """Index of its word in `command_args`; -1 for one that the worker adds."""

    @property
    def name(self) -> str:
        return self.option.name

    @property
    def plain(self) -> str:
        """The value as text, "" without one. Not for graphs."""
        return self.value.text(str) if self.value is not None else ""

    @property
    def is_of_video(self) -> bool:
        return self.specifier[:1] in ("", "v", "V")

    def words(self, file: Callable[[str], str]) -> tuple[str, ...]:
        name = f"-{self.name}:{self.specifier}" if self.specifier else f"-{self.name}"
        return (name,) if self.value is None else (name, self.value.text(file))


@dataclass(frozen=True)
class Input:
    """A file or a generated source, with the options before it."""

    source: InputFile | Sequence | Graph
    settings: tuple[Given, ...] = ()
    """Without `-f`: what a file is, the worker finds out."""
    token: int = field(default=-1, compare=False)
    stated: Given | None = field(default=None, compare=False)
    """The `-f` that says what the file is; it must be right."""

    def words(self, file: Callable[[str], str]) -> Iterator[str]:
        if isinstance(self.source, Graph):
            yield from ("-f", "lavfi")
        for given in self.settings:
            yield from given.words(file)
        yield from ("-i", self.source.text(file))


@dataclass(frozen=True)
class Script:
    """A whole command."""

    common: tuple[Given, ...]
    """Options of the whole command, the complex graphs among them."""
    inputs: tuple[Input, ...]
    settings: tuple[Given, ...]
    """Of the output, without `-f`."""
    muxer: str
    """A key of `formats.MUXERS`."""
    output: str
    """The output file's name."""
    tee: tuple[TeeFile, ...] = ()
    """The files of `-f tee`."""
    earlier: tuple[Script, ...] = ()
    """The same command with each output before this one."""

    @property
    def outputs(self) -> tuple[Script, ...]:
        """The command once for each output, in order."""
        return (*self.earlier, dataclasses.replace(self, earlier=()))

    @property
    def given(self) -> Iterator[Given]:
        """All options but those of inputs."""
        yield from self.common
        for one in self.outputs:
            yield from one.settings

    @property
    def writes_file(self) -> bool:
        """Whether the output is a file at all."""
        return self.muxer != "null"

    @property
    def is_many(self) -> bool:
        """Whether it writes several files: segments and their list, images by number."""
        return formats.MUXERS[self.muxer].is_many or (
            formats.MUXERS[self.muxer].still and "%" in self.output
        )

    @property
    def graphs(self) -> Iterator[Graph]:
        """Every graph: complex ones, those of single streams, and sources."""
        for given in self.given:
            if isinstance(given.value, Graph):
                yield given.value
        yield from (item.source for item in self.inputs if isinstance(item.source, Graph))

    @property
    def files(self) -> Iterator[InputFile]:
        """Every input that is read, as a stream or by a filter."""
        for item in self.inputs:
            if isinstance(item.source, InputFile):
                yield item.source
            elif isinstance(item.source, Sequence):
                yield from (InputFile(name, "image") for name in item.source.names)
        yield from (given.value for given in self.given if isinstance(given.value, InputFile))
        for graph in self.graphs:
            yield from graph.files

    @property
    def side_files(self) -> tuple[str, ...]:
        """Names of the files that filters write."""
        values = (
            value for graph in self.graphs for item in graph.filters for _, value in item.options
        )
        return tuple(dict.fromkeys(one.name for one in values if isinstance(one, OutputFile)))

    def last(self, name: str) -> Given | None:
        """The output's option of this name that counts: the last one."""
        return next((given for given in reversed(self.settings) if given.name == name), None)

    @property
    def default_video(self) -> str | None:
        """The video encoder that FFmpeg takes when the command names none; None where the container
        holds no video."""
        muxer = formats.MUXERS[self.muxer]
        return (
            formats.IMAGE_ENCODERS.get(self.output.rpartition(".")[2].lower(), "mjpeg")
            if muxer.still
            else muxer.video
        )

    def encoder(self, media: str) -> str | None:
        """The encoder that the command names for "v" or "a" last, be it for all streams; None when
        it names none."""
        named = (
            given.plain
            for given in reversed(self.settings)
            if given.name == "c" and given.specifier[:1] in ("", media)
        )
        return next(named, None)

    def words(self) -> tuple[str, ...]:
        """The command in its canonical form, inputs by their names. Parsed again it gives an equal
        `Script`."""
        before = [word for given in self.common for word in given.words(str)]
        inputs = [word for item in self.inputs for word in item.words(str)]
        after = [word for one in self.outputs for word in one._output_words()]
        return (*before, *inputs, *after)

    def _output_words(self) -> tuple[str, ...]:
        settings = [word for given in self.settings for word in given.words(str)]
        return (*settings, "-f", self.muxer, self.output)
