"""What `lite` may learn from, and nothing else: images whose licence allows it, and scenes drawn
here.

A shot is a few consecutive frames, uint8 [T, H, W, 3], red first. Every shot is made from a seed,
so two runs learn the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Shot = NDArray[np.uint8]

PHOTOGRAPHS = (
    # scikit-image, public domain or CC0 by its own notes
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/text.png"),
    # scikit-learn, CC BY 2.0: "china" by danielbuechele, "flower" by vultilion
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
HELD_OUT = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
)
"""Never learned from: the scores while training are of these, and the demo shows them."""
FOOTAGE = (
    "big_buck_bunny_0_30.webm",  # (c) Blender Foundation, www.bigbuckbunny.org, CC BY 3.0
    "nasa_13013.mp4",  # public domain
    "chaplin.mp4",  # public domain
)
"""Read from the folder that the caller gives."""

SHOT_FRAMES = 3
WINDOW_PX = 288
"""Edge of a shot. A smaller image gives smaller shots."""
EDGE_MULTIPLE = 8
"""Of every shot's edges: even, as H.264 wants it, after shrinking by 4 too."""
ZOOMS = (1.0, 0.75, 0.5)
"""A photograph is shown at these sizes: finer detail for its size, and less of the compression it
came with."""
FOOTAGE_SHRINK = 0.5
"""Footage was compressed by its publisher; at half its size little of that is left. Small videos
stay as they are."""
_DRAWN_LARGER = 4


def held_out() -> list[NDArray[np.uint8]]:
    """The images of `HELD_OUT`, uint8 [H, W, 3]."""
    return [_read(*name) for name in HELD_OUT]


def shots(count: int, footage: Path | None, seed: int) -> Iterator[Shot]:
    """`count` shots: half of photographs, a third of footage, the rest drawn. Without footage
    photographs fill its share."""
    photographs = [_read(*name) for name in PHOTOGRAPHS]
    filmed = list(_filmed(footage, seed)) if footage else []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        kind = rng.random()
        if kind < 0.15:
            yield _walk(_drawn(rng), rng)
        elif filmed and kind < 0.5:
            yield _window(filmed[rng.integers(len(filmed))], rng)
        else:
            yield _walk(_photographed(photographs, rng), rng)


def shrink(frames: Shot, factor: float) -> Shot:
    """Averages frames down to `factor` of their size."""
    size = (round(frames.shape[2] * factor), round(frames.shape[1] * factor))
    return np.stack(
        [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    ).astype(np.uint8)


def _read(package: str, path: str) -> NDArray[np.uint8]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        image = cv2.imread(str(Path(folder) / path), cv2.IMREAD_COLOR)
        if image is not None:
            return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)
    raise FileNotFoundError(f"{package} and its {path} must be installed")


def _photographed(
    photographs: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """One of them, at one of `ZOOMS`; the larger a photograph, the more often."""
    weights = np.sqrt([image.shape[0] * image.shape[1] for image in photographs])
    image = photographs[rng.choice(len(photographs), p=weights / weights.sum())]
    zoom = float(rng.choice(ZOOMS))
    return (
        image
        if zoom == 1 or min(image.shape[:2]) * zoom < WINDOW_PX
        else shrink(image[None], zoom)[0]
    )


def _walk(image: NDArray[np.uint8], rng: np.random.Generator) -> Shot:
    """Windows that move over a image by up to 6 px a frame."""
    height, width = (
        min(WINDOW_PX, edge) // EDGE_MULTIPLE * EDGE_MULTIPLE for edge in image.shape[:2]
    )
    room = np.array([image.shape[0] - height, image.shape[1] - width])
    position, step = rng.integers(0, room + 1), rng.integers(-6, 7, 2)
    positions = [np.clip(position + n * step, 0, room) for n in range(SHOT_FRAMES)]
    return np.stack([image[top : top + height, left : left + width] for top, left in positions])


def _window(shot: Shot, rng: np.random.Generator) -> Shot:
    height, width = (
        min(WINDOW_PX, edge) // EDGE_MULTIPLE * EDGE_MULTIPLE for edge in shot.shape[1:3]
    )
    top = rng.integers(shot.shape[1] - height + 1)
    left = rng.integers(shot.shape[2] - width + 1)
    return shot[:, top : top + height, left : left + width]


def _filmed(folder: Path, seed: int) -> Iterator[Shot]:
    """Consecutive frames from moments spread over each video."""
    rng = np.random.default_rng((seed, 0, 1))
    for name in FOOTAGE:
        wanted: list[NDArray[np.uint8]] = []
        with av.open(str(folder / name)) as container:
            stream = container.streams.best("video")
            factor = FOOTAGE_SHRINK if stream.height * FOOTAGE_SHRINK >= WINDOW_PX * 0.6 else 1.0
            start = int(rng.integers(0, 12))
            for index, frame in enumerate(container.decode(stream)):
                if (index - start) % 24 < SHOT_FRAMES and index >= start:
                    wanted.append(frame.to_ndarray(format="rgb24"))
                if len(wanted) == SHOT_FRAMES:
                    yield shrink(np.stack(wanted), factor)
                    wanted.clear()


def _drawn(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A colour gradient with discs, polygons, lines, gratings and letters, drawn large and averaged
    down."""
    edge = (WINDOW_PX + 16) * _DRAWN_LARGER
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.float32)
    canvas = cv2.resize(corners, (edge, edge), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    for _ in range(int(rng.integers(12, 40))):
        colour = [int(code) for code in rng.integers(0, 256, 3)]
        points = rng.integers(0, edge, (4, 2)).astype(np.int32)
        first, second = (int(x) for x in points[0]), (int(x) for x in points[1])
        match int(rng.integers(5)):
            case 0:
                cv2.circle(canvas, tuple(first), int(rng.integers(8, edge // 6)), colour, -1)
            case 1:
                cv2.fillPoly(canvas, [points], colour)
            case 2:
                cv2.line(canvas, tuple(first), tuple(second), colour, int(rng.integers(2, 24)))
            case 3:
                _grating(canvas, points, colour, rng)
            case _:
                letters = "".join(chr(code) for code in rng.integers(33, 123, 8))
                size, width = float(rng.uniform(1, 6)), int(rng.integers(2, 12))
                cv2.putText(
                    canvas, letters, tuple(first), int(rng.integers(0, 8)), size, colour, width
                )
    return shrink(canvas[None], 1 / _DRAWN_LARGER)[0]


def _grating(
    canvas: NDArray[np.uint8],
    points: NDArray[np.int32],
    colour: Sequence[int],
    rng: np.random.Generator,
) -> None:
    """Stripes of one colour over a part of the canvas, at any angle, fine ones included."""
    (x0, y0), (x1, y1) = points[:2].min(0), points[:2].max(0)
    y, x = np.mgrid[y0:y1, x0:x1]
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 16) * _DRAWN_LARGER
    stripe = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)) > 0
    canvas[y0:y1, x0:x1][stripe] = colour
