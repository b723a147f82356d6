"""Symmetric positive definite systems whose matrix has seven diagonals, factorised once and solved
for several right sides.

Owns block cyclic reduction with blocks of 3 x 3: every second block is eliminated, which leaves a
system of the same kind and half the size. All blocks of one level are handled by one numpy call, so
the cost is linear and no Python loop runs over frames. (D. Heller, "Some aspects of the cyclic
reduction algorithm for block tridiagonal linear systems", 1976.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REACH = 3
"""Diagonals above the main one: what third differences couple."""
_SMALL = 8
"""Blocks; a system of so few is solved as a dense one."""


class Factor:
    """The factorised matrix."""

    def __init__(self, bands: Floats) -> None:
        """
        Args:
            bands: shape (4, n); `bands[k, i]` is the matrix at (i, i + k). Entries beyond the
                matrix are ignored.
        """
        self._n = bands.shape[1]
        diagonal, upper = _blocks(bands)
        self._levels: list[tuple[Floats, Floats, Floats]] = []
        while len(diagonal) > _SMALL:
            diagonal, upper = self._reduce(diagonal, upper)
        self._dense = _inverse(_dense(diagonal, upper))

    def _reduce(self, diagonal: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Eliminates the odd blocks; returns the system of the even ones."""
        odd = len(diagonal) // 2
        inverse = _inverse(diagonal[1::2])
        before = upper[0::2][:odd] @ inverse
        """Shape (odd, 3, 3): what the block before an odd one takes of it."""
        after = np.swapaxes(upper[1::2], 1, 2) @ inverse[: len(upper[1::2])]
        """Shape (odd or odd - 1, 3, 3): the same for the block after."""
        self._levels.append((inverse, before, after))
        reduced = diagonal[0::2].copy()
        reduced[:odd] -= before @ np.swapaxes(upper[0::2][:odd], 1, 2)
        reduced[1 : 1 + len(after)] -= after @ upper[1::2]
        return reduced, -(before[: len(after)] @ upper[1::2])

    def solve(self, right: Floats) -> Floats:
        """The solution for a right side of shape (n,)."""
        blocks = -(-self._n // REACH)
        side = np.zeros((blocks, REACH, 1))
        side.reshape(-1)[: self._n] = right
        odds: list[Floats] = []
        for _, before, after in self._levels:
            odds.append(side[1::2])
            even = side[0::2].copy()
            even[: len(before)] -= before @ side[1::2]
            even[1 : 1 + len(after)] -= after @ side[1::2][: len(after)]
            side = even
        found = (self._dense @ side.reshape(-1)).reshape(-1, REACH, 1)
        for (inverse, before, after), odd in zip(
            reversed(self._levels), reversed(odds), strict=True
        ):
            middle = inverse @ odd - np.swapaxes(before, 1, 2) @ found[: len(before)]
            middle[: len(after)] -= np.swapaxes(after, 1, 2) @ found[1 : 1 + len(after)]
            whole = np.empty((len(found) + len(middle), REACH, 1))
            whole[0::2], whole[1::2] = found, middle
            found = whole
        return found.reshape(-1)[: self._n]


def _blocks(bands: Floats) -> tuple[Floats, Floats]:
    """Diagonal blocks, shape (m, 3, 3), and the blocks right of them, shape (m - 1, 3, 3). The last
    block is filled up with ones on the diagonal."""
    n = bands.shape[1]
    count = -(-n // REACH)
    padded = np.zeros((REACH + 1, count * REACH))
    padded[0] = 1
    for k in range(REACH + 1):
        padded[k, : max(n - k, 0)] = bands[k, : max(n - k, 0)]
    rows = padded.reshape(REACH + 1, count, REACH)
    diagonal = np.zeros((count, REACH, REACH))
    upper = np.zeros((count, REACH, REACH))
    for i in range(REACH):
        for k in range(REACH + 1):
            column = i + k
            if column < REACH:
                diagonal[:, i, column] = diagonal[:, column, i] = rows[k, :, i]
            else:
                upper[:, i, column - REACH] = rows[k, :, i]
    return diagonal, upper[:-1]


def _inverse(matrices: Floats) -> Floats:
    return np.linalg.inv(matrices).astype(np.float64, copy=False)


def _dense(diagonal: Floats, upper: Floats) -> Floats:
    count = len(diagonal)
    whole = np.zeros((count, REACH, count, REACH))
    for i in range(count):
        whole[i, :, i] = diagonal[i]
    for i in range(len(upper)):
        whole[i, :, i + 1] = upper[i]
        whole[i + 1, :, i] = upper[i].T
    return whole.reshape(count * REACH, count * REACH)
