"""When everything of a timeline is shown: pure arithmetic from the caller's seconds to whole frames
and samples.

The video is a row of frames at a constant rate, and every length is decided here, once, in frames.
The sample at which a frame begins is rounded from the video's beginning, never added up, so the
audio cannot drift against the video.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gpu_worker_client.protocol.timeline import (
    MAX_VIDEO_SECONDS,
    Timeline,
    TimelineClip,
    TimelineOutput,
    Transition,
)
from gpu_worker_processors.render.timeline.sources import SourceVideo, TimelineSource, refused

SAMPLE_RATE = 48_000
_RATES = (
    (24000, 1001),
    (24, 1),
    (25, 1),
    (30000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60000, 1001),
    (60, 1),
)
STANDARD_RATES = tuple(Fraction(numerator, denominator) for numerator, denominator in _RATES)
"""Frames per second of broadcast and cinema, SMPTE ST 2036-1 and DCI."""
PROXY_BOX_PX = (1280, 720)
_END_TOLERANCE = Fraction(1, 4)
"""Seconds by which a clip may end after its input: editors round, and audio is often that much
longer than the frame."""


@dataclass(frozen=True)
class PlacedClip:
    """A clip with its position in the video."""

    number: int
    """Number of the clip in the timeline, from 0."""
    clip: TimelineClip
    source: TimelineSource
    video: SourceVideo
    start: Fraction
    """Seconds from the source's first frame."""
    speed: Fraction
    first: int
    """Frame of the video at which it begins, a dissolve into it included."""
    frames: int
    """How many it has in the video."""

    @property
    def end(self) -> int:
        """The first frame of the video after it."""
        return self.first + self.frames


@dataclass(frozen=True)
class Join:
    """What is between two clips."""

    dissolve: int = 0
    """Frames that both share."""
    fade_out: int = 0
    """Last frames of the first clip that go to black."""
    fade_in: int = 0
    """First frames of the second that come from black."""


@dataclass(frozen=True)
class VideoPlan:
    """The whole plan."""

    width: int
    height: int
    fps: Fraction
    clips: tuple[PlacedClip, ...]
    joins: tuple[Join, ...]
    """One fewer than there are clips."""

    @property
    def frames(self) -> int:
        return self.clips[-1].end

    @property
    def seconds(self) -> Fraction:
        return self.frames / self.fps

    def sample_at(self, frame: int) -> int:
        """The audio sample at which a frame of the video begins."""
        return nearest(frame * SAMPLE_RATE / self.fps)

    def frame_at(self, seconds: float) -> int:
        """The frame of the video that begins nearest to a time."""
        return nearest(exact(seconds) * self.fps)

    def chapters(self) -> Iterator[tuple[Fraction, Fraction, str]]:
        """(start, end, title) of each clip, seconds: without gaps, a border in the middle of each
        transition."""
        borders = [
            0,
            *(clip.first + join.dissolve // 2 for clip, join in self._joined()),
            self.frames,
        ]
        for placed, start, end in zip(self.clips, borders, borders[1:], strict=False):
            yield start / self.fps, end / self.fps, placed.clip.title or f"Clip {placed.number + 1}"

    def _joined(self) -> Iterator[tuple[PlacedClip, Join]]:
        return zip(self.clips[1:], self.joins, strict=True)


def plan_video(timeline: Timeline, sources: Mapping[str, TimelineSource]) -> VideoPlan:
    """Lays the clips out.

    Raises:
        TaskError: `invalid_task` naming the field that does not fit its input.
    """
    videos = [_video_of(n, clip, sources) for n, clip in enumerate(timeline.clips)]
    moving = [
        video.fps
        for clip, video in zip(timeline.clips, videos, strict=True)
        if not sources[clip.input].is_still
    ]
    fps = video_rate(timeline.output.fps, moving)
    width, height = video_size(timeline.output, videos[0])
    lengths = [
        _frames_of(n, clip, sources[clip.input], fps) for n, clip in enumerate(timeline.clips)
    ]
    joins = [join_of(transition, fps) for transition in timeline.joins]
    _check_room(lengths, joins)
    placed: list[PlacedClip] = []
    first = 0
    for n, (clip, video, frames) in enumerate(zip(timeline.clips, videos, lengths, strict=True)):
        first -= joins[n - 1].dissolve if n else 0
        start = Fraction(0) if sources[clip.input].is_still else exact(clip.start)
        placed.append(
            PlacedClip(n, clip, sources[clip.input], video, start, exact(clip.speed), first, frames)
        )
        first += frames
    plan = VideoPlan(width, height, fps, tuple(placed), tuple(joins))
    if plan.seconds > MAX_VIDEO_SECONDS:
        raise refused("clips", f"the video would be longer than {MAX_VIDEO_SECONDS} seconds")
    return plan


def exact(value: float) -> Fraction:
    """A decimal number as the caller wrote it: 0.1 is 1/10."""
    return Fraction(repr(value))


def nearest(value: Fraction) -> int:
    """The nearest whole number, halves up."""
    return math.floor(value + Fraction(1, 2))


def video_rate(wanted: float | None, rates: Sequence[Fraction]) -> Fraction:
    """Frames per second of the video: the wanted ones, else the standard rate nearest to the
    highest of `rates`, those of the clips that move; 25 when none does."""
    if wanted is None:
        highest = max(rates, default=Fraction(25))
        return min(STANDARD_RATES, key=lambda rate: abs(rate - highest))
    rate = exact(wanted)
    whole = Fraction(math.ceil(rate))
    television = whole * 1000 / 1001
    return television if rate != whole and abs(rate - television) < Fraction(1, 200) else rate


def video_size(output: TimelineOutput, first: SourceVideo) -> tuple[int, int]:
    """Width and height of the video, even."""
    aspect = first.shown_width / first.height
    if output.proxy:
        scale = min(
            PROXY_BOX_PX[0] / first.shown_width,
            PROXY_BOX_PX[1] / Fraction(first.height),
            Fraction(1),
        )
        return even(first.shown_width * scale), even(first.height * scale)
    if output.width and output.height:
        return output.width, output.height
    if output.width:
        return output.width, even(output.width / aspect)
    if output.height:
        return even(output.height * aspect), output.height
    return even(first.shown_width), even(Fraction(first.height))


def even(length: Fraction) -> int:
    """The nearest even number of pixels, at least 16."""
    return max(16, 2 * nearest(length / 2))


def join_of(transition: Transition, fps: Fraction) -> Join:
    """A transition in frames."""
    if transition.kind == "cut":
        return Join()
    frames = max(1, nearest(exact(transition.seconds) * fps))
    if transition.kind == "dissolve":
        return Join(dissolve=frames)
    return Join(fade_out=frames // 2, fade_in=frames - frames // 2)


def _video_of(
    number: int, clip: TimelineClip, sources: Mapping[str, TimelineSource]
) -> SourceVideo:
    video = sources[clip.input].video
    if video is None:
        raise refused(
            f"clips.{number}.input", "holds no image and no video; audio alone goes into music"
        )
    return video


def _frames_of(number: int, clip: TimelineClip, source: TimelineSource, fps: Fraction) -> int:
    end = _end_of(number, clip, source)
    frames = nearest((end - exact(clip.start)) / exact(clip.speed) * fps)
    if frames < 1:
        raise refused(f"clips.{number}", "is shorter than half a frame of the video")
    return frames


def _end_of(number: int, clip: TimelineClip, source: TimelineSource) -> Fraction:
    """Second of the source at which a clip ends."""
    if source.is_still or source.seconds is None:
        if clip.end is None:
            raise refused(
                f"clips.{number}.end", "the input does not say how long it is: give an end"
            )
        return exact(clip.end)
    length = source.seconds
    if exact(clip.start) >= length:
        raise refused(
            f"clips.{number}.start",
            f"lies after the end of the input, which has {float(length):.3f} seconds",
        )
    if clip.end is None:
        return length
    if exact(clip.end) > length + _END_TOLERANCE:
        raise refused(
            f"clips.{number}.end",
            f"lies after the end of the input, which has {float(length):.3f} seconds",
        )
    return min(exact(clip.end), length)


def _check_room(lengths: Sequence[int], joins: Sequence[Join]) -> None:
    """Refuses a clip whose transitions would run into each other."""
    for number, frames in enumerate(lengths):
        before = joins[number - 1] if number else Join()
        after = joins[number] if number < len(joins) else Join()
        needed = before.dissolve + before.fade_in + after.dissolve + after.fade_out
        if needed > frames:
            raise refused(
                f"clips.{number}",
                f"has {frames} frames in the video, its transitions need {needed}",
            )
