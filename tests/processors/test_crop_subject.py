"""Who is followed, how a shot is shown, and the windows that come of it, on scenes whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropKeyframe, CropOverride
from gpu_worker_processors.auto_crop.path import Timeline
from gpu_worker_processors.auto_crop.plan import CropPlan, plan_crop
from gpu_worker_processors.auto_crop.subject import SubjectTrack
from gpu_worker_processors.auto_crop.windows import CropPath, keyframes_of, window_size, wire_keyframes

FRAME = (1280, 720)
FPS = 25


def track(
    track_id: int,
    x: float | NDArray[np.float64],
    frames: range | NDArray[np.int64],
    *,
    name: str = "person",
    size: tuple[float, float] = (60, 150),
    y: float = 400,
    score: float = 0.9,
) -> SubjectTrack:
    middle = np.broadcast_to(np.asarray(x, float), (len(frames),))
    boxes = np.stack([middle - size[0] / 2, np.full(len(frames), y - size[1] / 2)], 1)
    boxes = np.concatenate([boxes, boxes + size], 1).astype(np.float32)
    return SubjectTrack(track_id, name, np.array(frames), boxes, np.full(len(frames), score, np.float32))


def timeline(frames: int, *cuts: int) -> Timeline:
    return Timeline(np.arange(frames) / FPS, np.array([0, *cuts], np.int64))


def plan(tracks: list[SubjectTrack], frames: int, *cuts: int, **params: object) -> CropPlan:
    return plan_crop(tracks, timeline(frames, *cuts), FRAME, AutoCropParams(**params))  # type: ignore[arg-type]


def inside(found: CropPlan, one: SubjectTrack, frames: slice = slice(None)) -> NDArray[np.bool_]:
    windows = found.path.windows[one.frames][frames]
    boxes = one.boxes[frames]
    return (boxes[:, 0] >= windows[:, 0] - 0.01) & (boxes[:, 2] <= windows[:, 0] + windows[:, 2] + 0.01)


def swaying(center: float, width: float, period: float, frames: range) -> NDArray[np.float64]:
    return center + width * np.sin(2 * np.pi * np.array(frames) / FPS / period)


# ------------------------------------------------------------------ auto


def test_one_person_is_the_subject() -> None:
    frames = range(200)
    one = track(7, swaying(900, 200, 6, frames), frames)
    found = plan([one], 200)
    assert found.subject.track_id == 7 and found.subject.class_name == "person"
    assert found.subject.confidence == pytest.approx(0.9, abs=0.01) and found.subject.reason
    assert inside(found, one).all() and found.quality.in_view == 1
    assert found.layouts == ("crop",)


def test_nobody_is_the_middle() -> None:
    found = plan([], 100)
    assert found.subject.track_id is None and found.subject.confidence == 0
    np.testing.assert_allclose(found.path.windows[:, 0], (1280 - 404) / 2, atol=0.1)
    assert found.quality.in_view is None and found.quality.still == 1


def test_a_passer_by_does_not_lead() -> None:
    stays = track(2, 300, range(250))
    passes = track(1, np.linspace(1200, 1000, 30), range(100, 130), size=(90, 220))
    assert plan([passes, stays], 250).subject.track_id == 2


def test_the_large_and_active_lead_a_crowd() -> None:
    frames = range(250)
    crowd = [track(n, 60.0 + 90 * n, frames, size=(30, 70), y=150) for n in range(1, 12)]
    runner = track(40, swaying(640, 300, 8, frames), frames, size=(70, 180), y=500)
    found = plan([*crowd, runner], 250)
    assert found.subject.track_id == 40
    assert inside(found, runner).all()


def test_the_one_who_runs_leads_those_who_stand_though_the_camera_pans() -> None:
    """All positions move with the camera; against it, only the runner moves."""
    frames = range(250)
    pan = np.linspace(0, 300, 250)
    crowd = [track(n, 100 + 70.0 * n + pan, frames) for n in range(1, 11)]
    runner = track(40, swaying(180, 120, 3, frames) + pan, frames)
    assert plan([*crowd, runner], 250).subject.track_id == 40


def test_the_ball_leads_a_game() -> None:
    frames = range(250)
    way = np.linspace(250, 1050, 250)
    seen = np.array([n for n in frames if n % 3])  # missed in every third frame
    ball = track(5, way[seen], seen, name="sports ball", size=(16, 16), score=0.6)
    dribbler = track(6, way - 40, frames)
    others = [track(10 + n, 100.0 + 110 * n, frames) for n in range(10)]
    found = plan([*others, ball, dribbler], 250)
    assert found.subject.class_name == "sports ball" and found.subject.track_id == 5
    assert "ball" in found.subject.reason
    assert inside(found, ball).mean() > 0.99 and inside(found, dribbler).mean() > 0.99


def test_a_ball_seen_for_a_moment_does_not_lead() -> None:
    frames = range(250)
    one = track(1, 300, frames)
    glimpse = track(2, 1200, range(20), name="sports ball", size=(16, 16))
    found = plan([one, glimpse], 250)
    assert found.subject.track_id == 1 and inside(found, one).all()


def test_people_who_fit_are_taken_in_together() -> None:
    frames = range(200)
    pair = [track(1, 600, frames), track(2, 780, frames)]
    found = plan(pair, 200)
    assert set(found.subject.track_ids) == {1, 2} and found.layouts == ("crop",)
    assert all(inside(found, one).all() for one in pair)


@pytest.mark.parametrize("fallback", ["blur", "pad", "crop"])
def test_two_who_do_not_fit_fall_back(fallback: str) -> None:
    frames = range(200)
    pair = [track(1, 150, frames, size=(80, 200)), track(2, 1130, frames, size=(70, 190))]
    found = plan(pair, 200, fallback=fallback)
    assert found.layouts == (fallback,)
    if fallback == "crop":
        assert found.subject.track_id == 1 and inside(found, pair[0]).all()
    else:
        assert (found.path.windows == (0, 0, *FRAME)).all()
        assert set(found.subject.track_ids) == {1, 2}


def test_each_shot_has_its_own_subject() -> None:
    left, right = track(1, 200, range(100)), track(2, 1100, range(100, 220))
    found = plan([left, right], 220, 100)
    assert [segment.subject.track_id for segment in found.segments] == [1, 2]
    assert [(segment.start_frame, segment.end_frame) for segment in found.segments] == [(0, 99), (100, 219)]
    assert inside(found, left).all() and inside(found, right).all()
    assert found.quality.still == 1 and found.quality.jerk == 0


def test_a_long_shot_changes_its_leader_with_a_pan() -> None:
    first, second = track(1, 250, range(500)), track(2, 1000, range(490, 1000))
    found = plan([first, second], 1000)
    assert {segment.subject.track_id for segment in found.segments} == {1, 2}
    assert np.abs(np.diff(found.path.windows[:, 0])).max() < 120
    assert inside(found, first, slice(0, 460)).all() and inside(found, second, slice(40, None)).all()


def test_the_lead_does_not_flutter() -> None:
    """Two alike, each a little ahead by turns."""
    frames = range(1500)
    turns = np.where((np.arange(1500) // 250) % 2 == 0, 1.0, -1.0)
    crowd = [track(n, 40.0 + 100 * n, frames, size=(25, 60)) for n in range(3, 12)]
    a = track(1, 100 + 3 * turns * np.sin(np.arange(1500)), frames, score=0.9)
    b = track(2, 1180 - 3 * turns * np.sin(np.arange(1500)), frames, score=0.9)
    found = plan([a, b, *crowd], 1500, fallback="crop")
    assert len({segment.subject.track_id for segment in found.segments}) == 1


# ------------------------------------------------------------------ asked for


def test_a_track_id() -> None:
    frames = range(200)
    small = track(9, swaying(200, 80, 5, frames), frames, size=(20, 50))
    found = plan([track(1, 900, frames, size=(200, 400)), small], 200, subject=9)
    assert found.subject.track_id == 9 and inside(found, small).all()


def test_an_unknown_track_id_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TaskError) as caught:
        plan([track(3, 100, range(9)), track(8, 100, range(9))], 9, subject=4)
    assert caught.value.code is ErrorCode.invalid_task
    assert "3, 8" in caught.value.message and "params.subject" in caught.value.message
    with pytest.raises(TaskError, match=r"params\.overrides\.0\.subject"):
        plan([track(3, 100, range(9))], 9, overrides=[CropOverride(start_time=0, end_time=1, subject=4)])


def test_a_class() -> None:
    frames = range(200)
    dog = track(2, 1000, frames, name="dog")
    found = plan([track(1, 200, frames, size=(200, 500)), dog], 200, subject="dog")
    assert found.subject.class_name == "dog" and inside(found, dog).all()
    ball = track(3, 250, frames, name="sports ball", size=(15, 15))
    assert inside(plan([dog, ball], 200, subject="sports ball"), ball).all()


def test_a_class_that_nobody_has_is_the_middle() -> None:
    found = plan([track(1, 200, range(100))], 100, subject="horse")
    assert found.subject.track_id is None
    np.testing.assert_allclose(found.path.windows[:, 0], (1280 - 404) / 2, atol=0.1)


def test_overrides_hold_for_their_time() -> None:
    frames = range(500)
    a, b = track(1, 200, frames, size=(90, 200)), track(2, 1000, frames, size=(40, 90))
    overrides = [
        CropOverride(start_time=4, end_time=8, subject=2),
        CropOverride(start_time=12, end_time=16, x=500.5),
    ]
    found = plan([a, b], 500, subject=1, overrides=overrides)
    assert (found.path.windows[300:400, 0] == 500.5).all()
    assert inside(found, b, slice(120, 180)).all()
    for part in (slice(0, 80), slice(220, 280), slice(420, 500)):
        assert inside(found, a, part).all()


def test_of_two_overrides_the_later_in_the_list_holds() -> None:
    overrides = [CropOverride(start_time=0, end_time=4, x=10.0), CropOverride(start_time=1, end_time=2, x=300.0)]
    x = plan([], 100, overrides=overrides).path.windows[:, 0]
    assert (x[:25] == 10).all() and (x[25:50] == 300).all() and (x[50:] == 10).all()


def test_an_override_outside_the_picture_is_refused() -> None:
    with pytest.raises(TaskError, match=r"params\.overrides\.0\.x.*at most 876"):
        plan([], 100, overrides=[CropOverride(start_time=0, end_time=4, x=900.0)])


def test_an_override_after_the_end_is_refused() -> None:
    with pytest.raises(TaskError, match=r"params\.overrides\.0: begins after the last frame"):
        plan([], 100, overrides=[CropOverride(start_time=20, end_time=30, x=9.0)])


def test_an_override_shows_the_window_in_a_shot_that_is_shown_whole() -> None:
    frames = range(250)
    pair = [track(1, 200, frames), track(2, 1100, frames)]
    overrides = [CropOverride(start_time=2, end_time=4, x=100.0), CropOverride(start_time=6, end_time=8, subject=2)]
    found = plan(pair, 250, overrides=overrides)
    assert [segment.layout for segment in found.segments] == ["blur", "crop", "blur", "crop", "blur"]
    assert found.whole is not None
    assert found.whole.tolist() == [segment.layout == "blur" for segment in found.segments for _ in range(50)]
    assert (found.path.windows[50:100, 0] == 100).all()
    assert inside(found, pair[1], slice(150, 200)).all(), "from its first frame to its last"
    assert found.quality.jerk < 1 and found.quality.in_view == 1, "a change of layout is no movement"
    assert found.segments[1].subject.reason == "the override says where"


def test_overrides_in_shares() -> None:
    with pytest.raises(TaskError, match=r"at most 0\.684"):
        plan([], 100, normalised=True, overrides=[CropOverride(start_time=0, end_time=4, x=0.9)])
    found = plan([], 100, normalised=True, overrides=[CropOverride(start_time=0, end_time=4, x=0.25)])
    assert (found.path.windows[:, 0] == 320).all()


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize(
    ("frame", "aspect", "zoom", "size"),
    [
        pytest.param((1920, 1080), 9 / 16, 1, (608, 1080), id="608 is nearer to 607.5 than 606"),
        pytest.param((1280, 720), 9 / 16, 1, (404, 720), id="405 between 404 and 406"),
        pytest.param((1280, 720), 16 / 9, 1, (1280, 720), id="the source's own"),
        pytest.param((1280, 720), 21 / 9, 1, (1280, 548), id="wider than the source"),
        pytest.param((1080, 1920), 16 / 9, 1, (1080, 608), id="upright source"),
        pytest.param((1280, 720), 1, 2, (360, 360), id="zoom"),
        pytest.param((1281, 721), 16 / 9, 1, (1280, 720), id="odd source"),
    ],
)
def test_window_sizes(frame: tuple[int, int], aspect: float, zoom: float, size: tuple[int, int]) -> None:
    assert window_size(frame, aspect, zoom) == size


def test_no_window_in_a_tiny_picture() -> None:
    with pytest.raises(TaskError) as caught:
        window_size((20, 20), 9 / 16)
    assert caught.value.code is ErrorCode.invalid_task


@pytest.mark.parametrize("aspect", ["9:16", "1:1", "21:9", "4:5"])
@pytest.mark.parametrize("zoom", [1.0, 1.7])
def test_the_window_is_even_on_the_grid_and_never_leaves(aspect: str, zoom: float) -> None:
    frames = range(300)
    one = track(1, swaying(640, 640, 5, frames), frames, y=100)
    windows = plan([one], 300, target_aspect=aspect, zoom=zoom).path.windows
    assert (windows[:, :2] >= 0).all() and (windows[:, :2] + windows[:, 2:] <= FRAME).all()
    assert (windows[:, 2:] % 2 == 0).all()
    np.testing.assert_allclose(windows * 100, np.round(windows * 100), atol=1e-6)


def test_zoom_moves_up_and_down() -> None:
    frames = range(200)
    found = plan([track(1, 640, frames, y=150)], 200, zoom=2.0)
    x, y, width, height = found.path.windows[0]
    assert (width, height) == (202, 360)
    assert y <= 75 and y + height >= 225 and found.quality.in_view == 1


@pytest.mark.parametrize("interval", [1, 30, 500])
def test_straight_lines_between_keyframes_are_the_path(interval: int) -> None:
    frames = range(600)
    one = track(1, swaying(640, 400, 7, frames), frames)
    found, line = plan([one], 600, 250, zoom=1.5), timeline(600, 250)
    chosen = keyframes_of(found.path, line, interval)
    keys = wire_keyframes(found.path, chosen, line, FRAME, normalised=False)
    assert {0, 249, 250, 599} <= set(chosen.tolist())
    gaps = np.diff(chosen)
    assert gaps.min() >= 1 and gaps.max() <= interval
    for column, name in enumerate(("x", "y", "width", "height")):
        values = np.interp(line.times, [key.time for key in keys], [getattr(key, name) for key in keys])
        assert np.abs(values - found.path.windows[:, column]).max() <= 0.5


def test_a_still_path_has_few_keyframes() -> None:
    still = CropPath.moving(np.full(900, 100.0), np.zeros(900), (404, 720), FRAME)
    assert len(keyframes_of(still, timeline(900), 30)) == 31
    assert len(keyframes_of(still, timeline(900), 3600)) == 2
    assert len(keyframes_of(still, timeline(900, 450), 3600)) == 4


def test_normalised_keyframes_go_back_in() -> None:
    frames = range(300)
    found, line = plan([track(1, swaying(640, 400, 7, frames), frames)], 300), timeline(300)
    chosen = keyframes_of(found.path, line, 30)
    for normalised in (True, False):
        keys = wire_keyframes(found.path, chosen, line, FRAME, normalised=normalised)
        if normalised:
            assert all(0 <= v <= 1 for key in keys for v in (key.x, key.y, key.width, key.height))
        again = plan([], 300, normalised=normalised, keyframes=[CropKeyframe(**key.model_dump()) for key in keys])
        assert np.abs(again.path.windows - found.path.windows).max() <= 0.5


def test_a_whole_picture_goes_back_in() -> None:
    """A shot of layout blur between two cropped ones."""
    pair = [track(2, 150, range(100, 200), size=(80, 200)), track(3, 1130, range(100, 200), size=(80, 200))]
    found = plan([track(1, 300, range(100)), *pair, track(4, 900, range(200, 300))], 300, 100, 200)
    assert found.layouts == ("crop", "blur", "crop")
    line = timeline(300, 100, 200)
    keys = wire_keyframes(found.path, keyframes_of(found.path, line, 30), line, FRAME, normalised=False)
    again = plan([], 300, keyframes=[CropKeyframe(**key.model_dump()) for key in keys])
    np.testing.assert_allclose(again.path.windows, found.path.windows, atol=0.011)


# ------------------------------------------------------------------ the user's keyframes


def test_keyframes_are_rendered_exactly() -> None:
    keys = [CropKeyframe(frame=10, x=100.25), CropKeyframe(frame=60, x=400.0), CropKeyframe(frame=61, x=0.0, y=0.0)]
    windows = plan([], 100, keyframes=keys).path.windows
    assert (windows[:11, 0] == 100.25).all() and (windows[61:, 0] == 0).all()
    np.testing.assert_allclose(windows[10:61, 0], np.linspace(100.25, 400, 51), atol=0.006)
    assert (windows[:, 2:] == (404, 720)).all()


def test_keyframes_by_time_on_uneven_frames() -> None:
    times = np.array([0.0, 0.1, 0.5, 0.6, 2.0])
    params = AutoCropParams(keyframes=[CropKeyframe(time=0.0, x=0.0), CropKeyframe(time=2.0, x=200.0)])
    found = plan_crop([], Timeline(times, np.array([0])), FRAME, params)
    np.testing.assert_allclose(found.path.windows[:, 0], 100 * times, atol=0.006)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        pytest.param({"frame": 50, "x": 900.0}, "leaves the picture", id="right edge"),
        pytest.param({"frame": 50, "x": 0.0, "y": 10.0}, "leaves the picture", id="bottom edge"),
        pytest.param({"frame": 100, "x": 0.0}, "after the last frame", id="frame"),
        pytest.param({"frame": 50, "x": 0.0, "width": 1300.0, "height": 600.0}, "leaves the picture", id="too wide"),
    ],
)
def test_keyframes_outside_are_refused(key: dict[str, float], why: str) -> None:
    with pytest.raises(TaskError, match=rf"params\.keyframes\.1.*{why}") as caught:
        plan([], 100, keyframes=[CropKeyframe(frame=0, x=0.0), CropKeyframe(**key)])
    assert caught.value.code is ErrorCode.invalid_task


def test_a_keyframe_after_the_end_is_refused() -> None:
    with pytest.raises(TaskError, match="after the end of the video"):
        plan([], 100, keyframes=[CropKeyframe(time=4.5, x=0.0)])


@pytest.mark.parametrize(("smoothing", "most_jerk"), [(0.8, 3.0), (1.0, 3.0)])
def test_of_someone_taller_than_the_window_the_head_is_shown_and_the_window_is_calm(smoothing: float, most_jerk: float) -> None:
    """The box breathes with raised arms; the window, 360 high, shows the head of someone 600 high all the time."""
    frames = range(250)
    one = track(1, 640, frames, size=(90, 600))
    one.boxes[:, 1] -= (20 * np.square(np.sin(np.arange(250) / 7))).astype(np.float32)
    found = plan([one], 250, zoom=2.0, smoothing=smoothing)
    top = found.path.windows[:, 1]
    assert (one.boxes[:, 1] >= top).all() and (one.boxes[:, 1] + 100 <= top + 360).all()
    assert found.quality.in_view == 1 and found.quality.jerk < most_jerk


def test_shares_in_place_of_pixels_are_noticed() -> None:
    with pytest.raises(TaskError, match="set normalised"):
        plan([], 100, keyframes=[CropKeyframe(frame=0, x=0.2, y=0, width=0.3, height=1.0)])


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_videos(frames: int) -> None:
    found = plan([track(1, 900, range(frames))], frames)
    assert found.quality.in_view == 1
    assert keyframes_of(found.path, timeline(frames), 30).tolist()[0] == 0
    assert plan([], frames).path.windows.shape == (frames, 4)


def test_the_same_twice_in_any_order() -> None:
    frames, dice = range(300), np.random.default_rng(2)
    tracks = [track(n, 640 + np.cumsum(dice.normal(0, 4, 300)), frames) for n in range(1, 9)]
    first, second = plan(tracks, 300), plan(tracks[::-1], 300)
    assert first.segments == second.segments and (first.path.windows == second.path.windows).all()


def test_two_players_and_a_ball_that_do_not_fit_fall_back() -> None:
    frames = range(200)
    ball = track(3, np.linspace(300, 1000, 200), frames, name="sports ball", size=(20, 20))
    pair = [track(1, 200, frames), track(2, 1100, frames)]
    assert plan([*pair, ball], 200).layouts == ("blur",)
    cropped = plan([*pair, ball], 200, fallback="crop")
    assert cropped.layouts == ("crop",) and inside(cropped, ball).all()
    assert set(cropped.subject.track_ids) == {1, 2, 3}


def test_a_ball_missed_in_every_other_frame_does_not_shake_the_window() -> None:
    """With people far from it, whom the window must not turn to in the frames between."""
    frames, dice = range(750), np.random.default_rng(0)
    seen = np.flatnonzero(dice.random(750) < 0.5)
    ball = track(90, swaying(640, 400, 9, frames)[seen], seen, name="sports ball", size=(16, 16), score=0.5)
    people = [track(n, swaying(100.0 + 110 * n, 60, 5 + n, frames), frames) for n in range(1, 11)]
    found = plan([*people, ball], 750)
    assert inside(found, ball).mean() >= 0.99
    assert found.quality.jerk <= 6
