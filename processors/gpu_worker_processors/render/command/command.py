"""A checked command with its real files: what the runner runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.command import formats, units
from gpu_worker_processors.render.command.errors import at_token
from gpu_worker_processors.render.command.graph import Graph
from gpu_worker_processors.render.command.in_software import in_software
from gpu_worker_processors.render.command.options import Scope, find_option
from gpu_worker_processors.render.command.parse import parse_command
from gpu_worker_processors.render.command.script import Given, Input, Script
from gpu_worker_processors.render.command.sources import check_purpose, check_stated, demuxer_of
from gpu_worker_processors.render.command.values import InputFile, Text
from gpu_worker_processors.render.fonts import default_file

_ALWAYS = (
    "-hide_banner",
    "-nostdin",
    "-y",
    "-max_alloc",
    str(2**30),
)
"""Of every command: no single block of memory is larger than 1 GiB."""
_OF_FILES = (
    "-protocol_whitelist",
    "file",
    "-codec_whitelist",
    ",".join(sorted(formats.DECODERS)),
    "-max_streams",
    "64",
    "-max_pixels",
    str(units.MAX_PIXELS),
)
"""Before every file: nothing is opened but a file, nothing decoded but the listed codecs, no bomb
unpacked."""
_EXPANDED = re.compile(r"%\{[^}]*\}|\\")
"""What is not drawn of a drawtext's text."""
_SHARED_WITH_AUDIO = frozenset({"b", "q", "profile"})
"""Options that a video encoder has in common with an audio encoder: they are given with their
`:v`."""


def compile_command(
    command_args: Sequence[str],
    inputs: Mapping[str, Path],
    output_filename: str | None,
    output: Path,
) -> Command:
    """Checks a command and binds its names to files.

    Args:
        command_args: what follows `ffmpeg` on a command line.
        inputs: the task's inputs. A colour table's path must keep the suffix of its name, by which
            FFmpeg derives its kind.
        output_filename: the command's name for the output; None: its last word.
        output: where the file goes.

    Raises:
        TaskError: `ffmpeg_arg_denied` naming the word; `not_media` or `unsupported_media` for an
            input that is none.
    """
    script = parse_command(command_args, inputs.keys(), output_filename)
    demuxers = {
        item.source.name: _demuxer(item, inputs)
        for item in script.inputs
        if isinstance(item.source, InputFile)
    }
    _check_side_files(script, inputs)
    return Command(script, inputs, demuxers, output)


def _demuxer(item: Input, inputs: Mapping[str, Path]) -> str:
    assert isinstance(item.source, InputFile), "a generated source has no file"
    demuxer = demuxer_of(inputs[item.source.name])
    if item.stated is not None:
        with at_token(item.stated.token + 1):
            check_stated(item.stated.plain, demuxer)
    return demuxer


def _check_side_files(script: Script, inputs: Mapping[str, Path]) -> None:
    given_graphs = [(given.token + 1, given.value) for given in (*script.common, *script.settings)]
    input_graphs = [(item.token + 1, item.source) for item in script.inputs]
    for token, graph in (*given_graphs, *input_graphs):
        if isinstance(graph, Graph):
            with at_token(token):
                for file in graph.files:
                    check_purpose(inputs[file.name], file.purpose)


@dataclass(frozen=True)
class Command:
    """A `Rendering` of a caller's command."""

    script: Script
    paths: Mapping[str, Path]
    demuxers: Mapping[str, str]
    """Of every input that is demuxed, by its name."""
    output_path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """All that FFmpeg may read."""
        return tuple(dict.fromkeys(self.paths[file.name] for file in self.script.files))

    @property
    def openings(self) -> int:
        return sum(1 for _ in self.script.files)

    @property
    def video_encoder(self) -> str | None:
        """As the command names it, or the muxer's own; None where the command leaves video out."""
        if self.expected.video is False:
            return None
        return self.script.encoder("v") or self.script.default_video

    @property
    def audio_encoder(self) -> str | None:
        """As `video_encoder`."""
        if self.expected.audio is False:
            return None
        return self.script.encoder("a") or formats.MUXERS[self.script.muxer].audio

    @property
    def video_options(self) -> Mapping[str, str]:
        """The video encoder's options by their canonical names, "b:v" and "preset" for example."""
        return {
            _canonical(given): given.plain
            for given in self.script.settings
            if _is_of_video_encoder(given)
        }

    @property
    def expected(self) -> Expectation:
        """What the command says about its output; what it leaves to its inputs is None."""
        names = {given.name for given in self.script.settings}
        muxer = formats.MUXERS[self.script.muxer]
        frames = self.script.last("frames")
        is_mapped = "map" in names
        return Expectation(
            video=False
            if "vn" in names or self.script.default_video is None
            else self._is_mapped("v")
            if is_mapped
            else None,
            audio=False
            if "an" in names or muxer.audio is None
            else self._is_mapped("a")
            if is_mapped
            else None,
            max_seconds=self._max_seconds(),
            max_frames=int(units.number(frames.plain) or 0)
            if frames and frames.is_of_video
            else None,
            frames=1 if muxer.still else None,
            is_readable=muxer.is_checked,
        )

    @property
    def takes_damage(self) -> bool:
        """Whether the command asks for what can be read of a damaged input."""
        return any(
            (given.name == "err_detect" and "ignore_err" in given.plain)
            or (given.name == "fflags" and "discardcorrupt" in given.plain)
            for item in self.script.inputs
            for given in item.settings
        )

    @property
    def _has_streams(self) -> bool:
        """Whether the container holds any; one of pure metadata does not."""
        muxer = formats.MUXERS[self.script.muxer]
        return muxer.still or bool(muxer.video or muxer.audio or muxer.subtitle)

    def _is_mapped(self, media: str) -> bool | None:
        """True where a stream of this kind is mapped that must be there; None where only the inputs
        can decide."""
        maps = [given.plain for given in self.script.settings if given.name == "map"]
        if any(text.startswith("-") for text in maps):
            return None
        required = [text for text in maps if not text.startswith("[") and not text.endswith("?")]
        return True if any(f":{media}" in text for text in required) else None

    def _max_seconds(self) -> float | None:
        limits = [
            units.seconds(given.plain)
            for given in self.script.settings
            if given.name in ("t", "to")
        ]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def drawn_texts(self) -> Iterator[tuple[str, Path]]:
        """What `drawtext` writes in the default font or one of the inputs."""
        for item in (item for graph in self.script.graphs for item in graph.filters):
            text, font = item.option("text"), item.option("fontfile")
            default = default_file() if item.option("font") is None else None
            file = self.paths[font.name] if isinstance(font, InputFile) else default
            if item.name == "drawtext" and text is not None and file is not None:
                yield _EXPANDED.sub("", text.text(str)), file

    @property
    def uses_gpu(self) -> bool:
        """Whether decoding or a filter runs on the card."""
        options = (
            given.plain
            for item in self.script.inputs
            for given in item.settings
            if given.name in ("hwaccel", "c")
        )
        filters = (item.name for graph in self.script.graphs for item in graph.filters)
        return any(
            word in ("cuda", "cuvid", "nvdec") or word.endswith(("_cuvid", "_cuda"))
            for word in (*options, *filters)
        )

    def in_software(self) -> Command:
        """The same command without decoders and filters of the card."""
        return dataclasses.replace(self, script=in_software(self.script))

    def with_encoder(self, name: str, options: Mapping[str, str]) -> Command:
        """The same command with another video encoder.

        Args:
            name: FFmpeg's name of it.
            options: instead of all of `video_options`, by the same names.
        """
        settings = [given for given in self.script.settings if not _is_of_video_encoder(given)]
        settings = [
            given
            for given in settings
            if given.name != "c" or given.specifier[:1] not in ("v", "V")
        ]
        added = [_given("c:v", name), *(_given(key, value) for key, value in options.items())]
        return dataclasses.replace(
            self, script=dataclasses.replace(self.script, settings=(*settings, *added))
        )

    def argv(self) -> tuple[str, ...]:
        """What follows the executable's name, real paths instead of names."""
        words = [
            *_ALWAYS,
            *([] if self.takes_damage else ["-xerror"]),
            *(["-abort_on", "empty_output"] if self._has_streams else []),
            *(word for given in self.script.common for word in given.words(self._path)),
        ]
        for item in self.script.inputs:
            words += self._input(item)
        words += [word for given in self.script.settings for word in given.words(self._path)]
        words += ["-f", self.script.muxer]
        if formats.MUXERS[self.script.muxer].still:
            words += [] if self.script.encoder("v") else ["-c:v", str(self.script.default_video)]
        return (*words, "-protocol_whitelist", "file", f"file:{self.output_path}")

    def _input(self, item: Input) -> list[str]:
        if isinstance(item.source, Graph):
            return list(item.words(self._path))
        settings = [word for given in item.settings for word in given.words(self._path)]
        return [
            *_OF_FILES,
            "-f",
            self.demuxers[item.source.name],
            *settings,
            "-i",
            f"file:{self._path(item.source.name)}",
        ]

    def _path(self, name: str) -> str:
        return str(self.paths[name])


def _is_of_video_encoder(given: Given) -> bool:
    return given.option.scope is Scope.VIDEO and given.is_of_video


def _canonical(given: Given) -> str:
    return f"{given.name}:v" if given.name in _SHARED_WITH_AUDIO else given.name


def _given(key: str, value: str) -> Given:
    option, specifier = find_option(key, before_input=False)
    return Given(option, specifier, Text(value))
