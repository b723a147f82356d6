"""The detectors that need no AGPL package: YOLOX against onnxruntime and plain NumPy, HOG against
the boxes of PETS2009."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import batched_nms

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.probe import probe, require_video
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.detectors import load_detector
from gpu_worker_processors.track.detectors.hog import hog_scores

CPU = torch.device("cpu")


def frames_of(path: Path, indices: range) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return [frame for index, frame in enumerate(container.decode(video=0)) if index in indices]


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    inner = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return inner / (areas[0][:, None] + areas[1][None] - inner)


def yolox_by_hand(
    path: Path, frame: av.VideoFrame
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Boxes, scores, classes of a 1080p frame, written from the paper with Pillow, onnxruntime and
    loops over the cells."""
    onnxruntime = pytest.importorskip("onnxruntime")
    small = Image.fromarray(frame.to_ndarray(format="rgb24")).resize(
        (640, 360), Image.Resampling.NEAREST
    )
    canvas = np.full((640, 640, 3), 114.0)
    canvas[:360] = np.asarray(small)
    normal = (canvas / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    flat = session.run(None, {"images": normal.transpose(2, 0, 1)[None].astype(np.float32)})[
        0
    ].ravel()
    found: list[tuple[list[float], float, int]] = []
    start = 0
    for stride in (8, 16, 32):
        edge = 640 // stride
        level = flat[start : start + 85 * edge * edge].reshape(85, edge, edge)
        start += 85 * edge * edge
        chance = 1 / (1 + np.exp(-level[4:].astype(np.float64)))
        for row in range(edge):
            for column in range(edge):
                number = int(chance[1:, row, column].argmax())
                score = float(chance[0, row, column] * chance[1 + number, row, column])
                if score > 0.1:
                    x, y = (
                        (level[0, row, column] + column) * stride,
                        (level[1, row, column] + row) * stride,
                    )
                    w, h = np.exp(level[2:4, row, column]) * stride
                    found.append(([x - w / 2, y - h / 2, x + w / 2, y + h / 2], score, number))
    boxes, scores = (
        np.array([f[0] for f in found], np.float32),
        np.array([f[1] for f in found], np.float32),
    )
    classes = np.array([f[2] for f in found])
    keep = batched_nms(*(torch.from_numpy(a) for a in (boxes, scores, classes)), 0.45).numpy()
    return (
        np.clip(boxes[keep] * 3, 0, [1920, 1080] * 2).astype(np.float32),
        scores[keep],
        classes[keep],
    )


def test_yolox_agrees_with_onnxruntime_and_plain_numpy(media: Path, weights_dir: Path) -> None:
    path = media / "tracking" / "towncentre_pedestrians_1080p.mp4"
    store = WeightStore(weights_dir)
    detector = load_detector("yolox_nano", classes=[], iou_threshold=0.45, store=store, device=CPU)
    scale = detector.scaler(require_video(probe(path)))
    expected_boxes = found = ours_sure = 0
    for frame in frames_of(path, range(0, 96, 24)):
        boxes, scores, classes = yolox_by_hand(store.resolve("yolox_nano").path, frame)
        (ours,) = detector([scale(frame)])
        sure = scores >= 0.5
        match = (
            overlap(boxes[sure], ours.boxes)
            * (classes[sure][:, None] == ours.classes[None])
            * (ours.scores >= 0.48)
        )
        expected_boxes += int(sure.sum())
        found += int((match.max(1) >= 0.9).sum())
        ours_sure += int((ours.scores >= 0.5).sum())
    print(f"yolox_nano: {found} of {expected_boxes} found, {ours_sure} of ours")
    assert expected_boxes >= 40
    assert found >= 0.98 * expected_boxes
    assert abs(ours_sure - expected_boxes) <= 0.02 * expected_boxes


def test_hog_says_which_opencv_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with OpenCV 5, which `pip install ultralytics` puts in the place of the one that is asked
    for."""
    monkeypatch.delattr(cv2, "HOGDescriptor")
    with pytest.raises(TaskError, match="opencv-python-headless<5") as caught:
        load_detector(
            "hog", classes=["person"], iou_threshold=0.45, store=WeightStore(None), device=CPU
        )
    assert caught.value.code is ErrorCode.unsupported_task


def test_hog_finds_people(media: Path) -> None:
    folder = media / "tracking" / "pets_vtest"
    truth = np.loadtxt(folder / "gt_768x576_frames339-416.txt", delimiter=",", usecols=range(6))
    detector = load_detector(
        "hog", classes=["person"], iou_threshold=0.45, store=WeightStore(None), device=CPU
    )
    path = folder / "vtest_480x360.avi"
    scale = detector.scaler(require_video(probe(path)))
    there = seen = 0
    for index, frame in zip(range(338, 416, 13), frames_of(path, range(338, 416, 13)), strict=True):
        rows = truth[truth[:, 0] == index + 1]
        boxes = np.hstack([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]]).astype(
            np.float32
        ) * np.float32(0.625)
        (ours,) = detector([scale(frame)])
        assert set(ours.classes.tolist()) <= {0}
        there += len(boxes)
        seen += int((overlap(boxes, ours.boxes).max(1) > 0.5).sum())
    print(f"hog: {seen} of {there} people")
    assert seen >= 0.75 * there


def test_scores_of_hog_order_boxes_as_its_weights_do() -> None:
    scores = hog_scores(np.array([0, 0.1, 0.7, 2, 50], np.float32))
    assert np.all(np.diff(scores) > 0)
    assert 0 <= scores.min() < scores.max() <= 1
