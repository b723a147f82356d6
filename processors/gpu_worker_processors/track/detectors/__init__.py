"""Detectors by name: `load_detector` makes one for a video, `required_weights` says what it opens.

Light on import: the worker's parent process asks `required_weights` without ever loading torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpu_worker_client.protocol import ErrorCode, TaskError, TrackParams
from gpu_worker_client.protocol.task import nearest
from gpu_worker_processors.models.weights import WeightStore

if TYPE_CHECKING:
    import torch

    from gpu_worker_processors.track.detectors.base import Detector

__all__ = ["HOG", "KINDS", "classes_for", "known_models", "load_detector", "required_weights"]

HOG = "hog"
"""OpenCV's person detector: part of OpenCV, no weights."""
KINDS = ("yolo", "onnx-detector")
"""Kinds of manifest entries that are detectors."""


def known_models(store: WeightStore) -> tuple[str, ...]:
    """Every name that `load_detector` takes, in the manifest's order, `hog` last."""
    return (*(spec.name for spec in store.list() if spec.kind in KINDS), HOG)


def required_weights(model: str) -> tuple[str, ...]:
    """Manifest names of what the model opens."""
    return () if model == HOG else (model,)


def classes_for(model: str, classes: list[str]) -> list[str]:
    """The classes to detect: of the tasks' default ones those that the model knows; any list of the
    caller's as it is."""
    return ["person"] if model == HOG and classes == TrackParams().classes else classes


def load_detector(
    name: str,
    *,
    classes: Sequence[str],
    iou_threshold: float,
    store: WeightStore,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Detector:
    """A detector for one video around a network that stays warm.

    Args:
        name: one of `known_models`.
        classes: names of the classes to detect; all the model knows when empty.
        iou_threshold: overlap from which on the weaker of two boxes of a class goes.
        dtype: number format of the network; None is the fastest that the device bears.

    Raises:
        TaskError: `weights_missing`, `weights_rejected`, `gpu_oom`; `invalid_task` for a name
            that no detector has, or a class the model does not know; `unsupported_task` when the
            package that runs the model is not installed.
    """
    if name == HOG:
        from gpu_worker_processors.track.detectors.hog import HogDetector

        return HogDetector(classes, iou_threshold)
    kind = _kind(name, store)
    file = store.resolve(name)
    if kind == "yolo":
        from gpu_worker_processors.track.detectors.ultralytics_yolo import load_yolo

        return load_yolo(file, classes, iou_threshold, device, dtype)
    from gpu_worker_processors.track.detectors.yolox import load_yolox

    return load_yolox(file, classes, iou_threshold)


def _kind(name: str, store: WeightStore) -> str:
    known = known_models(store)
    if name not in known:
        raise TaskError(
            ErrorCode.invalid_task,
            f"params.model: no detector of that name; there are: {', '.join(known)}."
            f"{nearest(name, list(known))}",
            names=list(known),
        )
    return store.spec(name).kind
