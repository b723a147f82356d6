"""A checked command with its real files: what the runner runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Words
from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker_processors.render import measure
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.command import formats, units
from gpu_worker_processors.render.command.errors import at_token
from gpu_worker_processors.render.command.graph import Filter, Graph
from gpu_worker_processors.render.command.in_software import in_software
from gpu_worker_processors.render.command.options import Scope, find_option
from gpu_worker_processors.render.command.promises import promised
from gpu_worker_processors.render.command.script import Given, Input, Script
from gpu_worker_processors.render.command.sequence import FileList, words_of
from gpu_worker_processors.render.command.size_limits import limited
from gpu_worker_processors.render.command.sources import read_text
from gpu_worker_processors.render.command.values import InputFile, Sequence, Text
from gpu_worker_processors.render.command.whole_command import READERS
from gpu_worker_processors.render.glyphs import DrawnText, in_any_font, in_family

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
"""What is not drawn of a drawtext's text as it is; only the format of a date has other letters."""
_ASCII = re.compile(r"[\x00-\x7f]")
_SHARED_WITH_AUDIO = frozenset({"b", "q", "profile"})
"""Options that a video encoder has in common with an audio encoder: they are given with their
`:v`."""


@dataclass(frozen=True)
class Command:
    """A `Rendering` of a caller's command."""

    script: Script
    paths: Mapping[str, Path]
    demuxers: Mapping[str, str]
    """Of every input that is demuxed, by its name."""
    output_path: Path
    lists: Mapping[str, FileList] = field(default_factory=dict[str, FileList])
    """Lists of files by their names in `inputs`."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that FFmpeg may read."""
        listed = (path for files in self.lists.values() for path in files.files)
        named = (self.paths[file.name] for file in self.script.files)
        return tuple(dict.fromkeys((*named, *listed)))

    @property
    def streams(self) -> tuple[Path, ...]:
        names = [name for name, demuxer in self.demuxers.items() if demuxer not in formats.RAW]
        for item in self.script.inputs:
            names += item.source.names if isinstance(item.source, Sequence) else ()
        listed = (path for files in self.lists.values() for path in files.files)
        return tuple(dict.fromkeys((*(self.paths[name] for name in names), *listed)))

    @property
    def openings(self) -> int:
        return sum(1 for _ in self.script.files) + sum(
            len(one.files) for one in self.lists.values()
        )

    @property
    def folder(self) -> Path | None:
        return self._folder if self.is_archive or self._pass else None

    @property
    def _folder(self) -> Path:
        return self.output_path.with_name("made")

    @property
    def is_archive(self) -> bool:
        written = [one for one in self.script.outputs if one.writes_file]
        count = len(written) + len(self.script.side_files)
        return count > 1 or any(one.is_many for one in written)

    @property
    def writes_output(self) -> bool:
        return bool(self.script.side_files) or any(one.writes_file for one in self.script.outputs)

    @property
    def measures(self) -> bool:
        return not self.writes_output or any(
            item.name in measure.FILTERS for graph in self.script.graphs for item in graph.filters
        )

    @property
    def _pass(self) -> int:
        """1 or 2 of an encoding in two passes; 0 of any other."""
        given = self.script.last("pass")
        own = self.script.last("x265-params")
        found = _X265_PASS.search(own.plain) if own is not None else None
        return int(given.plain) if given is not None else int(found[1]) if found else 0

    @property
    def parts(self) -> tuple[Command, ...]:
        outputs = self.script.outputs
        if not self.is_archive:
            return tuple(dataclasses.replace(self, script=one) for one in outputs)
        return tuple(
            dataclasses.replace(self, script=one, output_path=self._folder / one.output)
            for one in outputs
        )

    def with_parts(self, parts: Words[Command]) -> Command:
        *earlier, last = (part.script for part in parts)
        return dataclasses.replace(self, script=dataclasses.replace(last, earlier=tuple(earlier)))

    @property
    def first_pass(self) -> Command | None:
        """The pass that a second one needs. Both run in one job: no file lies between two jobs."""
        if self._pass != 2 or self.script.muxer == "null":
            return None
        settings = tuple(_of_first_pass(given) for given in self.script.settings)
        script = dataclasses.replace(self.script, settings=settings, muxer="null", output="-")
        return dataclasses.replace(
            self, script=script, output_path=self.output_path.with_name("first-pass")
        )

    @property
    def video_encoder(self) -> str | None:
        """As the command names it, or the muxer's own; None where the command leaves video out."""
        if self.expected.video is False or not self.script.writes_file:
            return self.script.encoder("v")
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
        return promised(self.script)

    @property
    def made(self) -> Mapping[Path, Expectation]:
        """What the files hold that it is sure to make in `folder`."""
        if not self.is_archive:
            return {}
        made = {
            self._folder / one.output: promised(one)
            for one in self.script.outputs
            if one.writes_file and not one.is_many
        }
        for file in (file for one in self.script.outputs for file in one.tee):
            made[self._folder / file.name] = Expectation(is_readable=file.is_checked)
        return made

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
    def _aborts_when_empty(self) -> bool:
        """Whether an output without a packet is a failure; one of pure metadata has none."""
        muxers = [formats.MUXERS[one.muxer] for one in self.script.outputs]
        return all(
            muxer.still or muxer.is_many or bool(muxer.video or muxer.audio or muxer.subtitle)
            for muxer in muxers
        )

    @property
    def stops_at_errors(self) -> bool:
        """Whether FFmpeg ends at the first error. Not where files are joined: it calls the small
        step back in time between two of them an error too, and mends it."""
        return not self.takes_damage and not self.lists and not self._joins_files

    @property
    def _joins_files(self) -> bool:
        return any(
            isinstance(item.source, Sequence) and item.source.pattern.startswith("concat:")
            for item in self.script.inputs
        )

    @property
    def drawn_texts(self) -> Iterator[DrawnText]:
        items = (item for graph in self.script.graphs for item in graph.filters)
        drawn = (self._drawn(item) for item in items if item.name == "drawtext")
        return (one for one in drawn if one is not None)

    def _drawn(self, item: Filter) -> DrawnText | None:
        """What a `drawtext` draws and in which font, as far as that is known here."""
        given, file = item.option("text"), item.option("textfile")
        text = given.text(str) if given is not None else ""
        if isinstance(file, InputFile):
            text += read_text(self.paths[file.name])
        text = _EXPANDED.sub(lambda found: _ASCII.sub("", found[0]), text)
        font, family = item.option("fontfile"), item.option("font")
        if isinstance(font, InputFile):
            return DrawnText(text, font=self.paths[font.name])
        if family is not None:
            return in_family(text, family.text(str), self.paths.values())
        return in_any_font(text)

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
            *(["-xerror"] if self.stops_at_errors else []),
            *(["-abort_on", "empty_output"] if self._aborts_when_empty else []),
            *(word for given in self.script.common for word in self._setting(given)),
        ]
        for item in self.script.inputs:
            words += self._input(item)
        in_folder = self.is_archive
        for one in self.script.outputs:
            settings = [word for given in one.settings for word in self._setting(given)]
            part = dataclasses.replace(self, script=one)
            words += [*settings, *part._output(in_folder)]
        return tuple(words)

    def _output(self, in_folder: bool) -> list[str]:
        """What follows the options of the last output: its container and its file."""
        words: list[str] = []
        if self._pass:
            words += ["-passlogfile", f"{self._folder}/pass"]
        words += ["-f", self.script.muxer]
        if formats.MUXERS[self.script.muxer].still and not self.script.is_many:
            words += [] if self.script.encoder("v") else ["-c:v", str(self.script.default_video)]
        if not self.script.writes_file:
            return [*words, "-"]
        if self.script.tee:
            # A path would need quoting; FFmpeg's current folder is the job's.
            files = (file.text(f"{self._folder.name}/") for file in self.script.tee)
            return [*words, "|".join(files)]
        output = self._folder / self.script.output if in_folder else self.output_path
        # FFmpeg makes the folder of a variant by this text, whatever protocol it begins with.
        protocol = "" if "%v" in self.script.output else "file:"
        return [*words, "-protocol_whitelist", "file", f"{protocol}{output}"]

    def _setting(self, given: Given) -> Iterator[str]:
        if isinstance(given.value, Graph):
            given = dataclasses.replace(given, value=self._graph(given.value))
        words = given.words(self._path)
        if given.name == "x265-params" and self._pass:
            name, value = words
            own = [pair for pair in value.split(":") if not _X265_PASS.fullmatch(pair)]
            # A path would need quoting; FFmpeg's current folder is the job's.
            stats = [f"pass={self._pass}", f"stats={self._folder.name}/pass-x265.log"]
            words = (name, ":".join([*own, *stats]))
        yield from words

    def _input(self, item: Input) -> list[str]:
        if isinstance(item.source, Graph):
            own = dataclasses.replace(item, source=self._graph(item.source))
            return list(own.words(self._path))
        settings = [word for given in item.settings for word in given.words(self._path)]
        if isinstance(item.source, Sequence):
            with at_token(item.token + 1):
                return [*_OF_FILES, *settings, *words_of(item.source, self.paths)]
        if item.source.name in self.lists:
            return [*_OF_FILES, *settings, *self.lists[item.source.name].words()]
        return [
            *_OF_FILES,
            "-f",
            self.demuxers[item.source.name],
            *settings,
            "-i",
            f"file:{self._path(item.source.name)}",
        ]

    def _graph(self, graph: Graph) -> Graph:
        """The graph with what the worker adds: a demuxer to each file that a filter opens, a font
        to a text that the default one does not draw, the limit on the pixels of a frame, and behind
        each measuring filter one that writes its numbers into the log."""
        chains = (
            (
                part
                for item in chain
                for one in limited(self._completed(item))
                for part in _followed_by_log(one)
            )
            for chain in graph.chains
        )
        return Graph(tuple(tuple(chain) for chain in chains))

    def _completed(self, item: Filter) -> Filter:
        drawn = self._drawn(item) if item.name == "drawtext" else None
        if drawn is not None and drawn.is_chosen:
            return dataclasses.replace(item, options=(*item.options, ("font", Text(drawn.family))))
        file = item.option("filename")
        if item.name not in READERS or not isinstance(file, InputFile):
            return item
        forced = (
            ("format_name", Text(self.demuxers[file.name])),
            ("format_opts", Text("protocol_whitelist=file")),
        )
        return dataclasses.replace(item, options=(*item.options, *forced))

    def _path(self, name: str) -> str:
        if name in self.paths:
            return str(self.paths[name])
        return str(self._folder / name if self.is_archive else self.output_path)


def _followed_by_log(item: Filter) -> Iterator[Filter]:
    if item.name not in measure.PER_FRAME:
        yield item
        return
    yield dataclasses.replace(item, outputs=())
    log = (("mode", Text("print")),)
    yield Filter("metadata", log, outputs=item.outputs, instance=measure.OWN)


_X265_PASS = re.compile(r"\bpass=([12])\b")


def _of_first_pass(given: Given) -> Given:
    """An option of the second pass as the first one has it."""
    if given.name == "pass":
        return dataclasses.replace(given, value=Text("1"))
    if given.name == "x265-params":
        return dataclasses.replace(given, value=Text(_X265_PASS.sub("pass=1", given.plain)))
    return given


def _is_of_video_encoder(given: Given) -> bool:
    return given.option.scope is Scope.VIDEO and given.is_of_video


def _canonical(given: Given) -> str:
    return f"{given.name}:v" if given.name in _SHARED_WITH_AUDIO else given.name


def _given(key: str, value: str) -> Given:
    option, specifier = find_option(key, before_input=False)
    return Given(option, specifier, Text(value))
