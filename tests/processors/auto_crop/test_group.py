"""`framing` "group": the few who matter and do not fit into the window together are shown wider."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from support import crop_plan_kit
from support.crop_plan_kit import FRAME, inside, layouts, swaying, timeline, track

from gpu_worker_client.protocol.auto_crop import AutoCropParams
from gpu_worker_processors.auto_crop.plan import plan_crop

plan = partial(crop_plan_kit.plan, framing="group")


@pytest.mark.parametrize("fallback", ["blur", "pad", "crop"])
def test_two_who_do_not_fit_fall_back(fallback: str) -> None:
    frames = range(200)
    pair = [track(1, 150, frames, size=(80, 200)), track(2, 1130, frames, size=(70, 190))]
    found = plan(pair, 200, fallback=fallback)
    assert layouts(found) == (fallback,)
    if fallback == "crop":
        assert found.subject.track_ids == [1] and inside(found, pair[0]).all()
        assert "first of 2 who matter alike" in found.subject.reason
    else:
        assert set(found.subject.track_ids) == {1, 2}
        assert all(inside(found, one).all() for one in pair)
        # From 94 (110 and a fifth of 80 for air) to 1179 are 1085 px, and 6 % of the window are to
        # spare.
        assert (found.path.windows[:, 2] == 2 * np.ceil(1085 / 0.94 / 2)).all() and (
            found.path.windows[:, 3] == 720
        ).all()
        assert found.quality.in_view == 1 and found.quality.still == 1


def test_two_at_the_edges_are_the_whole_picture() -> None:
    frames = range(100)
    found = plan([track(1, 60, frames), track(2, 1220, frames)], 100)
    assert layouts(found) == ("blur",) and (found.path.windows == (0, 0, *FRAME)).all()
    assert found.quality.subject_frames == 0, "nothing is chosen"


@pytest.mark.filterwarnings("error")
def test_two_lost_for_a_while_in_a_whole_picture_leave_the_next_shot_its_window() -> None:
    frames, way = np.r_[0:40, 60:100], 640 + np.linspace(-300, 300, 100)
    pair = [track(1, 60, frames), track(2, 1220, frames)]
    walker = track(3, way, range(100, 200))
    found = plan([*pair, walker], 200, 100)
    assert layouts(found) == ("blur", "crop") and inside(found, walker).all()


def test_a_wide_window_follows_the_two_it_is_for() -> None:
    """600 px apart they walk through the picture together."""
    frames, way = range(250), np.linspace(0, 500, 250)
    pair = [track(1, 100 + way, frames), track(2, 700 + way, frames)]
    found = plan(pair, 250)
    windows = found.path.windows
    assert layouts(found) == ("blur",) and (windows[:, 2] < 760).all()
    assert all(inside(found, one).all() for one in pair) and windows[-1, 0] - windows[0, 0] > 380
    assert found.quality.jerk < 2


@pytest.mark.parametrize("padding", [0.2, 1.0])
@pytest.mark.parametrize("fallback", ["blur", "crop"])
def test_padding_that_does_not_fit_parts_nobody(fallback: str, padding: float) -> None:
    """From 460 to 820 px they are 360 px wide and fit into 404: no bars, and never a smaller
    window."""
    frames = range(100)
    pair = [track(1, 490, frames), track(2, 790, frames)]
    found = plan(pair, 100, fallback=fallback, padding=padding)
    assert layouts(found) == ("crop",) and (found.path.windows[:, 2:] == (404, 720)).all()
    assert all(inside(found, one).all() for one in pair)


def test_two_as_tall_as_the_picture_fit_side_by_side() -> None:
    frames = range(100)
    pair = [
        track(1, 560, frames, size=(150, 700), y=360),
        track(2, 740, frames, size=(150, 690), y=365),
    ]
    found = plan(pair, 100)
    assert layouts(found) == ("crop",) and all(inside(found, one).all() for one in pair)


def test_bars_too_thin_to_be_drawn_are_none() -> None:
    """From 448 to 832 px, and 6 % to spare, they need a window of 408.5 and have one of 404."""
    frames = range(100)
    pair = [track(1, 478, frames), track(2, 802, frames)]
    found = plan(pair, 100, padding=0)
    assert layouts(found) == ("crop",) and (found.path.windows[:, 2] == 410).all()
    assert all(inside(found, one).all() for one in pair)


def test_of_someone_half_out_of_the_picture_the_half_within_is_shown() -> None:
    """A box from -170 to 170: what must be seen ends at the picture's edge, and so does what the
    window is measured for."""
    frames = range(100)
    pair = [track(1, 0, frames, size=(340, 260)), track(2, 800, frames, size=(200, 500))]
    found = plan(pair, 100)
    x, _, width, _ = found.path.windows.T
    assert (
        layouts(found) == ("blur",)
        and (x <= 0.01).all()
        and (x + width >= 900).all()
        and (width < 1100).all()
    )


def test_who_comes_when_the_other_has_gone_is_not_apart_from_them() -> None:
    """Each is taller than the window, so neither fits, but they are never seen together."""
    tall = {"size": (150.0, 400.0), "y": 400.0}
    found = plan(
        [track(1, 300, range(125), **tall), track(2, 1000, range(125, 250), **tall)], 250, zoom=2.0
    )  # type: ignore[arg-type]
    assert layouts(found) == ("crop",) and (found.path.windows[:, 2:] == (202, 360)).all()


def test_a_leap_farther_than_the_wide_window_is_counted_as_not_seen() -> None:
    """In 4 of 250 frames one is 1160 px away, and not worth a wider window for all the others."""
    frames = range(250)
    way = np.full(250, 700.0)
    way[100:104] = 1220
    found = plan([track(1, 60, frames, size=(100, 250)), track(2, way, frames)], 250)
    assert (found.path.windows[:, 2] < 900).all() and found.quality.in_view == pytest.approx(
        1 - 4 / 250, abs=1e-4
    )


def test_in_an_odd_picture_a_window_a_row_less_than_all_of_it_is_all_of_it() -> None:
    frames = range(100)
    pair = [
        track(1, 100, frames, size=(60, 150), y=75),
        track(2, 230, frames, size=(60, 150), y=702),
    ]
    found = plan_crop(pair, timeline(100), (333, 777), AutoCropParams(framing="group"))
    assert (found.path.windows == (0, 0, 333, 777)).all() and found.quality.subject_frames == 0


def test_with_zoom_a_wider_window_may_still_fill_the_output() -> None:
    frames = range(100)
    pair = [track(1, 520, frames), track(2, 760, frames)]
    found = plan(pair, 100, zoom=2.0)
    width, height = found.path.windows[0, 2:]
    assert (
        layouts(found) == ("crop",)
        and 202 < width < 404
        and width / height == pytest.approx(9 / 16, abs=0.005)
    )
    assert all(inside(found, one).all() for one in pair) and found.size == (202, 360)


def test_each_shot_has_a_window_of_its_own_width() -> None:
    near, far = (range(100), range(100, 200))
    tracks = [
        track(1, 400, near),
        track(2, 900, near),
        track(3, 100, far),
        track(4, 800, far),
        track(5, 640, range(200, 300)),
    ]
    found = plan(tracks, 300, 100, 200)
    assert layouts(found) == ("blur", "blur", "crop")
    widths = [
        np.unique(found.path.windows[part, 2]).tolist()
        for part in (slice(100), slice(100, 200), slice(200, 300))
    ]
    assert (
        [len(one) for one in widths] == [1, 1, 1] and widths[0] < widths[1] and widths[2] == [404]
    )
    assert all(inside(found, one).all() for one in tracks) and found.quality.jerk == 0


def test_a_shot_shorter_than_a_blink_keeps_the_middle_of_a_wider_window() -> None:
    pair = [track(1, 700, range(100)), track(2, 1150, range(100))]
    found = plan(
        [*pair, track(3, 100, range(100, 108)), track(4, 300, range(108, 200))], 200, 100, 108
    )
    x, _, width, _ = found.path.windows[[99, 100]].T
    assert width[0] > 404 == width[1]
    assert x[1] + 202 == pytest.approx(min(x[0] + width[0] / 2, 1280 - 202), abs=0.02)


def test_two_players_and_a_ball_that_do_not_fit_fall_back() -> None:
    frames = range(200)
    ball = track(3, np.linspace(300, 1000, 200), frames, name="sports ball", size=(20, 20))
    pair = [track(1, 200, frames), track(2, 1100, frames)]
    whole = plan([*pair, ball], 200)
    assert layouts(whole) == ("blur",) and set(whole.subject.track_ids) == {1, 2, 3}
    cropped = plan([*pair, ball], 200, fallback="crop")
    assert layouts(cropped) == ("crop",) and inside(cropped, ball).all()
    assert cropped.subject.track_id == 3 and set(cropped.subject.track_ids) < {1, 2, 3}, (
        "one of the two is not looked after"
    )


@pytest.mark.parametrize(("height", "plays"), [(200, True), (130, False)])
def test_where_a_ball_is_seen_all_who_play_are_shown(height: float, plays: bool) -> None:
    """The same two with a ball in the air for a second: a third as tall as the one in front is a
    court's length away, a fifth is a spectator."""
    frames, flight = range(250), range(100, 125)
    front = track(1, swaying(900, 40, 4, frames), frames, size=(190, 560), y=430)
    behind = track(
        2, swaying(400, 15, 4, frames), frames, size=(height / 3, height), y=480, score=0.82
    )
    ball = track(
        3, np.linspace(800, 400, 25), flight, name="sports ball", size=(40, 40), y=250, score=0.6
    )
    found = plan([front, behind, ball], 250)
    assert layouts(found) == (("blur",) if plays else ("crop",))
    assert (
        inside(found, front).all()
        and (inside(found, behind).all() and inside(found, ball).all()) == plays
    )
    if plays:
        assert set(found.subject.track_ids) == {1, 2, 3} and "2 play" in found.subject.reason
        assert (found.path.windows[:, 2] < 900).all() and found.quality.jerk < 2


def test_a_game_goes_on_before_and_after_the_ball_is_seen() -> None:
    """In 25 s it is seen for one, in the middle; the next shot, without a ball, is none of that
    game."""
    frames = range(625)
    pair = [
        track(1, 900, frames, size=(190, 560), y=430),
        track(2, 400, frames, size=(67, 200), y=480),
    ]
    ball = track(3, 600, range(300, 325), name="sports ball", size=(40, 40), y=250, score=0.6)
    again = [
        track(4, 900, range(625, 725), size=(190, 560), y=430),
        track(5, 400, range(625, 725), size=(67, 200), y=480),
    ]
    found = plan([*pair, ball, *again], 725, 625)
    assert layouts(found) == ("blur", "blur", "blur", "crop")
