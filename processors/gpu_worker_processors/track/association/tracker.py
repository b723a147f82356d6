"""The tracker of one feed: detections of one frame after the other in, boxes with identities out.

Accepts frames in display order with their true times, at any and at varying rates: prediction,
noise and memory go by seconds. Guarantees that a track has one class; that a reported box is a
detection's own, or marked as interpolated; that ids count from 1 without a hole; that equal input
gives equal output; that memory is bounded by what was seen in the last second; and that
`from_state(state())` at any frame goes on exactly as if nothing had happened in between.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.track.association.camera import Camera
from gpu_worker_processors.track.association.cascade import Frame, Rules, continued
from gpu_worker_processors.track.association.motion import TICK_SECONDS
from gpu_worker_processors.track.association.observation import Observation
from gpu_worker_processors.track.association.points import Point, Points, is_point
from gpu_worker_processors.track.association.state_json import floats, integers
from gpu_worker_processors.track.association.tracks import LIVE, LOST, TENTATIVE, Sighting, Tracks
from gpu_worker_processors.track.detections import Detections

Algorithm = Literal["bytetrack", "botsort"]
"""`botsort` is `bytetrack` with the camera's motion taken out of every prediction; it needs the
grey images."""

STATE_VERSION = 1
MAX_FRAME = 2**30
MAX_ID = 2**31 - 1
"""Those of the columns in which tracks are stored; half the ids are left for the piece to come."""

MAX_STEP_SECONDS = 10.0
"""A longer pause is predicted as this long: every track is over by then."""


class Tracker:
    """See the module. Not thread-safe."""

    def __init__(
        self,
        algorithm: Algorithm,
        class_names: tuple[str, ...],
        fps: float,
        confidence_threshold: float = 0.5,
        rules: Rules | None = None,
    ) -> None:
        """Make a tracker that has seen nothing.

        Args:
            algorithm: "bytetrack" or "botsort".
            class_names: the detector's, which `Detections.classes` indexes.
            fps: nominal frames/s of the frames that will come (after any stride): the step assumed
                where time stands still.
            confidence_threshold: boxes with a lower score help to keep a track but are not
                reported. 0..1.
            rules: other constants than the measured ones.
        """
        self._algorithm, self._class_names, self._fps = algorithm, class_names, fps
        self._threshold = confidence_threshold
        self._rules = rules or Rules()
        self._is_point = np.array([is_point(name) for name in class_names], np.bool_)
        self._next_id = 1
        self._last_frame, self._last_time = -1, 0.0
        self._camera = Camera()
        self.reset()

    def reset(self) -> None:
        """A cut to another shot: nothing matches across, ids go on."""
        self._tracks = Tracks()
        self._points = Points(self._report_point, self._threshold, self._rules.birth_score)
        self._camera.forget()
        self._fresh = True

    @property
    def last_frame(self) -> int:
        """Index of the last frame that was given, -1 before the first: a feed that goes on
        continues after it."""
        return self._last_frame

    @property
    def last_time_seconds(self) -> float:
        """Its time."""
        return self._last_time

    def update(
        self,
        detections: Detections,
        frame: int,
        time_seconds: float,
        gray: NDArray[np.uint8] | None = None,
        scale: float = 1.0,
    ) -> list[Observation]:
        """Take in the next frame; answer with what can be reported now.

        Frames of one track rise from call to call. Most observations are of `frame`; the first box
        of a track comes with the second one that confirms it, and boxes that fill a gap come just
        before the box that ends it.

        Args:
            detections: all found, weak ones (0.1) too.
            frame: index of the source frame, higher than the last one.
            time_seconds: its time, not lower than the last one.
            gray: the upright frame, small, uint8 of shape (height, width); only `botsort` uses it,
                and does without where it is None.
            scale: source pixels per pixel of `gray`.
        """
        elapsed = self._elapsed(time_seconds)
        self._forget_the_long_lost(time_seconds)
        self._tracks.step(elapsed / TICK_SECONDS)
        boxes = detections.boxes.astype(np.float64)
        self._follow_camera(gray, scale, boxes)
        point = self._is_point[detections.classes]
        seen = Frame(
            boxes[~point], detections.scores[~point].astype(np.float64), detections.classes[~point]
        )
        out = self._update_boxes(seen, frame, time_seconds)
        out += self._points.update(
            self._balls(detections, point, frame, time_seconds), frame, time_seconds, self._fresh
        )
        self._fresh = self._fresh and len(detections) == 0
        self._last_frame, self._last_time = frame, time_seconds
        return out

    def _elapsed(self, now: float) -> float:
        """Seconds since the last frame; a clock that stands still or runs back counts as one
        nominal step."""
        if self._last_frame < 0:
            return 0.0
        elapsed = now - self._last_time
        return min(elapsed, MAX_STEP_SECONDS) if elapsed > 0 else 1 / self._fps

    def _forget_the_long_lost(self, now: float) -> None:
        """At a few frames a second the memory reaches over two missing frames all the same."""
        memory = max(self._rules.lost_seconds, 3 / self._fps) + 1e-9
        long_lost = now - self._tracks.seen > memory
        if long_lost.any():
            self._tracks.keep(~long_lost)

    def _follow_camera(
        self, gray: NDArray[np.uint8] | None, scale: float, boxes: NDArray[np.float64]
    ) -> None:
        if self._algorithm != "botsort":
            return
        if gray is None:
            self._camera.forget()
            return
        warp = self._camera.follow(gray, scale)
        if warp is not None:
            self._tracks.warp(warp)
            self._points.warp(warp)
        height, width = gray.shape
        self._camera.seek_corners(scale, (height, width), boxes)

    def _balls(
        self, detections: Detections, point: NDArray[np.bool_], frame: int, now: float
    ) -> list[tuple[int, Sighting]]:
        """The detections to be tracked as points."""
        if not point.any():
            return []
        balls = detections.where(point & (detections.scores >= self._rules.weak_score))
        return [
            (int(class_index), _sighting(frame, now, box, score))
            for box, score, class_index in zip(
                balls.boxes, balls.scores, balls.classes, strict=True
            )
        ]

    def _update_boxes(self, seen: Frame, frame: int, now: float) -> list[Observation]:
        tracks = self._tracks
        track_of = continued(tracks, seen, self._rules)
        found = np.nonzero(track_of >= 0)[0]
        rows = track_of[found]
        tracks.motion.correct(rows, seen.boxes[found])
        tracks.seen[rows] = now
        tracks.last[rows] = seen.boxes[found]
        tracks.status[rows] = LIVE
        out: list[Observation] = []
        for column, row in zip(found.tolist(), rows.tolist(), strict=True):
            held, tracks.held[row] = tracks.held[row], None
            out += self._reported(row, held) if held else []
            out += self._reported(
                row, _sighting(frame, now, seen.boxes[column], seen.scores[column])
            )
        self._drop(rows)
        return out + self._new_tracks(seen, track_of < 0, frame, now)

    def _drop(self, rows: NDArray[np.intp]) -> None:
        """Of the tracks that were not seen, mark the trusted ones as lost and drop the tentative
        ones."""
        tracks = self._tracks
        missing = np.ones(len(tracks), np.bool_)
        missing[rows] = False
        gone = missing & (tracks.status == TENTATIVE)
        tracks.status[missing & (tracks.status == LIVE)] = LOST
        if gone.any():
            tracks.keep(~gone)

    def _new_tracks(
        self, seen: Frame, free: NDArray[np.bool_], frame: int, now: float
    ) -> list[Observation]:
        """A track for each unmatched detection: trusted at once in the first frame of a shot,
        tentative later."""
        new = np.nonzero(free & (seen.scores >= self._rules.birth_score))[0]
        if len(new) == 0:
            return []
        sightings = [_sighting(frame, now, seen.boxes[i], seen.scores[i]) for i in new.tolist()]
        first = len(self._tracks)
        held: list[Sighting | None] = [None if self._fresh else one for one in sightings]
        self._tracks.append(
            seen.boxes[new], seen.classes[new], LIVE if self._fresh else TENTATIVE, held, now
        )
        if not self._fresh:
            return []
        return [
            one
            for i, sighting in enumerate(sightings)
            for one in self._reported(first + i, sighting)
        ]

    def _reported(self, row: int, sighting: Sighting) -> list[Observation]:
        """The observation of one sighting, or none if it is too weak to be reported."""
        if sighting.score < self._threshold:
            return []
        ids = self._tracks.ids
        if ids[row] == 0:
            ids[row] = self._new_id()
        return [self._observation(int(ids[row]), int(self._tracks.classes[row]), sighting, False)]

    def _report_point(self, point: Point, sighting: Sighting, interpolated: bool) -> Observation:
        point.id = point.id or self._new_id()
        return self._observation(point.id, point.class_index, sighting, interpolated)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _observation(
        self, track_id: int, class_index: int, sighting: Sighting, interpolated: bool
    ) -> Observation:
        name = self._class_names[class_index]
        return Observation(
            track_id, name, sighting.frame, sighting.box, sighting.score, interpolated
        )

    def state(self) -> dict[str, Any]:
        """All that the next frame depends on, as JSON-able values; under 100 KB with 50 tracks."""
        return {
            "version": STATE_VERSION,
            "algorithm": self._algorithm,
            "class_names": list(self._class_names),
            "next_id": self._next_id,
            "last_frame": self._last_frame,
            "last_time_seconds": self._last_time,
            "fresh": self._fresh,
            "tracks": self._tracks.to_json(),
            "points": self._points.to_json(),
            "camera": self._camera.to_json(),
        }

    @classmethod
    def from_state(
        cls,
        state: dict[str, Any],
        algorithm: Algorithm,
        class_names: tuple[str, ...],
        fps: float,
        confidence_threshold: float = 0.5,
        rules: Rules | None = None,
    ) -> Tracker:
        """The tracker that `state()` was taken from. The other arguments must be the ones it had;
        the threshold may change.

        Raises:
            TaskError: `invalid_task` when the state is of another version, algorithm or detector,
                or is not a state at all.
        """
        tracker = cls(algorithm, class_names, fps, confidence_threshold, rules)
        mine = {"version": STATE_VERSION, "algorithm": algorithm, "class_names": list(class_names)}
        other = sorted(name for name, value in mine.items() if state.get(name) != value)
        if other:
            raise TaskError(
                ErrorCode.invalid_task,
                f"the tracker's state was written with another {' and '.join(other)}: use the same,"
                " or start without a state",
                differs=other,
            )
        try:
            tracker._read(state)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise TaskError(
                ErrorCode.invalid_task,
                "the tracker's state is not one that a tracker wrote: pass it back unchanged",
            ) from error
        return tracker

    def _read(self, state: dict[str, Any]) -> None:
        self._next_id = int(integers(state["next_id"], (), 1, MAX_ID // 2))
        self._last_frame = int(integers(state["last_frame"], (), -1, MAX_FRAME))
        self._last_time = float(floats(state["last_time_seconds"], ()))
        self._fresh = bool(state["fresh"])
        self._tracks = Tracks.from_json(state["tracks"], len(self._class_names))
        self._points.read(state["points"], len(self._class_names))
        self._camera = Camera.from_json(state["camera"])
        self._check_past()

    def _check_past(self) -> None:
        """Nothing of a state is later than the state, or it would never be over; no id is used
        twice, or will be again."""
        points = self._points.items
        sightings = [one for one in self._tracks.held if one is not None]
        sightings += [
            one
            for point in points
            for one in (point.last, point.held, point.reported)
            if one is not None
        ]
        moments = [(one.frame, one.time_seconds) for one in sightings] + [
            m for point in points for m in point.missed
        ]
        if any(
            not 0 <= frame <= self._last_frame or seconds > self._last_time
            for frame, seconds in moments
        ):
            raise ValueError("something was seen after the last frame")
        if np.any(self._tracks.seen > self._last_time):
            raise ValueError("a track was seen after the last frame")
        ids = [
            number
            for number in [*self._tracks.ids.tolist(), *(point.id for point in points)]
            if number
        ]
        if len(set(ids)) != len(ids) or any(number >= self._next_id for number in ids):
            raise ValueError("an id stands twice, or is still to be given")
        if any(not self._is_point[point.class_index] for point in points):
            raise ValueError("a thing that is no ball moves like one")


def _sighting(frame: int, now: float, box: NDArray[Any], score: Any) -> Sighting:
    x1, y1, x2, y2 = box.tolist()
    return Sighting(frame, now, (x1, y1, x2, y2), float(score))
