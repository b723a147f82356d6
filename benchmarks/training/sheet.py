"""Draws docs/lite.jpg: parts of images that `lite` has not learned from, shrunk to a quarter and
enlarged in four ways.

    WEIGHTS_DIR=weights python benchmarks/training/sheet.py

Needs realesr-animevideov3 in WEIGHTS_DIR. The images are in the public domain (see
images.HELD_OUT).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from degrade import shrunk
from images import held_out
from numpy.typing import NDArray

from gpu_worker_processors.models.sr.loader import load
from gpu_worker_processors.models.weights import WeightStore

OUTPUT = Path(__file__).parents[2] / "docs" / "lite.jpg"
SCALE = 4
WINDOWS = ((20, 150), (130, 190), (180, 240))
"""Top and left of the part that is shown of each held-out image, in pixels of the original."""
WINDOW_PX = 192
LABEL_PX = 18
JPEG_QUALITY = 88


def sheet(store: WeightStore) -> NDArray[np.uint8]:
    """uint8 BGR: a row for each image, a column for each way."""
    rows = [
        _row(image, top, left, store)
        for image, (top, left) in zip(held_out(), WINDOWS, strict=True)
    ]
    return np.vstack([_labels(list(rows[0])), *(np.hstack(list(row.values())) for row in rows)])[
        ..., ::-1
    ]


def _row(
    image: NDArray[np.uint8], top: int, left: int, store: WeightStore
) -> Mapping[str, NDArray[np.uint8]]:
    height, width = (edge // SCALE * SCALE for edge in image.shape[:2])
    large = image[:height, :width]
    small = shrunk(large[None], SCALE, "bicubic")[0]
    size = (width, height)
    ways = {
        "nearest": cv2.resize(small, size, interpolation=cv2.INTER_NEAREST),
        "bicubic": cv2.resize(small, size, interpolation=cv2.INTER_CUBIC),
        "lite": _network("lite", small, store),
        "realesr-animevideov3": _network("realesr-animevideov3", small, store),
        "original": large,
    }
    return {
        name: way[top : top + WINDOW_PX, left : left + WINDOW_PX].astype(np.uint8)
        for name, way in ways.items()
    }


def _network(name: str, small: NDArray[np.uint8], store: WeightStore) -> NDArray[np.uint8]:
    net = load(name, store=store, device=torch.device("cpu"))
    rgb = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    return (net(rgb)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _labels(names: list[str]) -> NDArray[np.uint8]:
    band = np.full((LABEL_PX, WINDOW_PX * len(names), 3), 255, np.uint8)
    for index, name in enumerate(names):
        cv2.putText(
            band,
            name,
            (WINDOW_PX * index + 4, 13),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    return band


if __name__ == "__main__":
    drawn = sheet(WeightStore(Path(os.environ["WEIGHTS_DIR"])))
    cv2.imwrite(str(OUTPUT), drawn, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
