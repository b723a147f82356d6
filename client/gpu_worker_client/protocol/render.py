"""render: an FFmpeg command, checked word by word and run where nothing but its own files can be
reached; or a video from an edit list.

`inputs` gives every file a name; command and edit list say those names and never a path or a URL.
The last word of a command is the output file, whose suffix chooses the container, unless `-f` does;
the suffix of `output_url` only names what is delivered, and the warning `suffix_mismatch` says
where it names another format. Of a timeline it chooses the container. What makes
several files (several outputs, `-f tee`, `thumb%03d.png`, HLS, DASH, segments) is delivered as one
ZIP archive of them under their names, or as a tar where the output's URL ends in `.tar`. Images
that are read by number (`img%03d.png`), by pattern or from a list for `-f concat` are each an input
of the task, under their own names. A command that only measures needs no output; with one, it is
the measurements as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator

from gpu_worker_client.protocol.base import AnsweredBy, FileName, Url
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import OutputTask, RequestModel
from gpu_worker_client.protocol.timeline import Timeline

MAX_INPUTS = 200
"""Files of one task; a command uses at most 32 of them as streams."""
_NAMED_INPUTS = 20
"""Most names of inputs in one message."""
MAX_ARGS = 512
"""Words of one command; the longest filter graph is one word."""
MAX_ARG_CHARS = 8192
"""Characters of one word."""
MAX_ARGS_CHARS = 32 * 1024
"""Characters of all words together."""

Argument = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=MAX_ARG_CHARS, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
    ),
]
"""One word of the command as the shell would hand it over. No control character but tab and line
feed, which may stand between the filters of a graph."""


class RenderParams(RequestModel):
    command_args: list[Argument] | None = Field(default=None, min_length=1, max_length=MAX_ARGS)
    """What follows `ffmpeg` on a command line: options, inputs by their names, the output file
    last. `-f null -` measures only: the numbers are in `stats.measurements`. With `-pass 2` the
    worker runs both passes."""
    timeline: Timeline | None = None
    """An edit list instead of a command: clips, transitions, music, overlays."""
    output_filename: FileName | None = None
    """The command's name for the output file; by default its last word, whatever it is called."""
    require_hardware: bool = False
    """Fail with `hardware_encoder_unavailable` where a hardware encoder is asked for and is not
    there. Without, the same codec is encoded in software and `stats.fallback_reason` says so."""

    @property
    def measures_only(self) -> bool:
        """The command writes no file: it ends in `-f null -`, `/dev/null` or `NUL`."""
        words = self.command_args or [""]
        nowhere = words[-1] in ("/dev/null", "NUL", "nul")
        return nowhere or (words[-1] == "-" and ("-f", "null") in pairwise(words))

    @field_validator("command_args")
    @classmethod
    def _not_too_long(cls, args: list[str] | None) -> list[str] | None:
        if args is not None and sum(map(len, args)) > MAX_ARGS_CHARS:
            raise ValueError(f"more than {MAX_ARGS_CHARS} characters in all")
        return args

    def _problems(self) -> Iterator[str]:
        if (self.command_args is None) == (self.timeline is None):
            yield "give exactly one of command_args and timeline"
        if self.timeline is not None and self.output_filename is not None:
            yield "output_filename is a command's name for its output: leave it out"


class RenderStats(Stats):
    encoder_used: str | None = None
    """Video encoder that wrote the file, "h264_nvenc" or "libx264" for example, of several outputs
    the first one with video; "copy" where the stream was copied, None without video."""
    fallback_reason: str | None = None
    """Why it is not the hardware encoder that was asked for."""
    duration: float = 0.0
    """Seconds of the output, by its own time stamps."""
    frames: int = 0
    """Video frames in the output; 0 for audio."""
    fps: float = 0.0
    """Video frames written per second of wall time."""
    measurements: dict[str, Any] = {}
    """What the command's measuring filters found, by the filter's name: a mapping of numbers for
    `loudnorm`, `ebur128`, `volumedetect`, `astats`, `psnr`, `ssim` and the like, by the names that
    FFmpeg gives them; a list in order of time for `silencedetect`, `blackdetect`, `freezedetect`,
    `scdet` and `showinfo`; least, greatest and mean over the frames for `signalstats`. A second
    filter of one name has `_2` behind it. Infinity is null."""
    sandbox: str = ""
    """How the command was confined: the level that this host could give."""


class RenderResult(TaskResult):
    task: Literal["render"] = "render"
    thumbnails_vtt: str | None = None
    """WebVTT that says which part of a sheet of thumbnails belongs to which time; only with a
    timeline's `thumbnails`."""
    stats: RenderStats


class RenderTask(OutputTask, AnsweredBy[RenderResult]):
    """`inputs` instead of `input_url`."""

    OUTPUT_SUFFIXES: ClassVar[frozenset[str] | None] = None
    task: Literal["render"] = "render"
    inputs: dict[FileName, Url] = Field(default={}, max_length=MAX_INPUTS)
    """GET; presigned, by the name the command uses. Empty for a command that only generates, a test
    card for example. Fonts (TrueType, OpenType) among them are found by their family's name, as
    subtitles and `drawtext=font=...` ask for them. A `drawtext` that names no font is drawn in Noto
    Sans, or in the first of the worker's families that has all its letters (warning `font_chosen`);
    where none has, the warning `missing_glyphs` says which family draws what. Subtitles take each
    letter from any font."""
    params: RenderParams

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if not self.makes_a_file and not self.params.measures_only:
            yield "give exactly one of output_url and output_multipart"
        if self.params.output_filename in self.inputs:
            yield "params.output_filename is the name of an input"
        timeline = self.params.timeline
        used = timeline.input_names | timeline.font_names if timeline else {}
        known = ", ".join(sorted(self.inputs)[:_NAMED_INPUTS]) or "none"
        for name, path in used.items():
            if name not in self.inputs:
                yield f"params.timeline.{path} is not the name of an input; there are: {known}"

    def reads(self) -> dict[str, str]:
        return {path: self.inputs[name] for name, path in self.extra_inputs().items()}

    def extra_inputs(self) -> dict[str, str]:
        return {name: f"inputs.{name}" for name in self.inputs}
