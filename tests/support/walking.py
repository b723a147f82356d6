"""Tracks of people that walk, as the columns' writer takes them, and what it makes of them."""

from __future__ import annotations

import random
from io import BytesIO

from gpu_worker_client.protocol.boxes import BoxColumns
from gpu_worker_client.protocol.columnar import TrackHead, write_columnar

Tracks = list[tuple[TrackHead, BoxColumns]]


def written(tracks: Tracks) -> bytes:
    out = BytesIO()
    write_columnar(out, [head for head, _ in tracks], [boxes for _, boxes in tracks])
    return out.getvalue()


def walking(tracks: int, boxes: int, seed: int = 1, noise: float = 0.5) -> Tracks:
    """People that walk with noise; gaps, interpolated boxes, two classes."""
    rng, made = random.Random(seed), list[tuple[TrackHead, BoxColumns]]()
    for number in range(tracks):
        columns, frame, x, y = (
            BoxColumns(),
            rng.randrange(1000),
            rng.uniform(0, 1200),
            rng.uniform(0, 600),
        )
        for _ in range(boxes):
            x, y = x + rng.gauss(1, 1), y + rng.gauss(0, 0.5)
            corners = [at + rng.gauss(0, noise) for at in (x, y, x + 50, y + 120)]
            columns.put(
                frame, corners, min(1.0, max(0.0, rng.gauss(0.8, 0.05))), rng.random() < 0.02
            )
            frame += 1 if rng.random() < 0.95 else rng.randrange(2, 9)
        made.append(
            (
                TrackHead(number + 1, rng.choice(["person", "sports ball"]), number % 3, boxes),
                columns,
            )
        )
    return made
