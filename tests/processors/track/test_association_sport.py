"""The tracker beside ultralytics' on SportsMOT: the true boxes of ball games with noise and gaps,
the same for all."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.mot_metrics import Boxes, Scores, score

from gpu_worker_processors.track.association import Tracker
from gpu_worker_processors.track.detections import Detections

FPS = 25.0
"""Of all the clips (seqinfo.ini)."""
NOISE_PX = 3.0
DROPPED = 0.05
CONFIDENCE = 0.9

Clip = tuple[Boxes, dict[int, Detections]]


@pytest.fixture(scope="session")
def clips(media: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Truth and detections of all 45 clips, by name."""
    folder = tmp_path_factory.mktemp("sportsmot")
    with tarfile.open(media / "crop" / "sportsmot_train_gt.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    truths = [Boxes.read(path) for path in sorted(folder.glob("**/gt.txt"))]
    assert len(truths) == 45
    return [(truth, _detected(truth, seed)) for seed, truth in enumerate(truths)]


def _detected(truth: Boxes, seed: int) -> dict[int, Detections]:
    """The true boxes, every corner off by some pixels, some left out; by frame."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((truth.ids, truth.frames))
    boxes = truth.boxes[order] + rng.normal(0, NOISE_PX, (len(order), 4))
    kept = (
        (rng.random(len(order)) >= DROPPED)
        & (boxes[:, 2] > boxes[:, 0] + 1)
        & (boxes[:, 3] > boxes[:, 1] + 1)
    )
    frames = truth.frames[order]
    found: dict[int, Detections] = {}
    for frame in range(int(frames.min()), int(frames.max()) + 1):
        here = boxes[(frames == frame) & kept].astype(np.float32)
        found[frame] = Detections(
            here, np.full(len(here), CONFIDENCE, np.float32), np.zeros(len(here), np.int32)
        )
    return found


def _ours(found: dict[int, Detections]) -> Boxes:
    tracker = Tracker("bytetrack", ("person",), FPS)
    return Boxes.of(
        (one.frame, one.track_id, one.bbox)
        for frame, detections in found.items()
        for one in tracker.update(detections, frame, frame / FPS)
    )


def _ultralytics(name: str) -> Callable[[dict[int, Detections]], Boxes]:
    """Their tracker with the settings they ship; without pictures, so without camera motion."""
    os.environ.update(
        YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS="1"
    )
    pytest.importorskip("lap")
    ultralytics: Any = pytest.importorskip("ultralytics")
    from ultralytics.engine.results import Boxes as TheirBoxes
    from ultralytics.trackers import BOTSORT, BYTETracker
    from ultralytics.utils import YAML

    settings = YAML.load(Path(ultralytics.__file__).parent / "cfg" / "trackers" / f"{name}.yaml")
    make = {"bytetrack": BYTETracker, "botsort": BOTSORT}[name]

    def rows(found: dict[int, Detections]) -> Iterator[tuple[int, int, Any]]:
        tracker: Any = make(SimpleNamespace(**{**settings, "gmc_method": "none"}))
        for frame, seen in found.items():
            table = np.concatenate(
                [seen.boxes, seen.scores[:, None], seen.classes[:, None]], axis=1
            ).astype(np.float32)
            for row in tracker.update(
                TheirBoxes(table, (720, 1280)), np.zeros((1, 1, 3), np.uint8)
            ):
                yield frame, int(row[4]), tuple(row[:4].tolist())

    return lambda found: Boxes.of(rows(found))


def _all(
    name: str, clips: list[Clip], run: Callable[[dict[int, Detections]], Boxes]
) -> dict[str, float]:
    """IDF1 over all boxes together, HOTA as the mean of the clips weighted by their boxes;
    percent."""
    scores: list[Scores] = [score(truth, run(found)) for truth, found in clips]
    truths = np.array([one.truths for one in scores])
    figures = {
        "IDF1": 200
        * sum(one.idtp for one in scores)
        / (truths.sum() + sum(one.results for one in scores)),
        "HOTA": 100 * np.average([one.hota for one in scores], weights=truths),
        "AssA": 100 * np.average([one.assa for one in scores], weights=truths),
        "MOTA": 100 * np.average([one.mota for one in scores], weights=truths),
        "switches": sum(one.switches for one in scores),
    }
    print(
        f"{name:22} {len(clips)} clips", *(f"{key} {value:.2f}" for key, value in figures.items())
    )
    return figures


def _beats_both(clips: list[Clip]) -> None:
    ours = _all("ours", clips, _ours)
    for name in ("bytetrack", "botsort"):
        theirs = _all(f"ultralytics {name}", clips, _ultralytics(name))
        assert ours["IDF1"] > theirs["IDF1"]
        assert ours["HOTA"] > theirs["HOTA"]


@pytest.mark.slow
def test_better_than_ultralytics_on_three_clips(clips: list[Clip]) -> None:
    _beats_both(clips[::15])


@pytest.mark.slow
def test_better_than_ultralytics_on_all_clips(clips: list[Clip]) -> None:
    _beats_both(clips)
