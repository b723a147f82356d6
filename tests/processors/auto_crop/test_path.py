"""The path of the crop window: against an independent LP solver, on motions with a known answer,
and on real players."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, diags, eye, hstack, vstack

from gpu_worker_processors.auto_crop import path as path_module
from gpu_worker_processors.auto_crop.banded import Factor
from gpu_worker_processors.auto_crop.l1 import (
    Corridor,
    Weights,
    derivative_rows,
    frame_seconds,
    stillest_line,
)
from gpu_worker_processors.auto_crop.path import PathSettings, ShotTimeline, Wanted, plan_axis

Floats = NDArray[np.float64]
WIDTH, WINDOW = 1280, 405.0
END = WIDTH - WINDOW


# ------------------------------------------------------------------ the algebra below


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 23, 24, 25, 26, 27, 28, 300])
def test_banded_systems_are_solved_as_lapack_solves_them(n: int) -> None:
    dice = np.random.default_rng(n)
    rows = dice.normal(size=(4, n))
    bands = np.zeros((4, n))
    for p in range(4):
        for k in range(4 - p):
            bands[k, p:] += (rows[p] * rows[p + k])[: max(n - p, 0)]
    bands[0] += 1
    upper = np.zeros((4, n))
    for k in range(min(4, n)):
        upper[3 - k, k:] = bands[k, : n - k]
    right = dice.normal(size=n)
    expected = solveh_banded(upper[3 - min(3, n - 1) :], right)
    np.testing.assert_allclose(Factor(bands).solve(right), expected, rtol=1e-9, atol=1e-11)


def cost(corridor: Corridor, weights: Weights, x: Floats) -> float:
    n = len(x)
    rows = derivative_rows(corridor.times, corridor.starts, weights)
    derivatives = rows[:, 0] * x
    for j in range(1, 4):
        derivatives[:, : n - j] += rows[:, j, : n - j] * x[j:]
    distance = np.maximum(corridor.soft_low - x, 0) + np.maximum(x - corridor.soft_high, 0)
    return float(
        np.abs(derivatives).sum() + (corridor.pull * frame_seconds(corridor.times) * distance).sum()
    )


def highs(corridor: Corridor, weights: Weights) -> Floats:
    """The same problem, written out as a linear program, by HiGHS."""
    n = len(corridor.times)
    rows = derivative_rows(corridor.times, corridor.starts, weights)
    each = vstack(
        [diags([r[j, : n - j] for j in range(4)], [0, 1, 2, 3], shape=(n, n)) for r in rows]
    )
    m = each.shape[0]
    blocks = [
        hstack([each, -eye(m), csr_matrix((m, n))]),
        hstack([-each, -eye(m), csr_matrix((m, n))]),
        hstack([-eye(n), csr_matrix((n, m)), -eye(n)]),
        hstack([eye(n), csr_matrix((n, m)), -eye(n)]),
    ]
    prices = np.concatenate(
        [np.zeros(n), np.ones(m), corridor.pull * frame_seconds(corridor.times)]
    )
    right = np.concatenate([np.zeros(2 * m), -corridor.soft_low, corridor.soft_high])
    bounds = [*zip(corridor.low, corridor.high, strict=True), *[(0, None)] * (m + n)]
    found = linprog(
        prices, A_ub=vstack(blocks).tocsr(), b_ub=right, bounds=bounds, method="highs-ipm"
    )
    assert found.success
    return found.x[:n]


def wandering(dice: np.random.Generator, n: int, *, even: bool) -> Corridor:
    times = np.arange(n) / 25 if even else np.cumsum(dice.uniform(0.005, 0.1, n))
    middle = np.cumsum(dice.normal(0, 0.03, n))
    low, high = middle - dice.uniform(0.02, 0.4, n), middle + dice.uniform(0.02, 0.4, n)
    starts = np.zeros(n, bool)
    starts[[0, n // 3]] = True
    soft = middle + np.clip(dice.normal(0, 0.1, n), low - middle, high - middle)
    return Corridor(
        times,
        low,
        high,
        np.minimum(soft, middle),
        np.maximum(soft, middle),
        dice.uniform(0, 8, n),
        starts,
    )


@pytest.mark.parametrize("even", [True, False], ids=["constant rate", "variable rate"])
@pytest.mark.parametrize("seed", range(3))
def test_the_line_is_optimal(seed: int, even: bool) -> None:
    corridor, weights = (
        wandering(np.random.default_rng(seed), 160, even=even),
        Weights(10, 1 / 30, 1 / 9),
    )
    line = stillest_line(corridor, weights)
    assert (line >= corridor.low).all() and (line <= corridor.high).all()
    assert cost(corridor, weights, line) == pytest.approx(
        cost(corridor, weights, highs(corridor, weights)), rel=1e-5
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_a_power_are_its_factorial(order: int) -> None:
    """And those of a lower power are nothing, at even steps."""
    times = np.arange(40) / 25
    rows = derivative_rows(times, np.arange(40) == 0, Weights(2, 3, 5))[order - 1]
    duration, price, exact = 1 / 25, (2, 3, 5)[order - 1], (1, 2, 6)[order - 1]
    for power, value in ((order, exact), (order - 1, 0)):
        found = sum(rows[j, : 40 - 3] * times[j : 40 - 3 + j] ** power for j in range(4))
        np.testing.assert_allclose(found, value * price * duration, atol=1e-8)


# ------------------------------------------------------------------ motions with a known answer


def follow(
    center: Floats,
    *,
    fps: float = 25,
    size: float = 60,
    starts: tuple[int, ...] = (0,),
    window: float = WINDOW,
    **more: float,
) -> Floats:
    """The window's offset for a subject of a size around `center`; NaN is lost."""
    wanted = Wanted.of(center - size / 2, center + size / 2, center)
    timeline = ShotTimeline(np.arange(len(center)) / fps, np.array(starts, np.int64))
    return plan_axis(wanted, timeline, WIDTH, window, PathSettings(**more))


def contains(
    x: Floats, center: Floats, size: float = 60, window: float = WINDOW
) -> NDArray[np.bool_]:
    left, right = np.clip(center - size / 2, 0, WIDTH), np.clip(center + size / 2, 0, WIDTH)
    return (left >= x - 0.01) & (right <= x + window + 0.01)


def seconds(fps: float, length: float) -> Floats:
    return np.arange(round(length * fps)) / fps


def test_an_oscillation_in_the_dead_zone_moves_nothing() -> None:
    x = follow(640 + 40 * np.sin(2 * np.pi * seconds(25, 20) / 3))
    assert np.ptp(x) == 0
    assert x[0] + WINDOW / 2 == pytest.approx(640, abs=40)


def test_a_still_subject_under_noise_moves_nothing() -> None:
    assert np.ptp(follow(500 + np.random.default_rng(0).normal(0, 3, 1000))) == 0


def test_constant_speed_is_followed_at_constant_speed() -> None:
    t = seconds(25, 10)
    center = 150 + 95 * t
    x = follow(center)
    assert contains(x, center).all()
    middle = x[60:-60]
    assert np.abs(np.diff(middle, 2)).max() < 0.1
    assert np.median(np.diff(middle)) == pytest.approx(95 / 25, rel=0.15)


def test_a_step_is_one_ease_without_reversal() -> None:
    t = seconds(25, 12)
    center = np.where(t < 6, 300.0, 900.0)
    x = follow(center)
    moves = np.diff(x)
    assert (moves >= -0.01).all()
    assert 0 < (moves > 0.05).sum() < 2.5 * 25
    assert np.ptp(x[:100]) == np.ptp(x[-100:]) == 0
    assert np.abs(np.diff(x, 2)).max() < 20
    away = np.abs(t - 6) > 0.7
    assert contains(x, center)[away].all()


def test_an_excursion_is_followed_only_when_it_lasts() -> None:
    t = seconds(25, 30)
    for length, moves in ((1.5, False), (12.0, True)):
        x = follow(540 + 220.0 * ((t > 10) & (t < 10 + length)))
        assert (np.ptp(x) > 1) == moves, length


def test_the_path_starts_anew_at_a_cut() -> None:
    center = np.concatenate([300 + 1.5 * np.arange(100), 1000 - 1.5 * np.arange(150)])
    x = follow(center, starts=(0, 100))
    np.testing.assert_allclose(x[:100], follow(center[:100]), atol=3)
    np.testing.assert_allclose(x[100:], follow(center[100:]), atol=3)
    assert contains(x, center).all()


def test_a_short_shot_keeps_the_window() -> None:
    center = np.concatenate([np.full(100, 300.0), np.full(8, 1100.0), np.full(100, 700.0)])
    x = follow(center, starts=(0, 100, 108))
    assert (x[100:108] == x[99]).all()
    assert contains(x, center)[108:].all()
    first = follow(center[100:], starts=(0, 8))
    assert (first[:8] == first[8]).all()
    alone = follow(center[100:108])
    assert contains(alone, center[100:108]).all()


def test_a_lost_subject_is_bridged() -> None:
    t = seconds(25, 12)
    center = 300 + 50 * t
    lost = (t > 4) & (t < 6)
    x = follow(np.where(lost, np.nan, center))
    assert contains(x, center)[~lost].all()
    assert np.abs(np.diff(x)).max() < 8


def test_a_subject_lost_for_good_is_waited_for_then_given_up() -> None:
    t = seconds(25, 30)
    x = follow(np.where(t < 5, 200.0, np.nan))
    assert np.ptp(x[t < 4]) == 0 and contains(x, np.full(len(t), 200.0))[t < 6.4].all()
    assert x[-1] == pytest.approx(END / 2, abs=1)
    assert (np.diff(x) >= -0.01).all() and np.abs(np.diff(x)).max() < 20


def test_nobody_is_the_middle() -> None:
    np.testing.assert_allclose(follow(np.full(50, np.nan)), END / 2, atol=0.1)


def test_the_window_is_in_place_before_the_subject_comes() -> None:
    x = follow(np.where(seconds(25, 10) < 3, np.nan, 1000.0))
    assert np.ptp(x) < 1 and contains(x, np.full(250, 1000.0)).all()


def test_a_subject_at_the_edge_is_inside() -> None:
    for center in (10.0, 1270.0):
        x = follow(np.full(50, center))
        assert contains(x, np.full(50, center)).all() and 0 <= x[0] <= END


def test_a_subject_wider_than_the_window_is_centred_without_its_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 3, 500)
    x = follow(640 + noise, size=500)
    np.testing.assert_allclose(x + WINDOW / 2, 640, atol=10)
    assert (np.diff(x) == 0).mean() > 0.8


def test_a_wrong_match_is_no_reason_to_jump() -> None:
    center = np.full(500, 300.0)
    center[250:253] = 1200.0
    x = follow(center)
    assert np.ptp(x) < 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_frames(n: int) -> None:
    center = np.linspace(900, 920, n)
    assert contains(follow(center), center).all()


def test_a_window_as_wide_as_the_frame_has_nowhere_to_go() -> None:
    assert (follow(np.linspace(0, 1280, 50), window=WIDTH) == 0).all()


def test_a_pinned_window_stands_exactly_there() -> None:
    n = 300
    center = np.full(n, 300.0)
    wanted = Wanted.of(center - 30, center + 30, center)
    wanted.pinned[100:200] = 700.25
    x = plan_axis(
        wanted, ShotTimeline(np.arange(n) / 25, np.array([0])), WIDTH, WINDOW, PathSettings()
    )
    assert (x[100:200] == 700.25).all()
    assert np.abs(np.diff(x)).max() < 300
    assert contains(x, center)[:60].all() and contains(x, center)[240:].all()


# ------------------------------------------------------------------ what the settings mean


def roaming(fps: float) -> Floats:
    t = seconds(fps, 24)
    return 640 + 260 * np.sin(2 * np.pi * t / 9) + 60 * np.sin(2 * np.pi * t / 2.3)


@pytest.mark.parametrize(
    ("smoothing", "windows"), [(0.2, 0.03), (0.5, 0.02), (0.8, 0.02), (1.0, 0.02)]
)
def test_a_setting_means_the_same_at_any_frame_rate(smoothing: float, windows: float) -> None:
    slow, fast = (follow(roaming(fps), fps=fps, smoothing=smoothing) for fps in (25, 100))
    np.testing.assert_allclose(fast[::4], slow, atol=windows * WINDOW)


def test_more_smoothing_moves_less() -> None:
    paths = [follow(roaming(25), smoothing=s) for s in (0.0, 0.3, 0.6, 0.8, 0.95)]
    ways = [np.abs(np.diff(x)).sum() for x in paths]
    assert all(a > 0.99 * b for a, b in zip(ways, ways[1:], strict=False)), ways
    assert ways[0] > 2 * ways[-1]
    offsets = [np.abs(x + WINDOW / 2 - roaming(25)).mean() for x in paths]
    assert offsets[0] < 0.1 * WINDOW and offsets[0] < offsets[-1]


def test_no_smoothing_follows_every_movement() -> None:
    center = roaming(25)
    x = follow(center, smoothing=0.0, anticipation=0.0)
    assert np.abs(x + WINDOW / 2 - center).max() < 0.02 * WINDOW


def test_anticipation_leads() -> None:
    center = 200 + 60 * seconds(25, 14)
    lead = [
        float((follow(center, anticipation=a, smoothing=0.3) + WINDOW / 2 - center)[100:200].mean())
        for a in (0.0, 0.5, 2.0)
    ]
    assert lead[0] < lead[1] < lead[2]
    assert lead[2] - lead[0] == pytest.approx(60, rel=0.3)  # half of 2 s at 60 px/s


def test_padding_keeps_its_distance() -> None:
    center = roaming(25)
    for padding in (0.0, 0.5, 1.0):
        x = follow(center, padding=padding)
        inner = np.minimum(center - 30 - x, x + WINDOW - center - 30)
        assert inner.min() >= 60 * padding - 0.01


def test_chunks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    t = seconds(25, 200)
    center = 640 + 280 * np.sin(2 * np.pi * t / 17) + np.random.default_rng(1).normal(0, 3, len(t))
    whole = follow(center)
    monkeypatch.setattr(path_module, "_CHUNK_FRAMES", 700)
    pieces = follow(center)
    assert contains(pieces, center).all()
    np.testing.assert_allclose(pieces, whole, atol=0.01 * WINDOW)
    assert np.abs(np.diff(pieces)).sum() == pytest.approx(np.abs(np.diff(whole)).sum(), rel=0.01)


# ------------------------------------------------------------------ real players


def players(media: Path, every: int) -> Iterator[tuple[float, Floats, Floats]]:
    """Left and right edge, in pixels of 1280, of every n-th player's unbroken stretches of 100
    frames and more in the ground truth of SportsMOT."""
    count = 0
    with tarfile.open(media / "crop" / "sportsmot_train_gt.tar.xz") as archive:
        files = {
            member.name: archive.extractfile(member).read().decode()
            for member in archive
            if member.isfile()
        }  # type: ignore[union-attr]
    for name in sorted(files):
        if not name.endswith("gt.txt"):
            continue
        info = dict(
            line.split("=")
            for line in files[name.replace("gt.txt", "seqinfo.ini")].split()
            if "=" in line
        )
        table = np.loadtxt(files[name].splitlines(), delimiter=",")
        assert int(info["imWidth"]) == WIDTH
        for one in np.unique(table[:, 1]):
            rows = table[table[:, 1] == one]
            rows = rows[np.argsort(rows[:, 0])]
            for part in np.split(rows, np.flatnonzero(np.diff(rows[:, 0]) != 1) + 1):
                count += len(part) >= 100
                if len(part) >= 100 and count % every == 0:
                    left, right = part[:, 2], part[:, 2] + part[:, 4]
                    yield (
                        float(info["frameRate"]),
                        np.clip(left, 0, WIDTH),
                        np.clip(right, 0, WIDTH),
                    )


def measured(media: Path, every: int) -> tuple[int, float, float, float, float]:
    """Frames; share with the true player wholly inside; mean offset in windows; rms jerk in
    windows/s^3; still share."""
    dice, rows = np.random.default_rng(0), []
    for fps, left, right in players(media, every):
        n = len(left)
        low, high = left + dice.normal(0, 3, n), right + dice.normal(0, 3, n)
        wanted = Wanted.of(low, high, (low + high) / 2)
        x = np.round(
            plan_axis(
                wanted,
                ShotTimeline(np.arange(n) / fps, np.array([0])),
                WIDTH,
                WINDOW,
                PathSettings(),
            ),
            2,
        )
        inside = (np.minimum(right, x + WINDOW) - np.maximum(left, x)) / np.maximum(
            right - left, 1
        ) >= 0.999
        offset = (
            np.abs(x + WINDOW / 2 - np.clip((left + right) / 2, WINDOW / 2, WIDTH - WINDOW / 2))
            / WINDOW
        )
        jerk = np.sqrt((np.diff(x / WINDOW, 3) ** 2).mean()) * fps**3
        rows.append((n, inside.mean(), offset.mean(), jerk, (np.abs(np.diff(x)) < 0.05).mean()))
    table = np.array(rows)
    return int(table[:, 0].sum()), *(
        float(v) for v in np.average(table[:, 1:], axis=0, weights=table[:, 0])
    )


@pytest.mark.parametrize(
    "every", [40, pytest.param(1, marks=pytest.mark.slow)], ids=["some players", "all players"]
)
def test_following_players(media: Path, every: int) -> None:
    frames, inside, offset, jerk, still = measured(media, every)
    assert frames > 5000
    assert inside >= 0.999
    assert offset <= 0.16
    assert jerk <= 2
    assert still >= 0.2
