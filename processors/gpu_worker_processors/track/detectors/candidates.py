"""From the boxes a network proposes to the ones that stand: non-maximum suppression, once, within
each class.

Runs on the CPU, frame by frame and class by class, so that what comes out of a frame cannot depend
on the frames beside it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors.base import MAX_BOXES
from gpu_worker_processors.track.detectors.letterbox import Letterbox


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that no stronger box of their class overlaps by more than
    `iou_threshold`, strongest first.

    Args:
        boxes: float32 (n, 4) x1, y1, x2, y2 on the CPU.
        scores: float32 (n,).
        classes: integers (n,).
    """
    survivors: list[Tensor] = []
    for number in classes.unique():
        members = (classes == number).nonzero().squeeze(1)
        survivors.append(members[nms(boxes[members], scores[members], iou_threshold)])
    return strongest(torch.cat(survivors), scores) if survivors else classes.new_empty(0)


def strongest(indices: Tensor, scores: Tensor) -> Tensor:
    """At most `MAX_BOXES` of the indices, by falling score."""
    order = scores[indices].argsort(descending=True, stable=True)
    return indices[order[:MAX_BOXES]]


def detections(boxes: Tensor, scores: Tensor, classes: Tensor, box: Letterbox) -> Detections:
    """The same in pixels of the source frame; what lies wholly in the border is left out.

    Args:
        boxes: float32 (n, 4) in pixels of the letterboxed image, falling in score.
    """
    if not len(scores):
        return Detections.none()
    at_source: NDArray[np.float32] = box.to_source(boxes.numpy())
    found = Detections(at_source, scores.numpy(), classes.numpy().astype(np.int32))
    inside = (at_source[:, 2] > at_source[:, 0]) & (at_source[:, 3] > at_source[:, 1])
    return found if inside.all() else found.where(inside)
