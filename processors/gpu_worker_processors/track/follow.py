"""One track job from file to result: probe, run the loop, draw what was found when a file is
wanted.

Frames keep their numbers and times whatever the stride. A piece of a longer feed goes on with the
state of the piece before it: ids, speeds and who is missing carry over, frame numbers start at 0
again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from pydantic import ValidationError

from gpu_worker_client.protocol import (
    ResultWarning,
    TrackCut,
    TrackParams,
    TrackResult,
    TrackState,
    TrackVideo,
    WorkerInfo,
)
from gpu_worker_client.protocol.track import MAX_STATE_BYTES
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import VideoInfo, probe, require_video
from gpu_worker_processors.track.annotate import draw_tracks
from gpu_worker_processors.track.association import Tracker
from gpu_worker_processors.track.detectors.base import Detector
from gpu_worker_processors.track.loop import FrameSource, Step, run_loop
from gpu_worker_processors.track.store import TrackStore, packed_result
from gpu_worker_processors.track.times import time_pairs


def follow_file(job: LocalJob, detector: Detector) -> TrackResult:
    """Follows what the detector finds in the job's input. The result holds its tracks as columns.

    Raises:
        TaskError: of the input, of any stage; `invalid_task` for a state of another tracker.
    """
    started = time.monotonic()
    params: TrackParams = job.params
    info = probe(job.require_input(), job.limits)
    video = require_video(info)
    job.warnings.extend(info.warnings)
    with TrackStore(job.work_dir) as store:
        reader = FrameReader(job.require_input(), info, limits=job.limits)
        source = FrameSource(
            reader,
            video,
            detector,
            params.frame_stride,
            with_gray=params.track_algorithm == "botsort",
        )
        feed = Feed(params, detector.class_names, float(video.fps), store, source.gray_scale)
        total = run_loop(source, detector, feed.add, lambda done: _report(job, done, video))
        job.warnings.extend(reader.warnings)
        encoder = _drawn(job, store, feed.cuts)
        times = source.times
        result = packed_result(
            store,
            total_frames=total,
            seconds=time.monotonic() - started,
            cuts=feed.cuts,
            video=TrackVideo(
                width=video.width,
                height=video.height,
                fps=round(float(video.fps), 6),
                duration=times.duration_seconds,
                is_vfr=times.is_vfr,
                times=time_pairs(map(times.seconds, range(len(times)))) if times.is_vfr else [],
            ),
            state_out=_state(job, feed, total) if params.return_state else None,
        )
    # The worker fills in its own version.
    return result.model_copy(
        update={"worker": WorkerInfo(version="", device=detector.device, encoder=encoder)}
    )


def _report(job: LocalJob, done: int, video: VideoInfo) -> None:
    total = video.expected_frames
    job.progress("process", done, max(done, total) if total else None)


def _drawn(job: LocalJob, store: TrackStore, cuts: Sequence[TrackCut]) -> str | None:
    """Writes the annotated video when one is wanted; the encoder's name."""
    if job.output_path is None:
        return None
    drawn = draw_tracks(
        job.require_input(),
        job.output_path,
        store.by_frame(),
        cuts={cut.frame for cut in cuts},
        hold_frames=job.params.frame_stride,
        device=job.settings.device,
        limits=job.limits,
        progress=lambda done, total: job.progress(
            "encode", done, max(done, total) if total else None
        ),
    )
    job.warnings.extend(drawn.notes)
    return drawn.encoder.name


def _state(job: LocalJob, feed: Feed, frames: int) -> TrackState | None:
    """The state to hand on; without one where so many are in sight that it would not fit into a
    task."""
    try:
        return feed.state(frames)
    except ValidationError:
        message = (
            f"no state_out: with so many in sight it is over {MAX_STATE_BYTES} bytes, or the feed"
            " over 2^30 frames"
        )
        job.warnings.append(ResultWarning(code="state_too_large", message=message))
        return None


class Feed:
    """Steps of the loop into the tracker, what the tracker says into the store.

    Args:
        class_names: the detector's.
        fps: of the video, on average.
        store: takes the boxes.
        gray_scale: pixels of the source frame per pixel of a grey image.
    """

    def __init__(
        self,
        params: TrackParams,
        class_names: tuple[str, ...],
        fps: float,
        store: TrackStore,
        gray_scale: float,
    ) -> None:
        self.cuts: list[TrackCut] = []
        """First frames of all shots but the first."""
        self._params = params
        self._store = store
        self._gray_scale = gray_scale
        self._shots: dict[int, int] = {}
        """The shot in which each track began."""
        algorithm, rate, threshold = (
            params.track_algorithm,
            fps / params.frame_stride,
            params.confidence_threshold,
        )
        self._first_frame, self._first_seconds = 0, 0.0
        if params.state_in is None:
            self._tracker = Tracker(algorithm, class_names, rate, threshold)
            return
        self._tracker = Tracker.from_state(
            params.state_in.tracker, algorithm, class_names, rate, threshold
        )
        self._first_frame = params.state_in.frames
        pause = max(1, self._first_frame - self._tracker.last_frame)
        self._first_seconds = self._tracker.last_time_seconds + pause / fps

    def add(self, step: Step) -> None:
        """The next frame, with or without detections."""
        frame = step.frame
        if step.is_cut:
            self.cuts.append(TrackCut(frame=frame.index, time=round(frame.time_seconds, 6)))
            if self._params.reset_at_cuts:
                self._tracker.reset()
        if step.detections is None:
            return
        seen = self._tracker.update(
            step.detections,
            self._first_frame + frame.index,
            self._first_seconds + frame.time_seconds,
            frame.gray,
            self._gray_scale,
        )
        for one in seen:
            number = one.frame - self._first_frame
            if number < 0:
                continue  # of the piece before, whose result is out
            shot = self._shots.setdefault(one.track_id, len(self.cuts))
            self._store.add(
                one.track_id,
                one.class_name,
                shot,
                number,
                one.bbox,
                one.confidence,
                one.interpolated,
            )

    def state(self, frames: int) -> TrackState:
        """What the next piece goes on with.

        Args:
            frames: of this piece.

        Raises:
            ValidationError: it is over a bound of `TrackState`.
        """
        fields = {
            "track_algorithm": self._params.track_algorithm,
            "frames": self._first_frame + frames,
            "tracker": self._tracker.state(),
        }
        return TrackState.model_validate(fields)
