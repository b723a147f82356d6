"""Crop windows as numbers: their size, the user's own keyframes, and the keyframes that describe a
path.

Everything here is pixels of the upright source. Sizes are even; x and y are multiples of 0.01 px;
no window leaves the frame; straight lines in time between the keyframes of a path are the path to
within half a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import CropKeyframe, CropWindow
from gpu_worker_processors.auto_crop.l1 import Floats
from gpu_worker_processors.auto_crop.path import LEAP, ShotTimeline

MIN_SIDE_PX = 16
"""Smallest side of a window: encoders refuse less."""
SAME_ASPECT = 0.02
"""Windows whose aspect ratio is nearer than this to the output's fill it. The wire lets the two
sides of an output differ from the aspect ratio by 1 %, and even sizes by a little more when they
are small."""
_STEP = 100
"""Steps a pixel: 0.01 px is finer than any sampling shows, and short to write."""
_CLOSE_PX = 0.4
"""The largest distance of the straight lines from the path; the two roundings of 0.01 px stay
within the promised half pixel."""
_SLACK_PX = 0.02
"""What a keyframe's own rounding may put it outside the frame."""


@dataclass(frozen=True)
class CropPath:
    """A window for each frame, shape (n, 4), float64: x, y, width, height in pixels."""

    windows: Floats

    @classmethod
    def moving(
        cls, x: Floats, y: Floats, sizes: NDArray[np.int64], images: NDArray[np.int64]
    ) -> CropPath:
        """Windows at `x`, `y`, shape (n,), rounded to 0.01 px and inside the image; `sizes` and
        `images`, shape (n, 2), are the widths and heights of the windows and of the images."""
        windows = np.empty((len(x), 4))
        windows[:, 2:] = sizes
        windows[:, 0] = _on_grid(x, images[:, 0] - windows[:, 2])
        windows[:, 1] = _on_grid(y, images[:, 1] - windows[:, 3])
        return cls(windows)


def _on_grid(offsets: Floats, end: Floats) -> Floats:
    return np.clip(np.round(offsets * _STEP) / _STEP, 0, end)


def window_size(frame: tuple[int, int], aspect: float, zoom: float = 1.0) -> tuple[int, int]:
    """The largest window of an aspect ratio in a frame, made smaller by `zoom`: even numbers, each
    the nearest that fits.

    Raises:
        TaskError: `invalid_task`, when so little is left that no encoder takes it.
    """
    height = min(frame[1], frame[0] / aspect) / zoom
    width, height = (
        min(2 * round(side / 2), limit // 2 * 2)
        for side, limit in zip((height * aspect, height), frame, strict=True)
    )
    if min(width, height) < MIN_SIDE_PX:
        problem = (
            f"target_aspect and zoom leave a window of {width}x{height} in a picture of"
            f" {frame[0]}x{frame[1]}; each side must have {MIN_SIDE_PX} pixels at least"
        )
        errors = [
            {"path": "params.zoom" if zoom > 1 else "params.target_aspect", "problem": problem}
        ]
        raise TaskError(ErrorCode.invalid_task, problem, errors=errors, window=f"{width}x{height}")
    return width, height


def path_of_keyframes(
    keyframes: Sequence[CropKeyframe],
    timeline: ShotTimeline,
    size: tuple[int, int],
    frame: tuple[int, int],
    *,
    normalised: bool,
) -> CropPath:
    """The path that a user's keyframes give, exactly.

    Raises:
        TaskError: `invalid_task` naming the keyframe that leaves the image or the video.
    """
    times = np.array([_time_of(key, index, timeline) for index, key in enumerate(keyframes)])
    unordered = np.flatnonzero(np.diff(times) <= 0)
    if len(unordered):
        raise _refused(
            int(unordered[0]) + 1, "is not later than the one before; put keyframes in order"
        )
    scale = (*frame, *frame) if normalised else (1, 1, 1, 1)
    own = np.array([_window_of(key, size, scale) for key in keyframes])
    for index, (x, y, width, height) in enumerate(own):
        if min(width, height) < MIN_SIDE_PX:
            hint = "" if normalised else "; if these are shares of the frame, set normalised"
            raise _refused(
                index,
                f"is {width:g}x{height:g} pixels; each side must have {MIN_SIDE_PX} at least{hint}",
            )
        if x + width > frame[0] + _SLACK_PX or y + height > frame[1] + _SLACK_PX:
            wide, high, unit = (1, 1, "") if normalised else (*frame, " pixels")
            own_size = f"{width / scale[2]:.6g} x {height / scale[3]:.6g}"
            raise _refused(
                index,
                f"leaves the picture; the window is {own_size}, and x + width must be at most"
                f" {wide}, y + height at most {high}{unit}",
            )
    windows = np.stack(
        [np.interp(timeline.times, times, own[:, column]) for column in range(4)], axis=1
    )
    windows = np.round(windows * _STEP) / _STEP
    windows[:, 2:] = np.minimum(windows[:, 2:], frame)
    windows[:, :2] = np.clip(windows[:, :2], 0, frame - windows[:, 2:])
    return CropPath(windows)


def steps_of_keyframes(
    keyframes: Sequence[CropKeyframe], path: CropPath, timeline: ShotTimeline
) -> NDArray[np.int64]:
    """Frames on which the window is put somewhere else, as at a cut: two keyframes on neighbouring
    frames, between them more way than a subject could run, and more than twice that of the frames
    before and after: a path with a keyframe on each frame may be fast and is no row of cuts."""
    times = np.array([_time_of(key, index, timeline) for index, key in enumerate(keyframes)])
    frames = np.minimum(np.searchsorted(timeline.times, times), len(timeline.times) - 1)
    after = frames[1:][np.diff(frames) == 1]
    middle = path.windows[:, :2] + path.windows[:, 2:] / 2
    ways = np.zeros(len(middle) + 1)  # into each frame, none into the first and behind the last
    ways[1:-1] = (np.abs(np.diff(middle, axis=0)) / path.windows[1:, 2:]).max(1, initial=0)
    seconds = timeline.times[after] - timeline.times[after - 1]
    stands_out = ways[after] > 2 * np.maximum(ways[after - 1], ways[after + 1])
    return np.asarray(after[(ways[after] > LEAP[0] + LEAP[1] * seconds) & stands_out], np.int64)


def _window_of(
    key: CropKeyframe, size: tuple[int, int], scale: tuple[float, ...]
) -> tuple[float, float, float, float]:
    width = size[0] if key.width is None else key.width * scale[2]
    height = size[1] if key.height is None else key.height * scale[3]
    return key.x * scale[0], key.y * scale[1], width, height


def _time_of(key: CropKeyframe, index: int, timeline: ShotTimeline) -> float:
    times = timeline.times
    if key.frame is not None:
        if key.frame >= len(times):
            raise _refused(
                index, f"is after the last frame; the video's frames are 0 to {len(times) - 1}"
            )
        return float(times[key.frame])
    assert key.time is not None, "the wire demands one of both"
    length = float(times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1))
    if key.time > length:
        raise _refused(index, f"is after the end of the video, {length:.3f} seconds")
    return key.time


def _refused(index: int, why: str) -> TaskError:
    path = f"params.keyframes.{index}"
    return TaskError(
        ErrorCode.invalid_task, f"{path}: {why}", errors=[{"path": path, "problem": why}]
    )


def keyframes_of(path: CropPath, timeline: ShotTimeline, interval: int) -> NDArray[np.int64]:
    """Frames whose windows describe the path: the first and last of each shot, every `interval`-th
    frame between them, and as many more as it takes for straight lines in time to come within half
    a pixel of every window's position and size."""
    bounds = np.append(timeline.shot_starts, len(timeline.times))
    chosen: list[int] = []
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        marks = [*range(start, stop - 1, interval), stop - 1]
        chosen.append(start)
        for first, last in zip(marks, marks[1:], strict=False):
            chosen.extend(_corners(path.windows, timeline.times, first, last))
    return np.array(chosen, np.int64)


def _corners(windows: Floats, times: Floats, first: int, last: int) -> list[int]:
    """Frames after `first` up to `last` between which straight lines are close enough: split where
    they are farthest off (U. Ramer 1972; D. Douglas, T. Peucker 1973)."""
    stack, found = [(first, last)], list[int]()
    while stack:
        first, end = stack.pop()
        share = (times[first : end + 1] - times[first]) / (times[end] - times[first])
        line = windows[first] + share[:, None] * (windows[end] - windows[first])
        off = np.abs(windows[first : end + 1] - line).max(1)
        worst = int(off.argmax())
        if off[worst] > _CLOSE_PX and end - first > 1:
            stack += [(first + worst, end), (first, first + worst)]
        else:
            found.append(end)
    return found


def wire_keyframes(
    path: CropPath,
    frames: NDArray[np.int64],
    timeline: ShotTimeline,
    frame: tuple[int, int],
    *,
    normalised: bool,
) -> list[CropWindow]:
    """The windows at `frames` as the answer has them."""
    scale = np.array([*frame, *frame]) if normalised else np.ones(4)
    digits = 6 if normalised else 2  # a millionth of an image 8000 wide is 0.008 px
    rows = np.round(path.windows[frames] / scale, digits).tolist()
    return [
        CropWindow(
            frame=index,
            time=round(float(timeline.times[index]), 6),
            x=x,
            y=y,
            width=width,
            height=height,
        )
        for index, (x, y, width, height) in zip(frames.tolist(), rows, strict=True)
    ]
