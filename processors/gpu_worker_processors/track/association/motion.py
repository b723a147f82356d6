"""A constant-velocity Kalman filter for many boxes at once, in real time instead of in frames.

A box is four independent axes (centre x, centre y, width, height), so the 8x8 covariance of the
classical filter is four 2x2 blocks and all tracks are stepped by a handful of array operations. The
unit of time is one `TICK_SECONDS`: noise grows with the time that passed, so a clip at 12.5, 25 or
50 frames/s, or with a variable rate, is filtered alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_worker_processors.track.association.boxes import Floats, to_centre, to_corners
from gpu_worker_processors.track.association.camera import Warp

TICK_SECONDS = 1 / 30
"""Velocities are per tick: the frame rate at which ByteTrack's noise constants were chosen (MOT17,
25 to 30 frames/s)."""

POSITION_NOISE = 1 / 20
VELOCITY_NOISE = 1 / 120
"""Standard deviations per tick as shares of the box's size. The first is ByteTrack's; its 1/160 for
the second is less than what players do: 1/120 gives HOTA +0.3 on SportsMOT and the same on PETS."""


@dataclass
class Motion:
    """Filter states of n boxes; float64."""

    position: Floats
    """Shape (n, 4): centre x, centre y, width, height in pixels."""
    speed: Floats
    """Shape (n, 4): change of `position` per tick."""
    spread: Floats
    """Shape (3, n, 4): variance of the position, covariance of position and speed, variance of the
    speed, per axis."""

    @classmethod
    def starting(cls, boxes: Floats) -> Motion:
        """Fresh states at corner boxes (n, 4), standing still."""
        position = to_centre(boxes)
        size = _sizes(position)
        spread = np.stack(
            [
                (2 * POSITION_NOISE * size) ** 2,
                np.zeros_like(size),
                (10 * VELOCITY_NOISE * size) ** 2,
            ]
        )
        return cls(position, np.zeros_like(position), spread)

    def __len__(self) -> int:
        return len(self.position)

    def boxes(self) -> Floats:
        """Corner boxes (n, 4) of the estimates."""
        return to_corners(self.position)

    def step(self, ticks: float) -> None:
        """Move all states `ticks` into the future."""
        self.position = self.position + ticks * self.speed
        self.position[:, 2:] = np.maximum(self.position[:, 2:], 1e-3)
        size = _sizes(self.position)
        pp, pv, vv = self.spread
        jolt = (VELOCITY_NOISE * size) ** 2
        pp = (
            pp
            + 2 * ticks * pv
            + ticks**2 * vv
            + ticks * (POSITION_NOISE * size) ** 2
            + jolt * ticks**3 / 3
        )
        self.spread = np.stack([pp, pv + ticks * vv + jolt * ticks**2 / 2, vv + jolt * ticks])

    def correct(self, rows: np.ndarray, boxes: Floats) -> None:
        """Take in the corner boxes (k, 4) seen for the states `rows` (k,)."""
        pp, pv, vv = self.spread[:, rows]
        noise = (POSITION_NOISE * _sizes(self.position[rows])) ** 2
        miss = to_centre(boxes) - self.position[rows]
        gain, drag = pp / (pp + noise), pv / (pp + noise)
        self.position[rows] += gain * miss
        self.speed[rows] += drag * miss
        self.spread[:, rows] = np.stack([(1 - gain) * pp, (1 - gain) * pv, vv - drag * pv])

    def warp(self, camera: Warp) -> None:
        """Move all states with the camera: positions and speeds turn, shift and zoom; the axes'
        variances only zoom.

        The small turn of the variances is left out: between two frames it is under a degree, and
        they are nearly isotropic.
        """
        turn = np.array([[camera.a, camera.b], [-camera.b, camera.a]])
        zoom = float(np.hypot(camera.a, camera.b))
        self.position[:, :2] = self.position[:, :2] @ turn + (camera.dx, camera.dy)
        self.speed[:, :2] = self.speed[:, :2] @ turn
        self.position[:, 2:] *= zoom
        self.speed[:, 2:] *= zoom
        self.spread = self.spread * zoom**2


def _sizes(position: Floats) -> Floats:
    """Width and height of (n, 4) states laid beside the axes they scale: w, h, w, h."""
    return np.concatenate([position[:, 2:], position[:, 2:]], axis=1)
