"""auto_crop: a video in another aspect ratio, its window led after the subject as a camera operator
would.

Lengths and positions are pixels of the upright source, or shares of its width and height with
`normalised`; times are seconds from the first frame. What `crop_keyframes` answers can be changed
and sent back as `keyframes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from gpu_worker_client.protocol.base import (
    BY_EITHER_NAME,
    AnsweredBy,
    ClassName,
    Codec,
    Crf,
    EvenPixels,
    FrameIndex,
    Many,
    ModelName,
    Pixels,
    ResponseModel,
    Seconds,
    Share,
    Url,
)
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import OnDamage, OptionalFileTask, RequestModel

MAX_KEYFRAMES = 5000
"""More do not fit into a task's 256 KiB."""
MAX_ASPECT = 20
"""Longer side over the shorter."""
_ASPECT = re.compile(r"[1-9][0-9]{0,4}:[1-9][0-9]{0,4}")


def _as_meant(subject: object, read: ValidatorFunctionWrapHandler) -> int | str:
    """Names a mistake once, not for a number and for a text."""
    try:
        return read(subject)
    except ValidationError:
        meant = 'give "auto", a track id (a whole number, from 1) or the name of a class'
        raise ValueError(meant) from None


Subject = Annotated[Annotated[int, Field(ge=1, lt=2**53)] | ClassName, WrapValidator(_as_meant)]
"""`"auto"`, a track's id, or the name of a class."""
Layout = Literal["crop", "blur", "pad"]
"""`crop`: the window fills the output. `blur` and `pad`: a wider window, up to the whole frame,
in a band across the output, over a blurred copy of itself or over black."""

Framing = Literal["subject", "group"]
"""The window shows whoever is followed, or the two or three who matter together."""


class CropOverride(RequestModel):
    """What to follow, where to stand, or how to show the frame, for a time."""

    start_time: Seconds
    """Seconds; the first frame at or after it is the first one meant."""
    end_time: Seconds
    """Seconds; the first frame at or after it is the first one no longer meant."""
    subject: Subject | None = None
    """As the task's `subject`."""
    x: Pixels | None = None
    """Left edge of the window: it stands there exactly. Without it the window goes from left to
    right as its subject does."""
    y: Pixels | None = None
    """Top edge, as `x`. The window has room up and down in a source that is taller than the target,
    or with `zoom`."""
    layout: Layout | None = None
    """`blur` or `pad` show the whole image, `crop` the window where `fallback` would not."""

    def _problems(self) -> Iterator[str]:
        if self.end_time <= self.start_time:
            yield "end_time must be after start_time"
        is_placed = self.x is not None or self.y is not None
        if (self.subject is not None) + is_placed + (self.layout is not None) != 1:
            yield "give exactly one of: subject; a place, by x, y or both; layout"


class CropKeyframe(RequestModel):
    """A window to render exactly. Between two of them the window moves and grows evenly with time;
    before the first and after the last it stands. A step is made by two keyframes on neighbouring
    frames."""

    frame: FrameIndex | None = None
    """0-based, display order. Where it is given it decides, and `time` is ignored."""
    time: Seconds | None = None
    """Seconds from the first frame."""
    x: Pixels
    """Left edge."""
    y: Pixels = 0
    """Top edge."""
    width: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """The window's; without it and `height` the one that `target_aspect` and `zoom` give."""
    height: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """The window's. A window of another aspect ratio than the target's is shown whole, as
    `fallback` says."""

    def _problems(self) -> Iterator[str]:
        if self.frame is None and self.time is None:
            yield "give frame or time"
        if (self.width is None) != (self.height is None):
            yield "give both width and height, or neither"


class AutoCropParams(RequestModel):
    target_aspect: Annotated[str, Field(max_length=11)] = "9:16"
    """Width to height of the output as two whole numbers, "9:16" or "1:1" for example; 1.85 to 1 is
    "185:100"."""
    subject: Subject = "auto"
    """`"auto"` chooses for every shot, by size, activity and possession of the ball; a number is a
    track's id; other text is a class, "person" for example."""
    smoothing: Share = 0.8
    """0 follows every movement, 1 stands as still as it can; the same at any frame rate. A motion
    is followed when it lasts longer than s / (1 - s) seconds, 4 at 0.8, or when the subject would
    leave the window."""
    padding: Share = 0.2
    """Space around the subject inside the window, on each side, as a share of the subject's own
    size; none where it does not fit. Padding itself leaves nobody out and
    widens no window."""
    anticipation: float = Field(default=0.5, ge=0, le=5)
    """Seconds: the window is led to where the subject will be on average during this time."""
    keyframe_interval: int = Field(default=30, ge=1, le=3600)
    """Frames: longest step between two `crop_keyframes`. There are more of them where the path
    bends."""
    keyframes: list[CropKeyframe] | None = Field(
        default=None, min_length=1, max_length=MAX_KEYFRAMES
    )
    """Render exactly these; nothing is detected."""
    dry_run: bool = False
    """Answer coordinates, make no file: `output_url` is left out."""
    overrides: list[CropOverride] = Field(default=[], max_length=1000)
    """Exceptions for some time; of two that overlap the later one in the list holds. The window
    moves as calmly as everywhere: it starts towards an override before its time."""
    framing: Framing = "subject"
    """`subject` fills the output with whoever is followed; the ball, and a second player or person
    who matters, stay in view wherever they fit beside. Only a subject that is itself wider than
    the window widens it (`fallback`). `group` widens it as well for two or three important people,
    or players where a ball is seen, who do not fit into the window together."""
    fallback: Literal["blur", "pad", "crop"] = "blur"
    """What to do with a shot whose subject, or group, does not fit into the window (`framing`):
    widen it for the shot until it holds them and their ball, over a blurred copy of itself or over
    black, or cut them off."""
    zoom: float = Field(default=1.0, ge=1, le=8)
    """The window is this much smaller than the largest that fits, so it moves up and down as
    well."""
    output_width: EvenPixels | None = None
    """Pixels, even; by default the window's own."""
    output_height: EvenPixels | None = None
    """Pixels, even. One of the two is enough."""
    keep_bars: bool = False
    """Bars around the image (pillarbox, letterbox, or both) belong to the frame. By default those
    that are certain, shot by shot, stay outside of every window; `keyframes` are rendered as they
    are."""
    normalised: bool = False
    """Positions and sizes, in and out, are shares of the source's width and height, 0 to 1."""
    codec: Codec = "h264"
    crf: Crf = 18
    model: ModelName = "yolov8n"
    """Detector of the tracking inside, by its name in the weights manifest; see `track`."""
    classes: list[ClassName] = Field(default=["person", "sports ball"], min_length=1, max_length=80)
    """What that tracking finds, besides the classes that `subject` and `overrides` name. `hog`
    knows people only; with it the default means people."""
    confidence_threshold: Share = 0.5
    """What that tracking reports; see `track`."""
    frame_stride: int = Field(default=1, ge=1, le=1000)
    """That tracking reads every n-th frame only; between them boxes lie on straight lines."""
    on_damage: OnDamage = "fail"

    @property
    def aspect(self) -> float:
        """Width over height."""
        width, height = map(int, self.target_aspect.split(":"))
        return width / height

    @field_validator("target_aspect")
    @classmethod
    def _aspect_is_a_shape(cls, aspect: str) -> str:
        if not _ASPECT.fullmatch(aspect):
            raise ValueError(
                'give two whole numbers with a colon between, "9:16" for example; 1.85 to 1 is'
                ' "185:100"'
            )
        narrow, wide = sorted(map(int, aspect.split(":")))
        if wide > MAX_ASPECT * narrow:
            raise ValueError(f"must lie between 1:{MAX_ASPECT} and {MAX_ASPECT}:1")
        return aspect

    def _problems(self) -> Iterator[str]:
        if self.output_width and self.output_height:
            fitting = self.output_height * self.aspect
            if abs(self.output_width - fitting) > max(2, 0.01 * fitting):
                given = "output_width and output_height"
                yield f"{given} have not the target_aspect; one of them is enough"
        if self.keyframes is not None and (self.overrides or self.subject != "auto"):
            yield "keyframes are the whole path: leave out subject and overrides"
        yield from _order_problems(self.keyframes or [])
        if self.normalised:
            yield from self._share_problems()

    def _share_problems(self) -> Iterator[str]:
        for index, key in enumerate(self.keyframes or ()):
            if key.x + (key.width or 0) > 1 + 1e-6 or key.y + (key.height or 0) > 1 + 1e-6:
                wanted = "with normalised a window lies within 0 to 1 of the frame"
                yield f"keyframes.{index}: {wanted}"
        for index, override in enumerate(self.overrides):
            if max(override.x or 0, override.y or 0) > 1:
                yield f"overrides.{index}: with normalised x and y are between 0 and 1"


def _order_problems(keyframes: Sequence[CropKeyframe]) -> Iterator[str]:
    positions: list[float] = [key.frame for key in keyframes if key.frame is not None]
    if len(positions) < len(keyframes):
        positions = [key.time for key in keyframes if key.time is not None]
    if len(positions) < len(keyframes):
        yield "keyframes: give frame in all of them, or time in all of them"
    for index, (before, after) in enumerate(pairwise(positions), 1):
        if before >= after:
            yield f"keyframes.{index} is not later than the one before; keyframes must be in order"


class CropWindow(ResponseModel):
    """The window at one frame. Straight lines between these, in time, are the rendered path to
    within half a pixel."""

    frame: int
    """0-based, display order."""
    time: float
    """Seconds from the first frame."""
    x: float
    """Left edge, to 0.01 px."""
    y: float
    """Top edge, to 0.01 px."""
    width: float
    """Even, or a share with `normalised`; more where the window is widened (`fallback`), the
    frame's where all is shown."""
    height: float
    """As `width`."""


class CropSubject(ResponseModel):
    model_config = BY_EITHER_NAME

    track_id: int | None = None
    """The one that leads the window; None when there is none."""
    class_name: str | None = Field(
        default=None, validation_alias="class", serialization_alias="class"
    )
    """Its class. `class` in JSON, `class_name` in Python."""
    track_ids: Many[int] = []
    """Everyone that the window follows, the most important first. A person who is merely in the
    frame is not listed. Where the window is widened for two or three, all of them and their
    ball."""
    reason: str = ""
    """Why this one: a sentence."""
    confidence: float = 0.0
    """0 to 1: how clearly it leads before the next."""


class CropSegment(ResponseModel):
    """Frames with one subject: a shot, or part of one."""

    shot: int
    """Which shot, from 0."""
    start_frame: int
    """0-based, display order."""
    end_frame: int
    """Last frame, inclusive."""
    start_time: float
    """Seconds from the first frame."""
    end_time: float
    """Time of the last frame, seconds."""
    layout: Layout = "crop"
    """How these frames are shown."""
    image: tuple[float, float, float, float] | None = None
    """x, y, width, height of the part inside the bars: nothing else is shown. None without bars or
    with `keep_bars`."""
    subject: CropSubject
    """Who is followed."""


class AutoCropStats(Stats):
    input_resolution: str
    """Upright, "1920x1080"."""
    window: str
    """Size of the crop window in source pixels, "608x1080", of the most frames where bars leave
    shots a smaller one; `keyframes` may give their own."""
    output_resolution: str = ""
    """"608x1080"; empty with `dry_run`."""
    frames_processed: int = 0
    """Frames of the input, and of the output where one was made."""
    fps: float = 0.0
    """Frames processed per second of wall time."""
    duration: float = 0.0
    """Seconds of video."""
    shots: int | None = None
    """One more than there are cuts; None with `keyframes`, which are rendered without detection."""
    subject_frames: int = 0
    """Frames in which the subject was seen, but those that show the whole frame."""
    in_view: float | None = None
    """Share of `subject_frames` in which the subject is wholly inside, or all for whom the window
    is widened. Of a subject larger than the window, the half of the window that is its own counts.
    None without such frames."""
    mean_offset: float | None = None
    """Its mean distance from the middle of the window, in window widths."""
    still: float = 0.0
    """Share of frame pairs between which the window does not move (by less than 0.05 px)."""
    jerk: float = 0.0
    """Root mean square of the third derivative of the window's middle, in windows/s^3; not across
    cuts, changes of layout and steps made by keyframes."""


class AutoCropResult(TaskResult):
    task: Literal["auto_crop"] = "auto_crop"
    crop_keyframes: Many[CropWindow] = []
    """The path. An answer over the inline limit has `crop_keyframes_count` instead: the whole
    result is then at `result_url`."""
    subject: CropSubject = CropSubject.model_construct()
    """Who is followed for most of the time."""
    segments: Many[CropSegment] = []
    """In order, without gaps; empty with `keyframes`. A shot of more than 10 s is divided into
    equal parts of at most that, and the subject chosen anew in each, with an advantage for the one
    before; overrides divide as well."""
    normalised: bool = False
    """As asked: positions and sizes are shares."""
    stats: AutoCropStats


class AutoCropTask(OptionalFileTask, AnsweredBy[AutoCropResult]):
    """`output_url` is left out with `dry_run`, and needed without."""

    task: Literal["auto_crop"] = "auto_crop"
    tracks_url: Url | None = None
    """GET; presigned: who is where in this video. The result JSON of a `track` task, or of it no
    more than `{"tracks": [...]}`, or MOTChallenge text (each track a person). Nothing is then
    detected twice."""
    params: AutoCropParams = AutoCropParams.model_construct()

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if self.params.dry_run and self.makes_a_file:
            yield "dry_run makes no file: leave out output_url and output_multipart, or dry_run"
        if not self.params.dry_run and not self.makes_a_file:
            yield "give one of output_url and output_multipart, or dry_run for coordinates only"
        if self.tracks_url is not None and self.params.keyframes is not None:
            yield "keyframes are the whole path: leave out tracks_url"
        detection = {"model", "classes", "confidence_threshold", "frame_stride"}
        given = sorted(detection & self.params.model_fields_set)
        if self.tracks_url is not None and given:
            yield f"tracks_url brings the tracks: leave out {', '.join(given)}"

    def reads(self) -> dict[str, str]:
        return super().reads() | ({"tracks_url": self.tracks_url} if self.tracks_url else {})

    def extra_inputs(self) -> dict[str, str]:
        return {"tracks": "tracks_url"} if self.tracks_url else {}
