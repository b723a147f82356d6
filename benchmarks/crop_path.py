"""The path of auto_crop's window beside exponential smoothing, on the same players, and its solver
beside HiGHS.

One player at a time is followed at 9:16 of 1280x720 with 3 px of noise on every edge. Measured
against the player's true box: the share of frames with it wholly in the window; the root mean
square of the path's third difference in windows/s^3, which the eye sees as shaking; the mean
distance of the player from the window's middle, in windows; the share of frame pairs between which
the window moves less than 0.05 px. The players are those of TEST_MEDIA's SportsMOT ground truth, or
made at run time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, diags, eye, hstack, vstack

from gpu_worker_processors.auto_crop.l1 import (
    Corridor,
    Weights,
    derivative_rows,
    frame_seconds,
    stillest_line,
)
from gpu_worker_processors.auto_crop.path import PathSettings, ShotTimeline, Wanted, plan_axis

Floats = NDArray[np.float64]
WIDTH, WINDOW, NOISE_PX = 1280, 405.0, 3.0
HOUR_FRAMES, HOUR_FPS = 108_000, 30
SOLVED = 30
"""Paths for the comparison with HiGHS, which takes its time."""

Player = tuple[float, Floats, Floats]
"""Frames a second; left and right edges in pixels, shape (n,)."""


def rows() -> list[dict[str, Any]]:
    players = (_real() or _made())[::3]
    return [*_steadiness(players), _speed(players), _hour()]


def _real() -> list[Player]:
    archive = Path(os.environ.get("TEST_MEDIA", ""), "crop", "sportsmot_train_gt.tar.xz")
    if not archive.is_file():
        return []
    with tarfile.open(archive) as packed:
        files = {
            one.name: packed.extractfile(one).read().decode() for one in packed if one.isfile()
        }  # type: ignore[union-attr]
    found = list[Player]()
    for name in sorted(name for name in files if name.endswith("gt.txt")):
        info = files[name.replace("gt.txt", "seqinfo.ini")].split()
        fps = float(next(line.split("=")[1] for line in info if line.startswith("frameRate=")))
        table = np.loadtxt(files[name].splitlines(), delimiter=",")
        table = table[np.lexsort((table[:, 0], table[:, 1]))]
        for part in np.split(
            table, np.flatnonzero((np.diff(table[:, 1]) != 0) | (np.diff(table[:, 0]) != 1)) + 1
        ):
            if len(part) >= 100:
                left, right = part[:, 2], part[:, 2] + part[:, 4]
                found.append((fps, np.clip(left, 0, WIDTH), np.clip(right, 0, WIDTH)))
    return found


def _made() -> list[Player]:
    """People who run to a new position every few seconds."""
    dice, found = np.random.default_rng(0), list[Player]()
    for _ in range(100):
        positions = np.repeat(dice.uniform(60, WIDTH - 60, 20), dice.integers(25, 120, 20))
        kernel = np.hanning(40) / np.hanning(40).sum()
        middle = np.convolve(np.convolve(positions, kernel, "valid"), kernel, "valid")
        found.append((25.0, middle - 30, middle + 30))
    return found


def _exponential(values: Floats, factor: float) -> Floats:
    """s[0] = v[0]; s[i] = factor * s[i - 1] + (1 - factor) * v[i]."""
    out = values.copy()
    for i in range(1, len(out)):
        out[i] = factor * out[i - 1] + (1 - factor) * out[i]
    return out


def _smoothed(low: Floats, high: Floats, fps: float) -> Floats:
    del fps
    return _exponential((low + high) / 2, 0.9) - WINDOW / 2


def _both_ways(low: Floats, high: Floats, fps: float) -> Floats:
    del fps
    return _exponential(_exponential((low + high) / 2, 0.9)[::-1], 0.9)[::-1] - WINDOW / 2


def _ours(low: Floats, high: Floats, fps: float) -> Floats:
    wanted = Wanted.of(low, high, (low + high) / 2)
    return plan_axis(
        wanted,
        ShotTimeline(np.arange(len(low)) / fps, np.array([0])),
        WIDTH,
        WINDOW,
        PathSettings(),
    )


def _measure(players: list[Player], method: Callable[[Floats, Floats, float], Floats]) -> Floats:
    """In view, jerk, offset, still: means over all frames."""
    dice, lines = np.random.default_rng(0), []
    for fps, left, right in players:
        n = len(left)
        x = method(left + dice.normal(0, NOISE_PX, n), right + dice.normal(0, NOISE_PX, n), fps)
        x = np.round(np.clip(x, 0, WIDTH - WINDOW), 2)
        inside = (np.minimum(right, x + WINDOW) - np.maximum(left, x)) / np.maximum(
            right - left, 1
        ) >= 0.999
        wanted = np.clip((left + right) / 2, WINDOW / 2, WIDTH - WINDOW / 2)
        offset = np.abs(x + WINDOW / 2 - wanted).mean() / WINDOW
        jerk = np.sqrt((np.diff(x / WINDOW, 3) ** 2).mean()) * fps**3
        lines.append((n, inside.mean(), jerk, offset, (np.abs(np.diff(x)) < 0.05).mean()))
    table = np.array(lines)
    return np.average(table[:, 1:], axis=0, weights=table[:, 0])


def _steadiness(players: list[Player]) -> list[dict[str, Any]]:
    frames = sum(len(left) for _, left, _ in players)
    ours = _measure(players, _ours)
    found = list[dict[str, Any]]()
    for name, method in (("exponential 0.9", _smoothed), ("exponential 0.9 both ways", _both_ways)):
        peer = _measure(players, method)
        said = [
            f"in view {one[0]:.2%}, off the middle {one[2]:.3f} windows, still {one[3]:.0%}"
            for one in (ours, peer)
        ]
        note = f"{len(players)} players, {frames} frames; ours: {said[0]}; peer: {said[1]}"
        row = {
            "name": f"crop path: shake beside {name}",
            "ours": ours[1],
            "peer": peer[1],
            "unit": "windows/s^3",
        }
        found.append(row | {"ratio": peer[1] / ours[1], "note": note})
    return found


def _corridor(player: Player) -> Corridor:
    fps, left, right = player
    n = len(left)
    end = WIDTH / WINDOW - 1
    low, high = np.clip(right / WINDOW - 1, 0, end - 0.01), np.clip(left / WINDOW, 0.01, end)
    low = np.minimum(low, high - 0.01)
    middle = (low + high) / 2
    zone = 0.5 * (high - middle)
    return Corridor(
        np.arange(n) / fps,
        low,
        high,
        middle - zone,
        middle + zone,
        np.full(n, 5.0),
        np.arange(n) == 0,
    )


def _highs(corridor: Corridor, weights: Weights) -> Floats | None:
    """None where HiGHS gives up ("solve error")."""
    n = len(corridor.times)
    orders = derivative_rows(corridor.times, corridor.starts, weights)
    each = vstack(
        [diags([order[j, : n - j] for j in range(4)], range(4), shape=(n, n)) for order in orders]
    )
    m = each.shape[0]
    blocks = [
        *(hstack([sign * each, -eye(m), csr_matrix((m, n))]) for sign in (1, -1)),
        *(hstack([sign * eye(n), csr_matrix((n, m)), -eye(n)]) for sign in (-1, 1)),
    ]
    prices = np.concatenate(
        [np.zeros(n), np.ones(m), corridor.pull * frame_seconds(corridor.times)]
    )
    right = np.concatenate([np.zeros(2 * m), -corridor.soft_low, corridor.soft_high])
    bounds = [*zip(corridor.low, corridor.high, strict=True), *[(0, None)] * (m + n)]
    found = linprog(
        prices, A_ub=vstack(blocks).tocsr(), b_ub=right, bounds=bounds, method="highs-ipm"
    )
    return found.x[:n] if found.success else None


def _speed(players: list[Player]) -> dict[str, Any]:
    corridors = [
        _corridor(player) for player in players[:: max(1, len(players) // SOLVED)][:SOLVED]
    ]
    weights, spent, largest, failed, frames = Weights(10, 1 / 30, 1 / 9), [0.0, 0.0], 0.0, 0, 0
    for corridor in corridors:
        started = time.process_time()
        ours = stillest_line(corridor, weights)
        between = time.process_time()
        theirs = _highs(corridor, weights)
        if theirs is None:
            failed += 1
            continue
        spent = [spent[0] + between - started, spent[1] + time.process_time() - between]
        largest = max(largest, float(np.abs(ours - theirs).max()))
        frames += len(ours)
    note = (
        f"{len(corridors) - failed} paths, {frames} frames, CPU time; nowhere over"
        f" {largest * WINDOW:.2f} px of {WIDTH} apart; HiGHS gave up on {failed} more"
    )
    row = {
        "name": "crop path: solver beside HiGHS (interior point)",
        "unit": "frames/s",
        "note": note,
    }
    return row | {
        "ours": frames / spent[0],
        "peer": frames / spent[1],
        "ratio": spent[1] / spent[0],
    }


def _hour() -> dict[str, Any]:
    ran = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    cpu, peak = (float(word) for word in ran.stdout.split())
    row = {
        "name": "crop path: one hour at 30 frames/s",
        "ours": HOUR_FRAMES / cpu,
        "unit": "frames/s",
        "peak_rss_mb": peak,
    }
    return row | {
        "note": f"{cpu:.1f} CPU seconds, one shot of {HOUR_FRAMES} frames in a process of its own"
    }


def _one_hour() -> None:
    t = np.arange(HOUR_FRAMES) / HOUR_FPS
    middle = 640 + 280 * np.sin(2 * np.pi * t / 17) + 60 * np.sin(2 * np.pi * t / 5.3)
    middle += np.random.default_rng(0).normal(0, NOISE_PX, HOUR_FRAMES)
    started = time.process_time()
    _ours(middle - 30, middle + 30, HOUR_FPS)
    # The peak of this process itself: getrusage inherits the parent's.
    status = Path("/proc/self/status").read_text()
    print(time.process_time() - started, int(status.split("VmHWM:")[1].split()[0]) / 1024)


if __name__ == "__main__":
    _one_hour()
