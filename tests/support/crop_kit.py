"""What the auto_crop tests share: a job on local files, a marker whose position is known to a
hundredth of a pixel, tracks as a former job would have answered them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import (
    Track,
    TrackBox,
    TrackCut,
    TrackFrames,
    TrackResult,
    TrackStats,
    TrackVideo,
)
from gpu_worker_client.protocol.auto_crop import AutoCropParams, AutoCropResult
from gpu_worker_processors.auto_crop.processor import PROCESSOR
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from support import clips

DARK, BRIGHT = 40, 220
MARKER_SIGMA_PX = 3.0
WIDE = (320, 180)

Point = tuple[float, float]
"""x and y, pixels from the image's upper left corner."""


def job(
    path: Path,
    output: Path | None = None,
    tracks: Path | None = None,
    weights_dir: Path | None = None,
    **params: Any,
) -> LocalJob:
    settings = ProcessorSettings(weights_dir, "cpu")
    wanted = AutoCropParams.model_validate({"dry_run": output is None, **params}, strict=False)
    inputs = {"tracks": tracks} if tracks else {}
    return LocalJob("job", wanted, path.parent, path, inputs, output, settings=settings)


def crop(path: Path, output: Path | None = None, **rest: Any) -> AutoCropResult:
    """Runs the task; without `output` for coordinates only."""
    one = job(path, output, **rest)
    PROCESSOR.prepare(one)
    result = PROCESSOR.run(one)
    return result.model_copy(update={"warnings": one.warnings})


def marker(
    position: Callable[[int], Point], background: Sequence[int] = (DARK,), every: int = 10**9
) -> clips.Painter:
    """A round Gaussian spot on a flat background that changes its brightness every so many
    frames."""

    def paint(index: int, width: int, height: int) -> NDArray[np.uint8]:
        x, y = position(index)
        rows, columns = np.mgrid[0:height, 0:width] + 0.5
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * MARKER_SIGMA_PX**2))
        dark = background[index // every % len(background)]
        gray = np.rint(dark + (BRIGHT - dark) * spot).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)

    return paint


def marker_positions(path: Path) -> NDArray[np.float64]:
    """Where the spot is in each frame of a file, shape (frames, 2): x and y of its centre of
    mass."""
    return np.array([centroid(image) for image in luma(path)])


def luma(path: Path) -> list[NDArray[np.float64]]:
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="gray").astype(np.float64)
            for frame in container.decode(video=0)
        ]


def centroid(image: NDArray[np.float64]) -> Point:
    """Of whatever is clearly brighter than most of the image."""
    base = np.median(image)
    weight = np.where(image > base + 12, image - base, 0)
    rows, columns = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    return float((weight * columns).sum() / weight.sum()), float(
        (weight * rows).sum() / weight.sum()
    )


def windows_at(result: AutoCropResult, times: Sequence[float]) -> NDArray[np.float64]:
    """x, y, width, height at some times, shape (n, 4), as anybody reads the answer: straight lines
    between its keyframes."""
    keys = result.crop_keyframes
    table = np.array([(key.time, key.x, key.y, key.width, key.height) for key in keys])
    return np.stack(
        [np.interp(times, table[:, 0], table[:, column]) for column in range(1, 5)], axis=1
    )


def track_result(
    boxes: Mapping[int, Mapping[int, tuple[float, float, float, float]]],
    *,
    size: tuple[int, int],
    frames: int,
    cuts: Sequence[int] = (),
    fps: float = 25,
    names: Mapping[int, str] | None = None,
) -> TrackResult:
    """A track job's result: for each id its boxes by frame."""
    tracks = [
        Track(
            track_id=track_id,
            class_name=(names or {}).get(track_id, "person"),
            shot=sum(cut <= min(found) for cut in cuts),
            frames=TrackFrames(
                TrackBox(frame=frame, bbox=bbox, confidence=0.9)
                for frame, bbox in sorted(found.items())
            ),
        )
        for track_id, found in boxes.items()
    ]
    return TrackResult(
        tracks=tracks,
        cuts=[TrackCut(frame=cut, time=cut / fps) for cut in cuts],
        video=TrackVideo(width=size[0], height=size[1], fps=fps, duration=frames / fps),
        stats=TrackStats(
            total_frames=frames, unique_tracks=len(tracks), boxes=sum(map(len, boxes.values()))
        ),
    )


def write_tracks(path: Path, result: TrackResult) -> Path:
    path.write_text("".join(result.json_pieces()), encoding="utf-8")
    return path


def walking(path: Path, frames: int = 50, cut: int = 25) -> tuple[Path, TrackResult]:
    """A marker that walks on the left, and after the cut another one that stands on the right; and
    where they are."""

    def position(index: int) -> tuple[float, float]:
        return (70.0 + index, 90.0) if index < cut else (265.0, 90.0)

    clips.make(path, clips.Clip(*WIDE, frames=frames), marker(position, (40, 90), every=cut))
    boxes: dict[int, dict[int, tuple[float, float, float, float]]] = {1: {}, 2: {}}
    for index in range(frames):
        x, y = position(index)
        boxes[1 + (index >= cut)][index] = (x - 12, y - 40, x + 12, y + 40)
    return path, track_result(boxes, size=WIDE, frames=frames, cuts=(cut,))
