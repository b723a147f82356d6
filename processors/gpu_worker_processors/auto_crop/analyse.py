"""The first pass over the video: when its frames are, where its shots start, who is where.

With a detector everything is found in one decode. With tracks that came along, or with the user's
keyframes, only the times are wanted, and those the container lists; it is decoded where its list
cannot be relied on. Boxes are measured in the upright image with square pixels from here on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError, TrackParams
from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_client.protocol.boxes import CONFIDENCE, PX, BoxColumns
from gpu_worker_client.protocol.columnar import MAX_BOXES
from gpu_worker_processors.auto_crop.candidates import SubjectTrack
from gpu_worker_processors.auto_crop.canvas import square_size
from gpu_worker_processors.auto_crop.importance import middle
from gpu_worker_processors.auto_crop.path import ShotTimeline
from gpu_worker_processors.auto_crop.tracks_file import INPUT_NAME, check_frames, read_tracks
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.detect_scenes.scenes import FrameTimes
from gpu_worker_processors.media.bars import BarFinder
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import MediaInfo, VideoInfo, require_video
from gpu_worker_processors.track.detectors.base import Detector
from gpu_worker_processors.track.follow import Feed
from gpu_worker_processors.track.loop import FrameSource, run_loop
from gpu_worker_processors.track.store import TrackStore

_SHORT_GAP_SECONDS = 0.3
"""As long as a ball may be missed by the track task and still be drawn through."""
_LONGEST_STRIDE = 1000
"""The largest `frame_stride` that a track task accepts."""
_BESIDE_SHARE = 0.1
"""Of a track's frames: less are slips of the detector at the image's edge."""
_MIN_STEP_SECONDS = 1e-3
"""Between frames, for the path: a file whose timestamps repeat must not ask for infinite speed.
Matroska's own resolution."""


@dataclass(frozen=True)
class Analysis:
    tracks: tuple[SubjectTrack, ...]
    timeline: ShotTimeline
    times: FrameTimes
    """The times of all frames."""
    images: NDArray[np.int64] | None = None
    """Shape (shots, 4): x1, y1, x2, y2 of what each shot fills; None where no shot has bars."""
    is_listed: bool = False
    """The times are the container's word: whoever decodes it must compare."""


def analyse(
    job: LocalJob, info: MediaInfo, detector: Detector | None, *, may_list: bool = True
) -> Analysis:
    """Who is where on every frame of the job's input.

    Args:
        detector: None when tracks or keyframes came with the job.
        may_list: believe the container's list of frames; with False every frame is decoded.

    Raises:
        TaskError: of the input, of the detector; `invalid_task` for tracks of another video.
    """
    video = require_video(info)
    if detector is not None:
        return _followed(job, info, video, detector)
    result = read_tracks(job.inputs[INPUT_NAME], video) if INPUT_NAME in job.inputs else None
    reader = FrameReader(job.require_input(), info, limits=job.limits)
    bars = BarFinder(reader) if result is not None and not job.params.keep_bars else None
    # Nobody would notice a wrong list where nothing is decoded later and no tracks say how many
    # frames there are.
    counted = None if result is None else result.total_frames
    may_list &= bars is None and (counted is not None or not job.params.dry_run)
    listed = reader.listed() if may_list else None
    if listed is not None and counted not in (None, len(listed)):
        listed = None
    times = FrameTimes(video.time_base)
    if listed is not None:
        for pts, duration in listed:
            times.add(pts, duration)
    else:
        for item in bars or reader:
            times.add(item.pts, item.duration)
            _report(job, item.index + 1, video)
    job.warnings.extend(reader.warnings)
    if result is None:
        return Analysis((), _timeline(times, ()), times, is_listed=listed is not None)
    check_frames(result, len(times))
    cuts = [cut.frame for cut in result.cuts]
    tracks = [
        _arrays(track.track_id, track.class_name, track.frames.columns, video)
        for track in result.tracks
    ]
    timeline = _timeline(times, cuts)
    images = without_bars(bars, tracks, timeline, video) if bars else None
    whole = without_gaps(tracks, cuts, float(video.fps))
    return Analysis(whole, timeline, times, images, listed is not None)


def _followed(job: LocalJob, info: MediaInfo, video: VideoInfo, detector: Detector) -> Analysis:
    """The loop of the track task, at its defaults."""
    crop: AutoCropParams = job.params
    params = TrackParams(
        model=crop.model,
        classes=list(detector.class_names),
        confidence_threshold=crop.confidence_threshold,
        frame_stride=crop.frame_stride,
    )
    with TrackStore(job.work_dir) as store:
        reader = FrameReader(job.require_input(), info, limits=job.limits)
        bars = None if crop.keep_bars else BarFinder(reader)
        source = FrameSource(
            bars or reader,
            video,
            detector,
            params.frame_stride,
            with_gray=params.track_algorithm == "botsort",
        )
        feed = Feed(params, detector.class_names, float(video.fps), store, source.gray_scale)
        run_loop(source, detector, feed.add, lambda done: _report(job, done, video))
        job.warnings.extend(reader.warnings)
        tracks = [
            _arrays(head.track_id, head.class_name, boxes, video)
            for head, boxes in store.by_track()
        ]
    cuts = [cut.frame for cut in feed.cuts]
    timeline = _timeline(source.times, cuts)
    images = without_bars(bars, tracks, timeline, video) if bars else None
    return Analysis(without_gaps(tracks, cuts, float(video.fps)), timeline, source.times, images)


def _report(job: LocalJob, done: int, video: VideoInfo) -> None:
    total = video.expected_frames
    job.progress("process", done, max(done, total) if total else None)


def _timeline(times: FrameTimes, cuts: Sequence[int]) -> ShotTimeline:
    seconds = np.fromiter(
        (times.seconds(index) for index in range(len(times))), np.float64, len(times)
    )
    return ShotTimeline(rising(seconds), np.array([0, *cuts], np.int64))


def without_bars(
    bars: BarFinder, tracks: Sequence[SubjectTrack], timeline: ShotTimeline, video: VideoInfo
) -> NDArray[np.int64] | None:
    """`Analysis.images`. Where somebody is tracked in them, the bars are a dark part of a scene."""
    left, top, right, bottom = np.array(bars.margins(timeline.shot_starts.tolist())).T
    across, width = square_size(video)[0] / video.width, square_size(video)[0]
    images = np.stack(
        [
            np.ceil(left * across).astype(np.int64),
            top,
            np.floor(width - right * across).astype(np.int64),
            video.height - bottom,
        ],
        axis=1,
    )
    shot = timeline.shot_of()
    for track in tracks:
        middles, image = middle(track.boxes.astype(np.float64)), images[shot[track.frames]]
        beside = np.any((middles < image[:, :2]) | (middles > image[:, 2:]), axis=1)
        if beside.sum() > _BESIDE_SHARE * len(beside):
            images[shot[track.frames[beside]]] = 0, 0, *square_size(video)
    return images if (images != (0, 0, *square_size(video))).any() else None


def rising(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same times, shape (n,), none less than a millisecond after the one before."""
    if len(seconds) < 2 or np.diff(seconds).min() >= _MIN_STEP_SECONDS:
        return seconds
    steps = _MIN_STEP_SECONDS * np.arange(len(seconds))
    return np.asarray(np.maximum.accumulate(seconds - steps) + steps, np.float64)


def without_gaps(
    tracks: Sequence[SubjectTrack], cuts: Sequence[int], fps: float
) -> tuple[SubjectTrack, ...]:
    """The same tracks, seen in every frame of their short gaps: boxes on straight lines between
    those that were found.

    Tracks of every n-th frame only become whole by it. A gap is short up to 0.3 s, and up to the
    distance of the frames that were searched; over a cut nothing is filled.

    Raises:
        TaskError: `media_limit`: more boxes than a track task may answer.
    """
    steps = [int(np.diff(track.frames).min()) for track in tracks if len(track.frames) > 1]
    longest = max(int(_SHORT_GAP_SECONDS * fps), min(min(steps, default=1), _LONGEST_STRIDE))
    whole = list[SubjectTrack]()
    room = MAX_BOXES
    for track in tracks:
        gaps = np.diff(track.frames)
        room -= len(track.frames) + int(np.where(gaps <= longest, gaps - 1, 0).sum())
        if room < 0:
            message = (
                f"with their short gaps filled the tracks have more than {MAX_BOXES} boxes; track"
                " fewer classes"
            )
            raise TaskError(ErrorCode.media_limit, message)
        whole.append(_without_gaps(track, np.asarray(cuts, np.int64), longest))
    return tuple(whole)


def _without_gaps(track: SubjectTrack, cuts: NDArray[np.int64], longest: int) -> SubjectTrack:
    found = track.frames
    steps = np.diff(found)
    fill = (steps > 1) & (steps <= longest)
    fill &= np.searchsorted(cuts, found[:-1], "right") == np.searchsorted(cuts, found[1:], "right")
    if not fill.any():
        return track
    repeats = np.append(np.where(fill, steps, 1), 1)
    first = np.repeat(
        np.cumsum(repeats) - repeats, repeats
    )  # where each found frame's run begins among all of them
    frames = np.repeat(found, repeats) + np.arange(len(first)) - first
    values = np.column_stack([track.boxes, track.scores])
    dense = np.stack([np.interp(frames, found, column) for column in values.T], axis=1).astype(
        np.float32
    )
    return replace(track, frames=frames, boxes=dense[:, :4], scores=dense[:, 4])


def _squares(video: VideoInfo) -> NDArray[np.float32]:
    """Factors of x1, y1, x2, y2: from pixels as they are stored to square ones."""
    across = square_size(video)[0] / video.width
    return np.array([across, 1, across, 1], np.float32)


def _arrays(track_id: int, class_name: str, columns: BoxColumns, video: VideoInfo) -> SubjectTrack:
    """Boxes in square pixels; those that show nothing of the image are left out."""
    boxes = np.array(columns.corners, np.float32).reshape(-1, 4) / PX
    inside = (
        np.minimum(boxes[:, 2:], (video.width, video.height)) > np.maximum(boxes[:, :2], 0)
    ).all(1)
    return SubjectTrack(
        track_id,
        class_name,
        np.array(columns.frames, np.int64)[inside],
        (boxes * _squares(video)).astype(np.float32)[inside],
        (np.array(columns.confidences) / CONFIDENCE).astype(np.float32)[inside],
    )
