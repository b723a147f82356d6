"""A real detector and the tracker on PETS S2L1, six people in view, against the published ground
truth of 78 frames."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from support.mot_metrics import Boxes, score

from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe, require_video
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.association import Algorithm, Tracker
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors import load_detector

FPS = 10.0
FIRST, LAST = 339, 416
"""Frames of the ground truth; it counts from 1, the video from 0."""
SCALE = 0.625
"""Width of the video, 480, over that of the ground truth, 768."""

Seen = list[tuple[int, Detections, Any]]


@pytest.fixture(scope="module")
def seen(media: Path, weights_dir: Path) -> Seen:
    """Index, detections and gray picture of the frames with ground truth."""
    path = media / "tracking" / "pets_vtest" / "vtest_480x360.avi"
    info = probe(path)
    detector = load_detector(
        "yolov8n",
        classes=("person",),
        iou_threshold=0.7,
        store=WeightStore(weights_dir),
        device=torch.device("cpu"),
    )
    scaler = detector.scaler(require_video(info))
    found: Seen = []
    for item in islice(FrameReader(path, info), FIRST - 1, LAST):
        (detections,) = detector([scaler(item.frame)])
        found.append(
            (
                item.index,
                detections,
                cv2.cvtColor(item.frame.to_ndarray(format="bgr24"), cv2.COLOR_BGR2GRAY),
            )
        )
    assert [index for index, _, _ in found] == list(range(FIRST - 1, LAST))
    return found


@pytest.fixture(scope="module")
def truth(media: Path) -> Boxes:
    boxes = Boxes.read(media / "tracking" / "pets_vtest" / "gt_768x576_frames339-416.txt")
    return Boxes(boxes.frames, boxes.ids, boxes.boxes * SCALE)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["bytetrack", "botsort"])
def test_better_than_ultralytics_botsort(seen: Seen, truth: Boxes, algorithm: Algorithm) -> None:
    tracker = Tracker(algorithm, ("person",), FPS, confidence_threshold=0.5)
    result = Boxes.of(
        (one.frame + 1, one.track_id, one.bbox)
        for index, detections, gray in seen
        for one in tracker.update(detections, index, index / FPS, gray, 1.0)
    )
    scores = score(truth, result)
    print(algorithm, scores)
    # Ultralytics' BoT-SORT with the same weights and threshold: MOTA 0.845, IDF1 0.877.
    assert scores.mota >= 0.845
    assert scores.idf1 >= 0.9
