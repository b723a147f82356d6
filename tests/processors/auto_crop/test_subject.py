"""Who is followed, and how a shot is shown, on scenes whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from support.crop_plan_kit import FPS, inside, layouts, plan, swaying, timeline, track

from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.candidates import SubjectTrack
from gpu_worker_processors.auto_crop.plan import plan_crop
from gpu_worker_processors.auto_crop.windows import keyframes_of


def test_one_person_is_the_subject() -> None:
    frames = range(200)
    one = track(7, swaying(900, 200, 6, frames), frames)
    found = plan([one], 200)
    assert found.subject.track_id == 7 and found.subject.class_name == "person"
    assert found.subject.confidence == pytest.approx(0.9, abs=0.01) and found.subject.reason
    assert inside(found, one).all() and found.quality.in_view == 1
    assert layouts(found) == ("crop",)


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


def test_the_flutter_of_boxes_is_no_activity() -> None:
    """Someone stands, and the detector's box trembles by 3 px; someone walks past a crowd at 40
    px/s, a quarter of a height."""
    frames, dice = range(250), np.random.default_rng(3)
    crowd = [track(n, 60.0 + 110 * n, frames, y=300) for n in range(3, 11)]
    stands = track(1, 1100 + dice.normal(0, 3, 250), frames)
    walks = track(2, np.linspace(100, 500, 250), frames)
    assert plan([stands, walks, *crowd], 250).subject.track_id == 2


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
    assert set(found.subject.track_ids) == {1, 2} and layouts(found) == ("crop",)
    assert all(inside(found, one).all() for one in pair)


def test_ten_frames_of_25_a_second_are_a_shot_of_their_own() -> None:
    """0.4 s to the eye, and 0.3999999999999999 to a float."""
    shown = track(3, 300, range(63, 73))
    found = plan([track(1, 900, range(63)), shown, track(4, 900, range(73, 200))], 200, 63, 73)
    assert inside(found, shown).all()


def test_someone_nearly_as_wide_as_the_window_is_whole_at_the_edge_of_the_picture() -> None:
    frames = range(100)
    wide = track(1, 1280 - 195, frames, size=(390, 300))
    assert inside(plan([wide], 100), wide).all()


def test_each_shot_has_its_own_subject() -> None:
    left, right = track(1, 200, range(100)), track(2, 1100, range(100, 220))
    found = plan([left, right], 220, 100)
    assert [segment.subject.track_id for segment in found.segments] == [1, 2]
    assert [(segment.start_frame, segment.end_frame) for segment in found.segments] == [
        (0, 99),
        (100, 219),
    ]
    assert inside(found, left).all() and inside(found, right).all()
    assert found.quality.still == 1 and found.quality.jerk == 0


def test_a_long_shot_changes_its_leader_with_a_pan() -> None:
    first, second = track(1, 250, range(500)), track(2, 1000, range(490, 1000))
    found = plan([first, second], 1000)
    assert {segment.subject.track_id for segment in found.segments} == {1, 2}
    assert np.abs(np.diff(found.path.windows[:, 0])).max() < 120
    assert (
        inside(found, first, slice(0, 460)).all() and inside(found, second, slice(40, None)).all()
    )


def test_the_lead_does_not_flutter() -> None:
    """Two alike, each a little ahead by turns."""
    frames = range(1500)
    turns = np.where((np.arange(1500) // 250) % 2 == 0, 1.0, -1.0)
    crowd = [track(n, 40.0 + 100 * n, frames, size=(25, 60)) for n in range(3, 12)]
    a = track(1, 100 + 3 * turns * np.sin(np.arange(1500)), frames, score=0.9)
    b = track(2, 1180 - 3 * turns * np.sin(np.arange(1500)), frames, score=0.9)
    found = plan([a, b, *crowd], 1500, fallback="crop")
    assert len({segment.subject.track_id for segment in found.segments}) == 1


@pytest.mark.parametrize(("smoothing", "most_jerk"), [(0.8, 3.0), (1.0, 3.0)])
def test_of_someone_taller_than_the_window_the_head_is_shown_and_the_window_is_calm(
    smoothing: float, most_jerk: float
) -> None:
    """The box breathes with raised arms; the window, 360 high, shows the head of someone 600 high
    all the time."""
    frames = range(250)
    one = track(1, 640, frames, size=(90, 600))
    one.boxes[:, 1] -= (20 * np.square(np.sin(np.arange(250) / 7))).astype(np.float32)
    found = plan([one], 250, zoom=2.0, smoothing=smoothing)
    top = found.path.windows[:, 1]
    assert (one.boxes[:, 1] >= top).all() and (one.boxes[:, 1] + 100 <= top + 360).all()
    assert found.quality.in_view == 1 and found.quality.jerk < most_jerk


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


def test_a_ball_missed_in_every_other_frame_does_not_shake_the_window() -> None:
    """With people far from it, whom the window must not turn to in the frames between."""
    frames, dice = range(750), np.random.default_rng(0)
    seen = np.flatnonzero(dice.random(750) < 0.5)
    ball = track(
        90, swaying(640, 400, 9, frames)[seen], seen, name="sports ball", size=(16, 16), score=0.5
    )
    people = [track(n, swaying(100.0 + 110 * n, 60, 5 + n, frames), frames) for n in range(1, 11)]
    found = plan([*people, ball], 750)
    assert inside(found, ball).mean() >= 0.99
    assert found.quality.jerk <= 6


def test_someone_far_behind_does_not_take_the_window_from_who_stands_in_front() -> None:
    """An eighth of the other's area, moving as much for their size: a background, and not the half
    of a conversation."""
    frames = range(250)
    front = track(1, swaying(900, 40, 4, frames), frames, size=(190, 560), y=430)
    behind = track(2, swaying(400, 15, 4, frames), frames, size=(67, 200), y=480, score=0.82)
    found = plan([front, behind], 250)
    assert layouts(found) == ("crop",) and found.subject.track_ids == [1]
    assert inside(found, front).all()


def test_whoever_has_the_ball_leads_though_it_is_hardly_ever_seen() -> None:
    """Two alike among a crowd; the ball is seen in a tenth of the frames, in the hands of one."""
    frames, seen = range(250), np.arange(0, 250, 10)
    crowd = [track(n, 300.0 + 80 * n, frames, size=(25, 60), y=200) for n in range(3, 10)]
    for holder, x in ((1, 150.0), (2, 1100.0)):
        ball = track(90, x + 20, seen, name="sports ball", size=(16, 16), score=0.5)
        found = plan(
            [track(1, 150, frames), track(2, 1100, frames), *crowd, ball], 250, fallback="crop"
        )
        assert found.subject.track_id == holder
        assert inside(found, ball).all()


def thrown(speed: float = 300) -> tuple[SubjectTrack, SubjectTrack]:
    """Someone at 900 for ten seconds, and a ball that flies to them from 450 px away; seen in
    flight only."""
    flight = np.arange(100, 130)
    way = np.minimum(450 + speed * (flight - 100) / FPS, 790)
    ball = track(90, way, flight, name="sports ball", size=(40, 40), y=250, score=0.6)
    return track(1, 900, range(250), size=(190, 560), y=430), ball


def test_a_ball_that_flies_in_is_shown_as_soon_as_one_window_holds_both() -> None:
    one, ball = thrown()
    found = plan([one, ball], 250)
    assert inside(found, one).all(), "nobody is lost for a ball"
    possible = one.boxes[100:130, 2] - ball.boxes[:, 0] <= 404
    assert 10 < possible.sum() < 25
    assert (inside(found, ball) == possible).all()
    assert found.subject.track_ids == [1, 90] and found.quality.in_view == 1
    assert found.quality.jerk < 3 and np.abs(np.diff(found.path.windows[:, 0])).max() < 10


@pytest.mark.parametrize("frames", [6, 7])
def test_a_quarter_of_a_second_of_ball_is_what_the_window_moves_for(frames: int) -> None:
    one = track(1, 900, range(250), size=(190, 560), y=430)
    ball = track(90, 630, range(100, 100 + frames), name="sports ball", size=(40, 40), score=0.6)
    found = plan([one, ball], 250)
    assert found.subject.track_ids == ([1, 90] if frames == 7 else [1])
    assert inside(found, ball).all() == (frames == 7)
    assert inside(found, one).all()


def test_of_two_who_do_not_fit_one_fills_the_output() -> None:
    frames = range(200)
    pair = [track(1, 150, frames, size=(80, 200)), track(2, 1130, frames, size=(70, 190))]
    found = plan(pair, 200)
    assert layouts(found) == ("crop",) and (found.path.windows[:, 2:] == (404, 720)).all()
    assert found.subject.track_ids == [1] and inside(found, pair[0]).all()


def test_a_second_player_is_in_view_wherever_both_fit() -> None:
    """The one who walks up and away again leads; 6 % of the window are the path's."""
    frames = range(500)
    stands = track(1, 640, frames, size=(120, 400))
    walks = track(2, 900 + 180 * np.cos(np.arange(500) / 80), frames, size=(100, 330))
    found = plan([stands, walks], 500)
    fits = walks.boxes[:, 2] - stands.boxes[:, 0] <= 404 * 0.94
    assert 0.2 < fits.mean() < 0.6 and layouts(found) == ("crop", "crop")
    assert inside(found, walks).all() and inside(found, stands)[fits].all()
    assert found.subject.track_ids == [2, 1] and found.quality.jerk < 2


def test_for_a_second_player_neither_the_leader_nor_the_ball_is_lost() -> None:
    """The ball flies in from the left, the second stands on the right: one window holds the leader
    with one of the two."""
    frames, flight = range(250), np.arange(100, 130)
    leader = track(1, 640, frames, size=(190, 560), y=430)
    second = track(2, 850, frames, size=(100, 330), y=500)
    way = np.minimum(260 + 12 * (flight - 100.0), 560)
    ball = track(90, way, flight, name="sports ball", size=(40, 40), y=250, score=0.6)
    found = plan([leader, second, ball], 250)
    assert layouts(found) == ("crop",) and found.subject.track_ids == [1, 90, 2]
    assert inside(found, leader).all()
    possible = leader.boxes[100:130, 2] - ball.boxes[:, 0] <= 404
    assert 10 < possible.sum() < 30 and (inside(found, ball) == possible).all()
    assert inside(found, second)[:75].all() and inside(found, second)[160:].all()


@pytest.mark.parametrize("fallback", ["blur", "pad", "crop"])
@pytest.mark.parametrize("subject", ["auto", 1, "person"])
def test_only_a_subject_wider_than_the_window_widens_it(subject: str | int, fallback: str) -> None:
    frames = range(200)
    wide = track(1, 640, frames, size=(500, 200))
    found = plan([wide, track(2, 1200, frames)], 200, subject=subject, fallback=fallback)
    assert layouts(found) == (fallback,)
    assert inside(found, wide).all() == (fallback != "crop")
    if fallback != "crop":
        # A fifth of 500 px on either side, and 6 % to spare.
        assert (found.path.windows[:, 2] == 2 * np.ceil(700 / 0.94 / 2)).all()
        assert "wider than the window" in found.subject.reason


def test_whoever_is_wider_for_a_moment_still_fills_the_output() -> None:
    frames = range(200)
    one = track(1, 640, frames)
    one.boxes[50:100, ::2] = 400, 880
    assert layouts(plan([one], 200)) == ("crop",)


def test_of_someone_taller_than_a_wide_window_the_head_fills_it() -> None:
    """16:9 of a phone's video: no bars for a person who stands."""
    frames = range(100)
    tall = track(1, 360, frames, size=(300, 1000), y=700)
    found = plan_crop([tall], timeline(100), (720, 1280), AutoCropParams(target_aspect="16:9"))
    assert layouts(found) == ("crop",) and found.quality.in_view == 1


def test_a_ball_that_flies_between_two_does_not_take_the_window_from_the_first() -> None:
    """Seen all the time, and within one window with the first for half of it."""
    frames = range(250)
    pair = [
        track(1, 400, frames, size=(190, 560), y=430),
        track(2, 900, frames, size=(170, 500), y=430),
    ]
    ball = track(3, swaying(650, 150, 2, frames), frames, name="sports ball", size=(40, 40), y=250)
    found = plan([*pair, ball], 250)
    possible = ball.boxes[:, 2] - pair[0].boxes[:, 0] <= 404
    assert layouts(found) == ("crop",) and 0.3 < possible.mean() < 0.7
    assert found.subject.track_id == 1 and inside(found, pair[0]).all()
    assert (inside(found, ball) == possible).all() and found.quality.jerk < 3
