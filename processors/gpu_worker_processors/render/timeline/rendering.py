"""The command line of a planned timeline."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from typing_extensions import Self

from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.decoders import AUDIO_DECODERS, VIDEO_DECODERS
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.glyphs import DrawnText
from gpu_worker_processors.render.timeline.plan import nearest
from gpu_worker_processors.render.timeline.sources import TimelineSource

_DECODERS = VIDEO_DECODERS | AUDIO_DECODERS | {"webp_anim"}
"""With the one that FFmpeg's program has and PyAV's libraries have not."""
_GLOBAL = (
    "-nostdin",
    "-hide_banner",
    "-y",
    "-xerror",
    "-abort_on",
    "empty_output",
    "-max_alloc",
    str(2**30),
    "-copyts",
)
"""A broken input or an empty output is a failure. -copyts: the graph sees the container's own time
stamps after a seek too."""
_SEEKABLE = ("mov", "matroska")
"""Demuxers that find the key frame before a time. All other demuxers may land behind it: they read
from the beginning."""
_LEAD_SECONDS = 1
"""Read before a clip's start: a decoder of audio needs a packet or two to settle."""
_MANY_INPUTS = 4
"""With more of them each decoder gets one thread: they take turns, but all of them exist from the
beginning."""


@dataclass(frozen=True)
class TimelineInput:
    """One reading of a file."""

    source: TimelineSource
    from_seconds: Fraction = Fraction(0)
    """Nothing before this is needed; seconds from the first frame."""
    with_alpha: bool = False
    """Whether transparency is to be seen."""

    def words(self, limits: Limits, single_thread: bool) -> list[str]:
        """What stands before and with `-i`."""
        source = self.source
        words = ["-protocol_whitelist", "file", "-format_whitelist", source.demuxer]
        decoder = source.video.alpha_decoder if source.video and self.with_alpha else None
        decoders = _DECODERS | ({decoder} if decoder else set())
        words += ["-codec_whitelist", ",".join(sorted(decoders))]
        if source.video and decoder:
            words += [f"-c:{source.video.stream}", decoder]
        words += [
            "-max_streams",
            str(limits.max_streams),
            "-max_pixels",
            str(limits.decoder_max_pixels),
        ]
        if source.demuxer == "mov":
            words += ["-enable_drefs", "0", "-use_absolute_path", "0"]
        if single_thread:
            words += ["-threads", "1"]
        seek = (
            source.origin_seconds
            - source.container_start_seconds
            + self.from_seconds
            - _LEAD_SECONDS
        )
        if source.demuxer in _SEEKABLE and seek > 0:
            words += ["-noaccurate_seek", "-ss", f"{float(seek):.6f}"]
        return [*words, "-f", source.demuxer, "-i", f"file:{source.path}"]


@dataclass(frozen=True)
class TimelineRendering:
    """A timeline ready to run; a `render.base.Rendering`."""

    inputs: tuple[TimelineInput, ...]
    graph: str
    maps: tuple[str, ...]
    """Labels of the graph's outputs: frame, then audio if there is any."""
    output_path: Path
    muxer: tuple[str, ...]
    """`-f` and what else the container needs."""
    video_encoder: str
    """"" without video."""
    video_options: Mapping[str, str]
    expected: Expectation
    coding: tuple[str, ...] = ()
    """Options of the output that hold for any encoder: colours, key frames, tags."""
    chapters: tuple[tuple[Fraction, Fraction, str], ...] = ()
    """(start, end, title), seconds."""
    limits: Limits = field(default_factory=Limits)
    uses_gpu: bool = False
    takes_damage: bool = False
    stops_at_errors: bool = True
    folder: Path | None = None
    is_archive: bool = False
    writes_output: bool = True
    measures: bool = False

    @property
    def made(self) -> Mapping[Path, Expectation]:
        return {}

    @property
    def parts(self) -> tuple[Self, ...]:
        return (self,)

    def with_parts(self, parts: Sequence[Self]) -> Self:
        (part,) = parts
        return part

    @property
    def first_pass(self) -> Self | None:
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(one.source.path for one in self.inputs))

    @property
    def streams(self) -> tuple[Path, ...]:
        return self.files

    @property
    def openings(self) -> int:
        return len(self.inputs)

    @property
    def drawn_texts(self) -> tuple[DrawnText, ...]:
        return ()

    def in_software(self) -> Self:
        return self

    def with_encoder(self, name: str, options: Mapping[str, str]) -> Self:
        return replace(self, video_encoder=name, video_options=dict(options))

    def argv(self) -> tuple[str, ...]:
        single = len(self.inputs) > _MANY_INPUTS
        words = [*_GLOBAL]
        for one in self.inputs:
            words += one.words(self.limits, single)
        if self.chapters:
            words += _chapter_input(self.chapters)
        words += ["-filter_complex", self.graph]
        for label in self.maps:
            words += ["-map", f"[{label}]"]
        words += [
            "-map_metadata:g",
            "-1",
            "-map_chapters",
            str(len(self.inputs)) if self.chapters else "-1",
        ]
        if self.video_encoder:
            words += ["-c:v", self.video_encoder, *_options(self.video_options)]
        words += self.coding
        words += ["-fps_mode", "passthrough", *self.muxer]
        return (*words, "-protocol_whitelist", "file", f"file:{self.output_path}")


def _options(options: Mapping[str, str]) -> Iterable[str]:
    for name, value in options.items():
        yield from (f"-{name}", value)


def _chapter_input(chapters: Iterable[tuple[Fraction, Fraction, str]]) -> list[str]:
    """Chapters as an input of FFmpeg's metadata format, inside the command line: no file is written
    for it."""
    lines = [";FFMETADATA1"]
    for start, end, title in chapters:
        first, last = nearest(start * 1000), nearest(end * 1000)
        lines += [
            "[CHAPTER]",
            "TIMEBASE=1/1000",
            f"START={first}",
            f"END={last}",
            f"title={_escaped(title)}",
        ]
    text = base64.b64encode("\n".join([*lines, ""]).encode()).decode()
    return [
        "-protocol_whitelist",
        "data",
        "-f",
        "ffmetadata",
        "-i",
        f"data:text/plain;base64,{text}",
    ]


def _escaped(title: str) -> str:
    """https://ffmpeg.org/ffmpeg-formats.html#Metadata-2"""
    return "".join(f"\\{letter}" if letter in "=;#\\\n" else letter for letter in title)
