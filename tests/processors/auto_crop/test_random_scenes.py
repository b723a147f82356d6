"""auto_crop's plan of scenes that nobody thought of: made at random, hostile boxes, odd pictures
and uneven times among them. What the plan promises of any of them is held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.candidates import SubjectTrack
from gpu_worker_processors.auto_crop.path import ShotTimeline
from gpu_worker_processors.auto_crop.plan import CropPlan, plan_crop

PICTURES = [(1280, 720), (1279, 719), (720, 1280), (640, 480), (333, 777), (400, 400), (1920, 1080)]
ASPECTS = ["9:16", "1:1", "4:5", "16:9", "21:9"]


@dataclass(frozen=True)
class Scene:
    picture: tuple[int, int]
    timeline: ShotTimeline
    tracks: list[SubjectTrack]
    params: AutoCropParams


def scene(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    picture, fps = PICTURES[rng.integers(len(PICTURES))], float(rng.choice([5, 24, 30, 60]))
    frames = int(rng.choice([1, 2, 3, 7, 30, 120, 300]))
    times = np.arange(frames) / fps
    if rng.random() < 0.2:
        times = np.cumsum(rng.choice([1e-3, 0.02, 0.1, 0.5], frames))
        times -= times[0]
    cuts = np.unique(rng.integers(0, frames, rng.integers(1, 6)) * (rng.random() < 0.7))
    timeline = ShotTimeline(times, np.union1d(0, cuts).astype(np.int64))
    tracks = [
        one
        for one in (
            _somebody(rng, index + 1, picture, timeline, fps) for index in range(rng.integers(0, 7))
        )
        if one
    ]
    params = AutoCropParams(
        target_aspect=str(rng.choice(ASPECTS)),
        padding=float(rng.choice([0, 0.2, 1])),
        smoothing=float(rng.choice([0, 0.5, 0.8, 1])),
        anticipation=float(rng.choice([0, 0.5, 5])),
        zoom=float(rng.choice([1, 1, 1.5, 3])),
        fallback=rng.choice(np.array(["blur", "pad", "crop"])),
        overrides=[_wish(rng, times, tracks) for _ in range(rng.integers(1, 4))]
        if frames > 5 and rng.random() < 0.3
        else [],
        framing="subject" if seed % 6 == 0 else "group",
    )
    return Scene(picture, timeline, tracks, params)


def _somebody(
    rng: np.random.Generator,
    track_id: int,
    picture: tuple[int, int],
    timeline: ShotTimeline,
    fps: float,
) -> SubjectTrack | None:
    count = len(timeline.times)
    begin = int(rng.integers(0, count)) if rng.random() < 0.5 else 0
    frames = np.arange(begin, count if rng.random() < 0.5 else rng.integers(begin, count) + 1)
    frames = frames[rng.random(len(frames)) < rng.choice([0.3, 0.95, 1])]
    width, height = picture
    is_ball = rng.random() < 0.2
    tall = height * (rng.uniform(0.02, 0.06) if is_ball else rng.uniform(0.1, 0.95))
    wide = tall * (1 if is_ball else rng.uniform(0.25, 0.7))
    way = rng.normal(0, width * 0.03) * frames / fps + width * 0.3 * rng.random() * np.sin(
        frames / fps / rng.uniform(0.2, 2)
    )
    x, y = (
        rng.uniform(0, width) + way + rng.normal(0, 2, len(frames)),
        np.full(len(frames), rng.uniform(0.2, 0.9) * height),
    )
    boxes = np.stack([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], 1)
    boxes *= rng.choice([1, 1, 1, 1, 1, 1, 1e4])  # beyond all measure, on purpose
    inside = (np.minimum(boxes[:, 2:], picture) > np.maximum(boxes[:, :2], 0)).all(1)
    if not inside.any():
        return None
    score = np.full(inside.sum(), rng.choice([0, 0.5, 0.9]), np.float32)
    name = "sports ball" if is_ball else "person"
    return SubjectTrack(
        track_id, name, frames[inside].astype(np.int64), boxes[inside].astype(np.float32), score
    )


def _wish(
    rng: np.random.Generator, times: NDArray[np.float64], tracks: list[SubjectTrack]
) -> dict[str, object]:
    begin = int(rng.integers(0, len(times) - 1))
    wishes: list[dict[str, object]] = [
        {"x": 0.0},
        {"y": 0.0},
        {"layout": "crop"},
        {"layout": "pad"},
    ]
    wishes += [{"subject": one.track_id} for one in tracks]
    time = {
        "start_time": float(times[begin]),
        "end_time": float(times[rng.integers(begin + 1, len(times))]),
    }
    return time | wishes[rng.integers(len(wishes))]


def shares_in_view(one: Scene, found: CropPlan) -> list[float]:
    """Of each segment of a second or more that is widened for some: the share of its frames that
    show whole all of them who are there, cut off where the picture is."""
    shares: list[float] = []
    for segment in found.segments:
        first, stop = segment.start_frame, segment.end_frame + 1
        is_wide = (
            found.path.windows[first, 2:] > found.size
        ).any() and "do not fit together" in segment.subject.reason
        if not is_wide or segment.end_time - segment.start_time < 1:
            continue
        whole = np.ones(stop - first, bool)
        for track in one.tracks:
            if track.track_id in segment.subject.track_ids:
                here = (track.frames >= first) & (track.frames < stop)
                windows = found.path.windows[track.frames[here]]
                boxes = np.clip(track.boxes[here].astype(float), 0, one.picture * 2)
                near, far = (
                    boxes[:, :2] - windows[:, :2],
                    windows[:, :2] + windows[:, 2:] - boxes[:, 2:],
                )
                whole[track.frames[here] - first] &= (np.minimum(near, far) > -0.02).all(1)
        shares.append(float(whole.mean()))
    return shares


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_windows_stay_in_the_picture_with_one_size_for_each_view() -> None:
    shares: list[float] = []
    for seed in range(300):
        one = scene(seed)
        found = plan_crop(one.tracks, one.timeline, one.picture, one.params)
        windows = found.path.windows
        assert np.isfinite(windows).all() and (windows[:, :2] >= 0).all(), seed
        assert (windows[:, :2] + windows[:, 2:] <= np.array(one.picture) + 1e-9).all(), seed
        assert (windows[:, 2:] >= found.size).all(), seed
        changes = 1 + np.flatnonzero((np.diff(windows[:, 2:], axis=0) != 0).any(1))
        starts = [segment.start_frame for segment in found.segments]
        assert np.isin(
            changes, starts if one.params.overrides else one.timeline.shot_starts
        ).all(), seed
        shares += shares_in_view(one, found)
    print(
        f"{len(shares)} wide segments; all in view in {np.mean(shares):.2%} of frames, at least"
        f" {min(shares):.1%} in one"
    )
    assert len(shares) > 20 and np.mean(shares) >= 0.99 and np.mean(np.array(shares) < 0.95) <= 0.05
