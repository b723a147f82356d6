"""render: an FFmpeg command, checked word by word and run where nothing but its own files can be
reached; or a video from an edit list.

`inputs` gives every file a name; command and edit list say those names and never a path or a URL.
The last word of a command is the output file, whose suffix chooses the container.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from gpu_worker_client.protocol.base import AnsweredBy, FileName, Url
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import OutputTask, RequestModel
from gpu_worker_client.protocol.timeline import Timeline

__all__ = ["RenderParams", "RenderResult", "RenderStats", "RenderTask"]

MAX_INPUTS = 200
"""Files of one task; a command uses at most 32 of them as streams."""
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
    last."""
    timeline: Timeline | None = None
    """An edit list instead of a command: clips, transitions, music, overlays."""
    output_filename: FileName | None = None
    """The command's name for the output file; by default its last word, whatever it is called."""
    require_hardware: bool = False
    """Fail with `hardware_encoder_unavailable` where a hardware encoder is asked for and is not
    there. Without, the same codec is encoded in software and `stats.fallback_reason` says so."""

    @field_validator("command_args")
    @classmethod
    def _not_too_long(cls, args: list[str] | None) -> list[str] | None:
        if args is not None and sum(map(len, args)) > MAX_ARGS_CHARS:
            raise ValueError(f"more than {MAX_ARGS_CHARS} characters in all")
        return args

    @model_validator(mode="after")
    def _one_thing_to_do(self) -> RenderParams:
        if (self.command_args is None) == (self.timeline is None):
            raise ValueError("give exactly one of command_args and timeline")
        if self.timeline is not None and self.output_filename is not None:
            raise ValueError("output_filename is a command's name for its output: leave it out")
        return self


class RenderStats(Stats):
    encoder_used: str | None = None
    """Video encoder that wrote the file, "h264_nvenc" or "libx264" for example; "copy" where the
    stream was copied, None without video."""
    fallback_reason: str | None = None
    """Why it is not the hardware encoder that was asked for."""
    duration: float = 0.0
    """Seconds of the output, by its own time stamps."""
    frames: int = 0
    """Video frames in the output; 0 for audio."""
    fps: float = 0.0
    """Video frames written per second of wall time."""
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
    OUTPUT_REQUIRED: ClassVar[bool] = True
    task: Literal["render"] = "render"
    inputs: dict[FileName, Url] = Field(default={}, max_length=MAX_INPUTS)
    """GET; presigned, by the name the command uses. Empty for a command that only generates, a test
    card for example."""
    params: RenderParams

    @model_validator(mode="after")
    def _names_are_of_inputs(self) -> RenderTask:
        if self.params.output_filename in self.inputs:
            raise ValueError("params.output_filename is the name of an input")
        used = self.params.timeline.input_names if self.params.timeline else {}
        for name, path in used.items():
            if name not in self.inputs:
                raise ValueError(f"params.timeline.{path} is not the name of an input")
        return self

    def reads(self) -> dict[str, str]:
        return {path: self.inputs[name] for name, path in self.extra_inputs().items()}

    def extra_inputs(self) -> dict[str, str]:
        return {name: f"inputs.{name}" for name in self.inputs}
