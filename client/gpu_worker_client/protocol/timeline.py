"""The edit list of `render`: clips one after the other, what joins them, what lies over and under
them, and what comes out.

Times inside an input are seconds from its first video frame; times of the output are seconds from
its start. Positions and sizes are pixels: of the upright input in `keyframes`, of the output in
`overlays`. A time is rounded to the nearest frame.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from gpu_worker_client.protocol.base import (
    Codec,
    Crf,
    EvenPixels,
    FileName,
    FrameIndex,
    Pixels,
    Seconds,
    Share,
)
from gpu_worker_client.protocol.task import RequestModel

MAX_CLIPS = 200
"""Each is read and decoded on its own, one after the other."""
MAX_KEYFRAMES = 200
"""Keyframes of one clip."""
MAX_OVERLAYS = 50
MAX_VIDEO_SECONDS = 6 * 3600
MIN_SPEED, MAX_SPEED = 0.1, 20.0

Decibels = Annotated[float, Field(ge=-90, le=24)]
OverlayText = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")
]
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")


class ClipKeyframe(RequestModel):
    """The part of the frame that is shown at a time. Between two keyframes it moves and grows
    evenly with time; before the first and after the last it stands. One of `auto_crop`'s
    `crop_keyframes` can be sent as it is."""

    time: Seconds
    """Seconds from the input's first frame, not from the clip's `start`."""
    x: Pixels
    """Left edge."""
    y: Pixels
    """Top edge."""
    width: float = Field(gt=0, le=1e5)
    """Pixels of the upright input, as `x` and `y`."""
    height: float = Field(gt=0, le=1e5)
    """Pixels."""
    frame: FrameIndex | None = None
    """As `auto_crop` answers it; `time` says the same and decides."""


class Transition(RequestModel):
    """How one clip becomes the next, in video and audio alike."""

    kind: Literal["cut", "fade", "dissolve"] = "cut"
    """`fade` goes through black and silence, half of the time on either side, and makes the output
    no shorter. `dissolve` lays the end of one clip over the start of the next, so each makes the
    output shorter by `seconds`."""
    seconds: float = Field(default=0.5, gt=0, le=30)
    """Length; a `cut` has none."""


class TimelineClip(RequestModel):
    input: FileName
    """Name of a video or a still image (PNG, JPEG, BMP, TIFF) in `inputs`."""
    start: Seconds = 0.0
    """Seconds; the frame nearest to it is the clip's first one."""
    end: Seconds | None = None
    """Seconds; the frame nearest to it is the first one no longer shown. By default the input's
    end; a still image needs one. A time up to a quarter of a second after the input's end means its
    end."""
    speed: float = Field(default=1.0, ge=MIN_SPEED, le=MAX_SPEED)
    """2 is twice as fast, 0.5 slow motion. Voices keep their pitch."""
    volume_db: Decibels = 0.0
    """Gain of the clip's audio; -90 is silence."""
    keyframes: list[ClipKeyframe] | None = Field(
        default=None, min_length=1, max_length=MAX_KEYFRAMES
    )
    """Path of a crop window; by default the whole frame is shown."""
    transition: Transition | None = None
    """Into this clip, instead of the timeline's own. The first clip has none."""
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """Title of the clip's chapter; by default "Clip 1", "Clip 2", ..."""

    def _problems(self) -> Iterator[str]:
        if self.end is not None and self.end <= self.start:
            yield "end must be after start"

    @field_validator("keyframes")
    @classmethod
    def _in_order(cls, keyframes: list[ClipKeyframe] | None) -> list[ClipKeyframe] | None:
        times = [key.time for key in keyframes or ()]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("must be in order of time, each later than the one before")
        return keyframes


class Music(RequestModel):
    """Audio under the whole output."""

    input: FileName
    """Name of a file with audio in `inputs`."""
    start: Seconds = 0.0
    """Seconds of it to leave out at its start."""
    gain_db: Decibels = 0.0
    """Louder above 0, quieter below."""
    duck_db: float | None = Field(default=None, gt=0, le=40)
    """How much quieter it gets while the clips are loud. Their audio is compared with -45 dBFS; the
    music goes down within 20 ms and comes back within half a second."""
    fade_out_seconds: float = Field(default=0.0, ge=0, le=30)
    """Seconds at the output's end during which it fades out. Music that is shorter than the output
    ends before."""


class Overlay(RequestModel):
    """An image, a video or a line of text over the output."""

    input: FileName | None = None
    """Name of an image or a video in `inputs`, shown with its transparency (PNG, GIF, VP8, VP9,
    ProRes 4444). A video plays from its start, without audio, and stays on its last frame."""
    text: OverlayText | None = None
    """Shown letter for letter; a line feed starts a new line."""
    x: int = Field(ge=-16384, le=16384)
    """Left edge, pixels of the output."""
    y: int = Field(ge=-16384, le=16384)
    """Top edge; of a text that of its first line."""
    start: Seconds = 0.0
    """Seconds of the output; shown from the frame nearest to it."""
    end: Seconds | None = None
    """Seconds of the output; by default its end."""
    width: EvenPixels | None = None
    """Width of an image or video, pixels of the output; the height follows. By default its own."""
    font_size: int = Field(default=48, ge=8, le=1000)
    """Height of a text's letters, pixels of the output."""
    font: FileName | None = None
    """A text's font: name of a file (TrueType, OpenType) in `inputs`; by default Noto Sans. Letters
    that it lacks come from the worker's own fonts: twenty scripts, Chinese, Japanese, Korean,
    emoji in one color. What none has is the warning `missing_glyphs`."""
    color: Annotated[str, StringConstraints(max_length=7)] = "#ffffff"
    """A text's color, "#rrggbb"."""
    opacity: Share = 1.0
    """0 (not to be seen) to 1."""

    @field_validator("color")
    @classmethod
    def _color(cls, color: str) -> str:
        if not _COLOR.fullmatch(color):
            raise ValueError('give "#rrggbb", six hexadecimal digits')
        return color

    def _problems(self) -> Iterator[str]:
        if (self.input is None) == (self.text is None):
            yield "give exactly one of input and text"
        if self.end is not None and self.end <= self.start:
            yield "end must be after start"
        idle = {"width"} if self.text is not None else {"font_size", "font", "color"}
        if given := sorted(idle & self.model_fields_set):
            yield f"of no effect here: leave out {', '.join(given)}"


class TimelineOutput(RequestModel):
    width: EvenPixels | None = None
    """Pixels, even. By default the first clip's, as it is meant to be shown; where only `height` is
    given, by its aspect ratio."""
    height: EvenPixels | None = None
    """Pixels, even; see `width`."""
    fit: Literal["contain", "cover"] = "contain"
    """For a clip of another aspect ratio: `contain` shows all of it on black, `cover` fills
    the output and cuts off what is outside."""
    fps: float | None = Field(default=None, ge=1, le=240)
    """Constant rate. 23.976, 29.97, 59.94 are taken as 24000/1001 and so on. By default the
    standard rate nearest to the highest of the clips' own, 23.976 to 60; a still image has none,
    and 25 is taken where all clips are stills."""
    codec: Codec = "h264"
    """A codec that cannot hold the output's size, or that the output's suffix does not hold, is
    refused."""
    crf: Crf | None = None
    """Constant quality, 0 (lossless for h264) to 51; by default 18, or 28 for a proxy. prores
    ignores it."""
    proxy: bool = False
    """A small copy for editing: fits in 1280x720, a key frame each half second, quick to make and
    to jump about in."""

    def _problems(self) -> Iterator[str]:
        if self.proxy and (self.width or self.height):
            yield "proxy sets the size: leave out width and height"
        if self.proxy and self.codec != "h264":
            yield "proxy is h264: leave out codec"


class Thumbnails(RequestModel):
    """One image with small ones in rows, and when each is shown: for a player's seek bar."""

    every_seconds: float = Field(default=5.0, ge=0.1, le=3600)
    """Each stands for so much of the output and shows its middle."""
    width: int = Field(default=160, ge=32, le=640, multiple_of=2)
    """Pixels of one; the height follows the output's aspect ratio."""
    columns: int = Field(default=10, ge=1, le=50)
    """In one row."""


class Timeline(RequestModel):
    clips: list[TimelineClip] = Field(min_length=1, max_length=MAX_CLIPS)
    """In the order of the output."""
    transition: Transition = Transition.model_construct()
    """Between any two clips."""
    music: Music | None = None
    """Audio under the whole output."""
    loudness_lufs: float | None = Field(default=None, ge=-50, le=-5)
    """Integrated loudness of the output by EBU R 128, -14 or -23 for example, its true peak below
    -1.5 dBTP. By default levels stay as they are."""
    overlays: list[Overlay] = Field(default=[], max_length=MAX_OVERLAYS)
    """A later one lies over an earlier one."""
    output: TimelineOutput = TimelineOutput.model_construct()
    """Size, rate and codec of the output."""
    chapters: bool = False
    """A chapter for each clip, from the middle of the transition into it."""
    thumbnails: Thumbnails | None = None
    """Make no video but a sheet of thumbnails (the output's suffix is .jpg or .png); the answer's
    `thumbnails_vtt` says which part of it belongs to which time."""

    def _problems(self) -> Iterator[str]:
        if self.clips[0].transition is not None:
            yield "clips.0.transition: nothing comes before the first clip; leave it out"
        audio = [name for name in ("music", "loudness_lufs") if getattr(self, name) is not None]
        idle = audio + (["chapters"] if self.chapters else [])
        if self.thumbnails is not None and idle:
            yield f"a sheet of thumbnails has no audio and no chapters: leave out {', '.join(idle)}"

    @property
    def joins(self) -> list[Transition]:
        """What leads into the second clip, into the third, and so on."""
        return [clip.transition or self.transition for clip in self.clips[1:]]

    @property
    def font_names(self) -> dict[str, str]:
        """As `input_names`, of the fonts."""
        return _first({f"overlays.{n}.font": over.font for n, over in enumerate(self.overlays)})

    @property
    def input_names(self) -> dict[str, str]:
        """Every name of a video, image or audio input that is used, and the path where it is used
        first: `{"a.mp4": "clips.0.input"}`."""
        paths = {f"clips.{n}.input": clip.input for n, clip in enumerate(self.clips)}
        music = {"music.input": self.music and self.music.input}
        overlays = {f"overlays.{n}.input": over.input for n, over in enumerate(self.overlays)}
        return _first({**paths, **music, **overlays})


def _first(names: dict[str, str | None]) -> dict[str, str]:
    """The first path of each name."""
    return {name: path for path, name in reversed(names.items()) if name is not None}
