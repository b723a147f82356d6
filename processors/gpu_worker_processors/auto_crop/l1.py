"""The stillest line through a corridor: least absolute speed, acceleration and jerk, never outside
hard bounds.

Owns the optimisation alone and knows nothing of images. The problem is that of M. Grundmann, V.
Kwatra, I. Essa, "Auto-directed video stabilization with robust L1 optimal camera paths" (2011),
with derivatives taken over real time, so that the answer does not depend on the frame rate, and
with a pull towards a soft corridor:

    minimise    sum over frames of dt * (speed |x'| + acceleration |x''| + jerk |x'''| + pull *
    distance to soft) subject to  low <= x <= high

It is solved by a primal-dual interior point method with a predictor and a corrector (S. Mehrotra,
"On the implementation of a primal-dual interior point method", 1992). The matrix of each step has
seven diagonals, so time and memory are linear in the number of frames. Every value returned lies
within its hard bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpu_worker_processors.auto_crop.banded import REACH, Factor

Floats = NDArray[np.float64]

_MAX_STEPS = 80
"""25 to 30 are usual, however long the line is."""
_BACK_OFF = 0.995
"""Of the way to the nearest bound: the iterate stays inside, as the method demands."""
_TINY = 1e-15
"""What rounding must not take from a positive value."""
_TOLERANCE = 1e-7
"""Gap to the optimum, relative to the cost: the line is then within 0.0001 of the optimal one, in
units of `x`."""


class Weights(NamedTuple):
    """Price of one unit of each derivative for one second, in units of `x` and seconds."""

    speed: float
    acceleration: float
    jerk: float


@dataclass(frozen=True)
class Corridor:
    """Where the line may go, frame by frame. All arrays have shape (n,), float64 but for
    `starts`."""

    times: Floats
    """Seconds, rising."""
    low: Floats
    """Hard bounds, `low < high`."""
    high: Floats
    soft_low: Floats
    """Where the line is wanted, `soft_low <= soft_high`."""
    soft_high: Floats
    pull: Floats
    """Price of one unit of distance to the soft corridor for one second; 0 where it does not
    matter."""
    starts: NDArray[np.bool_]
    """True at the first frame of each piece; no derivative is taken across it."""

    def part(self, start: int, stop: int) -> Corridor:
        """The frames from `start` to before `stop`, their hard bounds as copies."""
        cut = slice(start, stop)
        return Corridor(
            self.times[cut],
            self.low[cut].copy(),
            self.high[cut].copy(),
            self.soft_low[cut],
            self.soft_high[cut],
            self.pull[cut],
            self.starts[cut],
        )


def stillest_line(corridor: Corridor, weights: Weights) -> Floats:
    """The optimal `x`: shape (n,), float64."""
    state = _Interior(corridor, weights)
    for _ in range(_MAX_STEPS):
        if state.gap() < _TOLERANCE * (1e-3 + state.cost()) or not state.step():
            break
    return np.clip(state.x, corridor.low, corridor.high)


def frame_seconds(times: Floats) -> Floats:
    """How long each frame stands: shape (n,). The last one stands as long as the one before; a
    single one a second."""
    return np.diff(times, append=2 * times[-1] - times[-2]) if len(times) > 1 else np.ones(1)


def derivative_rows(times: Floats, starts: NDArray[np.bool_], weights: Weights) -> Floats:
    """Coefficients of the weighted derivatives: shape (3, 4, n). The k-th derivative at frame i,
    times its price and duration, is the sum over j of `rows[k - 1, j, i] * x[i + j]`. Rows that
    would reach over a start or past the end are zero."""
    n = len(times)
    rows = np.zeros((REACH, REACH + 1, n))
    lower = np.zeros((REACH + 1, n))
    lower[0] = 1
    center, within = times, np.ones(n, bool)
    for order in range(min(REACH, n - 1)):
        size = n - order - 1
        step = np.diff(center)
        higher = -lower[:, :-1]
        higher[1:] += lower[:-1, 1:]
        higher /= step
        within = within[:size] & ~starts[order + 1 :]
        higher[:, ~within] = 0
        rows[order, :, :size] = weights[order] * step * higher
        lower, center = higher, (center[1:] + center[:-1]) / 2
    return rows


class _Move(NamedTuple):
    """One step of every variable."""

    x: Floats
    y: Floats
    """Of the multipliers of the derivative and pull rows."""
    plus: Floats
    minus: Floats
    at_low: Floats
    at_high: Floats


class _Interior:
    """One run of the method.

    A row's value is `plus - minus`, both positive. Its multiplier y keeps `room_plus = limit - y`
    and `room_minus = limit + y` positive; the bounds' multipliers are `at_low` and `at_high`. Start
    and steps satisfy all equations exactly, so the sum of the products of each positive pair is the
    gap to the optimum.
    """

    def __init__(self, corridor: Corridor, weights: Weights) -> None:
        self.rows = derivative_rows(corridor.times, corridor.starts, weights)
        self.n = len(corridor.times)
        self.x = (corridor.low + corridor.high) / 2
        self.soft = np.stack([corridor.soft_low, corridor.soft_high])
        # Distance to both ends of the soft corridor, at half the price: constant inside, growing at
        # the full price outside.
        pull = np.maximum(corridor.pull * frame_seconds(corridor.times) / 2, 1e-9)
        self.limit = np.concatenate([np.ones((REACH, self.n)), [pull, pull]])
        values = self._values(self.x)
        self.plus, self.minus = np.maximum(values, 0) + 0.1, np.maximum(-values, 0) + 0.1
        self.room_plus, self.room_minus = self.limit.copy(), self.limit.copy()
        self.under, self.over = self.x - corridor.low, corridor.high - self.x
        self.at_low, self.at_high = np.ones(self.n), np.ones(self.n)

    def gap(self) -> float:
        inner = np.vdot(self.plus, self.room_plus) + np.vdot(self.minus, self.room_minus)
        return float(inner + self.under @ self.at_low + self.over @ self.at_high)

    def cost(self) -> float:
        return float(np.vdot(self.limit, np.abs(self._values(self.x))))

    def step(self) -> bool:
        """One step on; False, with nothing changed, when rounding leaves no way on: the line is
        then good to that precision."""
        theta = 1 / (self.plus / self.room_plus + self.minus / self.room_minus)
        try:
            factor = Factor(self._bands(theta, self.at_low / self.under + self.at_high / self.over))
        except np.linalg.LinAlgError:
            return False
        gap, pairs = self.gap(), 2 * (theta.size + self.n)
        guess = self._move(factor, theta, 0.0, None)
        center = (self._gap_after(guess) / gap) ** 3 * gap / pairs
        move = self._move(factor, theta, center, guess)
        if not all(np.isfinite(part).all() for part in move):
            return False
        self._go(move)
        return True

    def _values(self, x: Floats) -> Floats:
        return np.concatenate([self._derivatives(x), x - self.soft])

    def _derivatives(self, x: Floats) -> Floats:
        out = self.rows[:, 0] * x
        for j in range(1, REACH + 1):
            out[:, : max(self.n - j, 0)] += self.rows[:, j, : max(self.n - j, 0)] * x[j:]
        return out

    def _transposed(self, y: Floats) -> Floats:
        """What the multipliers of all rows weigh on each `x`."""
        out = (self.rows[:, 0] * y[:REACH]).sum(0) + y[REACH:].sum(0)
        for j in range(1, REACH + 1):
            out[j:] += (self.rows[:, j] * y[:REACH]).sum(0)[: max(self.n - j, 0)]
        return out

    def _bands(self, theta: Floats, diagonal: Floats) -> Floats:
        """The matrix of the step for `Factor`."""
        bands = np.zeros((REACH + 1, self.n))
        bands[0] = diagonal + theta[REACH:].sum(0)
        for p in range(REACH + 1):
            scaled = theta[:REACH] * self.rows[:, p]
            for k in range(REACH + 1 - p):
                bands[k, p:] += (scaled * self.rows[:, p + k]).sum(0)[: max(self.n - p, 0)]
        return bands

    def _move(self, factor: Factor, theta: Floats, center: float, guess: _Move | None) -> _Move:
        """The step towards products of `center` in every pair, corrected for what `guess` would
        leave of second order."""
        plus = center - self.plus * self.room_plus
        minus = center - self.minus * self.room_minus
        low = center - self.under * self.at_low
        high = center - self.over * self.at_high
        if guess is not None:
            plus += guess.plus * guess.y
            minus -= guess.minus * guess.y
            low -= guess.x * guess.at_low
            high += guess.x * guess.at_high
        shift = plus / self.room_plus - minus / self.room_minus
        x = factor.solve(self._transposed(theta * shift) + low / self.under - high / self.over)
        y = theta * (np.concatenate([self._derivatives(x), [x, x]]) - shift)
        return _Move(
            x,
            y,
            (plus + self.plus * y) / self.room_plus,
            (minus - self.minus * y) / self.room_minus,
            (low - self.at_low * x) / self.under,
            (high + self.at_high * x) / self.over,
        )

    def _lengths(self, move: _Move) -> tuple[float, float]:
        """How much of a move keeps everything positive: of the values, of the multipliers."""
        values = (
            (self.plus, move.plus),
            (self.minus, move.minus),
            (self.under, move.x),
            (self.over, -move.x),
        )
        multipliers = (
            (self.room_plus, -move.y),
            (self.room_minus, move.y),
            (self.at_low, move.at_low),
            (self.at_high, move.at_high),
        )
        return min(_longest(*pair) for pair in values), min(_longest(*pair) for pair in multipliers)

    def _gap_after(self, move: _Move) -> float:
        by, dual = self._lengths(move)
        inner = np.vdot(self.plus + by * move.plus, self.room_plus - dual * move.y)
        inner += np.vdot(self.minus + by * move.minus, self.room_minus + dual * move.y)
        inner += (self.under + by * move.x) @ (self.at_low + dual * move.at_low)
        return float(inner + (self.over - by * move.x) @ (self.at_high + dual * move.at_high))

    def _go(self, move: _Move) -> None:
        by, dual = (length * _BACK_OFF for length in self._lengths(move))
        self.x += by * move.x
        self.plus += by * move.plus
        self.minus += by * move.minus
        self.under += by * move.x
        self.over -= by * move.x
        self.room_plus -= dual * move.y
        self.room_minus += dual * move.y
        self.at_low += dual * move.at_low
        self.at_high += dual * move.at_high
        for values in (self.plus, self.minus, self.under, self.over):
            np.maximum(values, _TINY, out=values)
        for values in (self.room_plus, self.room_minus, self.at_low, self.at_high):
            np.maximum(values, _TINY, out=values)


def _longest(values: Floats, change: Floats) -> float:
    """The longest step, 1 at most, that keeps `values` positive."""
    return float(1 / np.max(-change / values, initial=1.0))
