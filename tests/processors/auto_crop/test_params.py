"""What a caller asks for: a subject, overrides for a time, keyframes, and the windows that come of
it."""

from __future__ import annotations

import numpy as np
import pytest
from support.crop_plan_kit import FPS, FRAME, inside, layouts, plan, swaying, timeline, track

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropKeyframe, CropOverride
from gpu_worker_processors.auto_crop.path import ShotTimeline
from gpu_worker_processors.auto_crop.plan import plan_crop
from gpu_worker_processors.auto_crop.windows import (
    CropPath,
    keyframes_of,
    window_size,
    wire_keyframes,
)

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
        plan(
            [track(3, 100, range(9))],
            9,
            overrides=[CropOverride(start_time=0, end_time=1, subject=4)],
        )


def test_a_class() -> None:
    frames = range(200)
    dog = track(2, 1000, frames, name="dog")
    found = plan([track(1, 200, frames, size=(200, 500)), dog], 200, subject="dog")
    assert found.subject.class_name == "dog" and inside(found, dog).all()
    assert found.subject.reason.startswith("asked for by its class")
    ball = track(3, 250, frames, name="sports ball", size=(15, 15))
    assert inside(plan([dog, ball], 200, subject="sports ball"), ball).all()


def test_a_class_that_nobody_has_is_the_middle() -> None:
    found = plan([track(1, 200, range(100))], 100, subject="horse")
    assert (
        found.subject.track_id is None
        and found.subject.reason == "nobody of the class asked for is seen"
    )
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
    overrides = [
        CropOverride(start_time=0, end_time=4, x=10.0),
        CropOverride(start_time=1, end_time=2, x=300.0),
    ]
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
    overrides = [
        CropOverride(start_time=2, end_time=4, x=100.0),
        CropOverride(start_time=6, end_time=8, subject=2),
    ]
    found = plan(pair, 250, framing="group", overrides=overrides)
    assert [segment.layout for segment in found.segments] == [
        "blur",
        "crop",
        "blur",
        "crop",
        "blur",
    ]
    assert found.layouts is not None
    assert found.layouts.tolist() == [
        segment.layout for segment in found.segments for _ in range(50)
    ]
    assert (found.path.windows[50:100, 0] == 100).all()
    assert inside(found, pair[1], slice(150, 200)).all(), "from its first frame to its last"
    assert found.quality.jerk < 1 and found.quality.in_view == 1, (
        "a change of layout is no movement"
    )
    assert found.segments[1].subject.reason == "the override says where"


def test_an_override_without_a_frame_is_refused() -> None:
    with pytest.raises(
        TaskError,
        match=r"params\.overrides\.1: no frame lies .* the next one is at 1\.040000 seconds",
    ) as caught:
        wide = CropOverride(start_time=0, end_time=4, x=1.0)
        plan([], 100, overrides=[wide, CropOverride(start_time=1.001, end_time=1.002, x=9.0)])
    assert caught.value.details["errors"][0]["path"] == "params.overrides.1"


def test_an_override_places_the_window_up_and_down() -> None:
    """A square in a tall picture; from left to right there is no room, so x follows nobody."""
    params = AutoCropParams(
        target_aspect="1:1", overrides=[CropOverride(start_time=1, end_time=2, y=500.25)]
    )
    one = track(1, 360, range(100), y=200)
    found = plan_crop([one], timeline(100), (720, 1280), params)
    assert (found.path.windows[25:50, 1] == 500.25).all() and (found.path.windows[:, 0] == 0).all()
    assert found.path.windows[0, 1] + 720 > 275 > 125 > found.path.windows[0, 1]
    assert found.segments[1].subject.reason == "the override says where"
    with pytest.raises(
        TaskError, match=r"params\.overrides\.0\.y.*720 pixels high, so y is at most 560 of 1280"
    ):
        plan_crop(
            [one],
            timeline(100),
            (720, 1280),
            params.model_copy(update={"overrides": [at(y=561.0)]}),
        )
    shares = params.model_copy(update={"overrides": [at(y=0.25)], "normalised": True})
    assert (plan_crop([one], timeline(100), (720, 1280), shares).path.windows[:25, 1] == 320).all()


def test_an_override_with_both_places_leaves_nothing_to_follow() -> None:
    found = plan([track(1, 900, range(100))], 100, zoom=2.0, overrides=[at(x=10.5, y=20.25)])
    assert (found.path.windows[:25] == (10.5, 20.25, 202, 360)).all()


@pytest.mark.parametrize("layout", ["blur", "pad", "crop"])
def test_an_override_says_how_the_picture_is_shown(layout: str) -> None:
    frames = range(100)
    pair = [track(1, 200, frames), track(2, 1100, frames)]
    overrides = [CropOverride(start_time=1, end_time=2, layout=layout)]
    found = plan(pair if layout == "crop" else pair[:1], 100, framing="group", overrides=overrides)
    usual = "blur" if layout == "crop" else "crop"
    assert layouts(found) == (usual, layout, usual)
    assert found.layouts is not None and (found.layouts[25:50] == layout).all()
    assert found.segments[1].subject.reason == "the override says how"
    assert ((found.path.windows[:, 2] > 404) == (found.layouts != "crop")).all()
    assert layout == "crop" or (found.path.windows[25:50] == (0, 0, *FRAME)).all()


def test_the_rest_of_a_shot_is_shown_as_without_the_override() -> None:
    """Two too far apart, for 7 of 10 s one of them alone: the other 3 s have the wide window
    still."""
    frames = range(250)
    pair = [track(1, 300, frames), track(2, 1000, frames)]
    override = {"start_time": 0, "end_time": 7, "subject": 1}
    found = plan(pair, 250, framing="group", overrides=[override])
    assert layouts(found) == ("crop", "blur")
    assert (found.path.windows[175:] == plan(pair, 250, framing="group").path.windows[175:]).all()


def test_a_wish_for_a_quarter_of_a_second_is_shown() -> None:
    """Shorter than a shot that has a window of its own; the wide window around it stands for
    both."""
    frames = range(250)
    pair = [track(1, 300, frames), track(2, 1000, frames)]
    override = {"start_time": 4, "end_time": 4.25, "subject": 2}
    found = plan(pair, 250, framing="group", overrides=[override])
    assert layouts(found) == ("blur", "crop", "blur") and inside(found, pair[1]).all()


def test_of_overlapping_overrides_nothing_of_the_earlier_is_left() -> None:
    frames = range(100)
    pair = [track(1, 200, frames), track(2, 1000, frames)]
    overrides = [at(0, 4, subject=2), CropOverride(start_time=1, end_time=3, layout="pad")]
    found = plan(pair, 100, subject=1, overrides=overrides)
    assert layouts(found) == ("crop", "pad", "crop")
    assert [one.subject.track_id for one in found.segments] == [2, 1, 2]


def at(start: float = 0, end: float = 1, **wish: object) -> CropOverride:
    return CropOverride(start_time=start, end_time=end, **wish)  # type: ignore[arg-type]


def test_overrides_in_shares() -> None:
    with pytest.raises(TaskError, match=r"at most 0\.684"):
        plan([], 100, normalised=True, overrides=[CropOverride(start_time=0, end_time=4, x=0.9)])
    found = plan(
        [], 100, normalised=True, overrides=[CropOverride(start_time=0, end_time=4, x=0.25)]
    )
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
def test_window_sizes(
    frame: tuple[int, int], aspect: float, zoom: float, size: tuple[int, int]
) -> None:
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
        values = np.interp(
            line.times, [key.time for key in keys], [getattr(key, name) for key in keys]
        )
        assert np.abs(values - found.path.windows[:, column]).max() <= 0.5


def test_a_still_path_has_few_keyframes() -> None:
    still = CropPath.moving(
        np.full(900, 100.0), np.zeros(900), np.array((404, 720)), np.array([FRAME])
    )
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
        again = plan(
            [],
            300,
            normalised=normalised,
            keyframes=[CropKeyframe(**key.model_dump()) for key in keys],
        )
        assert np.abs(again.path.windows - found.path.windows).max() <= 0.5


def test_a_whole_picture_goes_back_in() -> None:
    """A shot of layout blur between two cropped ones."""
    pair = [
        track(2, 150, range(100, 200), size=(80, 200)),
        track(3, 1130, range(100, 200), size=(80, 200)),
    ]
    people = [track(1, 300, range(100)), *pair, track(4, 900, range(200, 300))]
    found = plan(people, 300, 100, 200, framing="group")
    assert layouts(found) == ("crop", "blur", "crop")
    line = timeline(300, 100, 200)
    keys = wire_keyframes(
        found.path, keyframes_of(found.path, line, 30), line, FRAME, normalised=False
    )
    again = plan([], 300, keyframes=[CropKeyframe(**key.model_dump()) for key in keys])
    np.testing.assert_allclose(again.path.windows, found.path.windows, atol=0.011)


# ------------------------------------------------------------------ the user's keyframes


def test_keyframes_are_rendered_exactly() -> None:
    keys = [
        CropKeyframe(frame=10, x=100.25),
        CropKeyframe(frame=60, x=400.0),
        CropKeyframe(frame=61, x=0.0, y=0.0),
    ]
    windows = plan([], 100, keyframes=keys).path.windows
    assert (windows[:11, 0] == 100.25).all() and (windows[61:, 0] == 0).all()
    np.testing.assert_allclose(windows[10:61, 0], np.linspace(100.25, 400, 51), atol=0.006)
    assert (windows[:, 2:] == (404, 720)).all()


def test_a_step_made_by_keyframes_is_a_cut_and_no_shake() -> None:
    still = [CropKeyframe(frame=0, x=100.0), CropKeyframe(frame=49, x=100.0)]
    jump = [CropKeyframe(frame=50, x=500.0), CropKeyframe(frame=99, x=500.0)]
    found = plan([], 100, keyframes=[*still, *jump])
    assert found.quality.jerk == 0 and found.quality.still == 1
    assert found.segments == () and found.layouts is None


def test_a_fast_path_with_a_keyframe_on_each_frame_is_no_row_of_cuts() -> None:
    keys = [CropKeyframe(frame=n, x=8.0 * n) for n in range(100)]
    found = plan([], 100, keyframes=keys)
    assert found.quality.still == 0
    assert found.quality.jerk == pytest.approx(0, abs=1)


def test_shaking_keyframes_are_told_so() -> None:
    """On every frame one, 4 px to and fro, which no rule takes for a cut: x = 2 (-1)^n, third
    difference 16, over 404 px."""
    keys = [CropKeyframe(frame=n, x=100.0 + 2 * (-1) ** n) for n in range(100)]
    found = plan([], 100, keyframes=keys)
    assert found.quality.jerk == pytest.approx(16 / 404 * FPS**3, rel=1e-3)
    assert found.quality.still == 0


def test_a_window_that_grows_around_its_middle_does_not_shake_and_is_not_still() -> None:
    keys = [
        CropKeyframe(frame=0, x=400.0, y=200.0, width=90.0, height=160.0),
        CropKeyframe(frame=99, x=355.0, y=120.0, width=180.0, height=320.0),
    ]
    found = plan([], 100, keyframes=keys)
    assert found.quality.still == 0 and found.quality.jerk < 3, (
        "rounding to 0.01 px of a window of 90"
    )


def test_keyframes_by_time_on_uneven_frames() -> None:
    times = np.array([0.0, 0.1, 0.5, 0.6, 2.0])
    params = AutoCropParams(
        keyframes=[CropKeyframe(time=0.0, x=0.0), CropKeyframe(time=2.0, x=200.0)]
    )
    found = plan_crop([], ShotTimeline(times, np.array([0])), FRAME, params)
    np.testing.assert_allclose(found.path.windows[:, 0], 100 * times, atol=0.006)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        pytest.param({"frame": 50, "x": 900.0}, "leaves the picture", id="right edge"),
        pytest.param({"frame": 50, "x": 0.0, "y": 10.0}, "leaves the picture", id="bottom edge"),
        pytest.param({"frame": 100, "x": 0.0}, "after the last frame", id="frame"),
        pytest.param(
            {"frame": 50, "x": 0.0, "width": 1300.0, "height": 600.0},
            "leaves the picture",
            id="too wide",
        ),
    ],
)
def test_keyframes_outside_are_refused(key: dict[str, float], why: str) -> None:
    with pytest.raises(TaskError, match=rf"params\.keyframes\.1.*{why}") as caught:
        plan([], 100, keyframes=[CropKeyframe(frame=0, x=0.0), CropKeyframe(**key)])
    assert caught.value.code is ErrorCode.invalid_task


def test_a_keyframe_in_shares_is_refused_in_shares() -> None:
    with pytest.raises(TaskError, match=r"the window is .*x \+ width must be at most 1,") as caught:
        plan([], 100, normalised=True, keyframes=[CropKeyframe(frame=0, x=0.9)])
    assert "pixels" not in caught.value.message


def test_a_keyframe_after_the_end_is_refused() -> None:
    with pytest.raises(TaskError, match="after the end of the video"):
        plan([], 100, keyframes=[CropKeyframe(time=4.5, x=0.0)])


def test_shares_in_place_of_pixels_are_noticed() -> None:
    with pytest.raises(TaskError, match="set normalised"):
        plan([], 100, keyframes=[CropKeyframe(frame=0, x=0.2, y=0, width=0.3, height=1.0)])
