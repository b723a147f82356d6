"""What runs: a `Rendering`, the one shape in which a checked command and a planned timeline reach
the runner.

Whoever makes one vouches for every word of it: nothing of a caller's text is in `argv` that was not
parsed and written anew. The runner adds what belongs to running (progress, the sandbox) and never
reads the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import Self

from gpu_worker_processors.render.glyphs import DrawnText


@dataclass(frozen=True)
class Expectation:
    """What the output must hold, as far as the command itself says so."""

    video: bool | None = None
    """Whether there is a video stream; None when the command leaves it to its inputs."""
    audio: bool | None = None
    """Whether there is an audio stream."""
    seconds: float | None = None
    """Length that must come out, within a frame."""
    frames: int | None = None
    """Video frames that must come out."""
    max_seconds: float | None = None
    """The command's own limit (`-t`, `-to`): no longer than this."""
    max_frames: int | None = None
    """The command's own limit (`-frames:v`): no more than this."""
    is_readable: bool = True
    """It can be read back by its content; raw samples and text cannot."""


class Rendering(Protocol):
    """A command line of FFmpeg, ready to run. Immutable."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that FFmpeg may read, besides fonts."""
        ...

    @property
    def streams(self) -> tuple[Path, ...]:
        """Those of them that it demuxes and that say what they are: no fonts, no raw samples."""
        ...

    @property
    def openings(self) -> int:
        """How many files it has open for reading at once; one that is read twice counts twice."""
        ...

    @property
    def output_path(self) -> Path:
        """The one file that it may write."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where it may make more files: a playlist and its segments, images by number, the log of a
        first pass. None where it makes the one file only."""
        ...

    @property
    def is_archive(self) -> bool:
        """Whether what it makes in `folder` is the output."""
        ...

    @property
    def writes_output(self) -> bool:
        """Whether it makes a file at all; the answer of one that only measures is its numbers."""
        ...

    @property
    def made(self) -> Mapping[Path, Expectation]:
        """What each file holds that it is sure to make in `folder` for an archive."""
        ...

    @property
    def parts(self) -> tuple[Self, ...]:
        """The rendering once for each of its outputs, with that as the only one."""
        ...

    def with_parts(self, parts: Sequence[Self]) -> Self:
        """The same rendering with its parts changed."""
        ...

    @property
    def measures(self) -> bool:
        """Whether it has filters whose numbers are wanted, or nothing but those."""
        ...

    @property
    def first_pass(self) -> Self | None:
        """What must run before it."""
        ...

    @property
    def video_encoder(self) -> str | None:
        """Encoder by FFmpeg's name ("h264_nvenc"), "copy", or None when there is no video or the
        muxer chooses."""
        ...

    @property
    def video_options(self) -> Mapping[str, str]:
        """The video encoder's options by their canonical names ("preset", "cq", "b:v", "pix_fmt"),
        the stream's index left out. What `with_encoder` replaces."""
        ...

    @property
    def expected(self) -> Expectation:
        """What must come out."""
        ...

    @property
    def takes_damage(self) -> bool:
        """Whether what can be read of a damaged input is what is asked for."""
        ...

    @property
    def stops_at_errors(self) -> bool:
        """Whether FFmpeg ends at the first error; else the log must be searched."""
        ...

    @property
    def uses_gpu(self) -> bool:
        """Whether decoding or a filter runs on the card (`-hwaccel cuda`, `scale_cuda`)."""
        ...

    def in_software(self) -> Self:
        """The same rendering, decoded and filtered on the CPU."""
        ...

    @property
    def drawn_texts(self) -> Iterable[DrawnText]:
        """Each text that is drawn in one font: FFmpeg does not say which letters that lacks."""
        ...

    def with_encoder(self, name: str, options: Mapping[str, str]) -> Self:
        """The same rendering with another video encoder, `options` instead of all
        `video_options`."""
        ...

    def argv(self) -> tuple[str, ...]:
        """What follows the executable's name."""
        ...
