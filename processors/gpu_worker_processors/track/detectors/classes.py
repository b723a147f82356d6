"""Names of what a detector can see, and the choice among them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from gpu_worker_client.protocol import ErrorCode, TaskError

COCO_NAMES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
"""The 80 classes of COCO 2017 in the order of its annotation ids, which networks number 0..79."""


def chosen_classes(wanted: Sequence[str], known: Sequence[str], model: str) -> tuple[int, ...]:
    """Indices into `known` of the wanted names, in their order, each once; of all when none is
    wanted.

    Raises:
        TaskError: `invalid_task` naming the nearest known class.
    """
    for position, name in enumerate(wanted):
        if name not in known:
            raise _unknown(name, position, known, model)
    return tuple(known.index(name) for name in dict.fromkeys(wanted)) or tuple(range(len(known)))


def _unknown(name: str, position: int, known: Sequence[str], model: str) -> TaskError:
    near = difflib.get_close_matches(name[:64].lower(), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it knows: {', '.join(known)}"
    return TaskError(
        ErrorCode.invalid_task,
        f"params.classes.{position} is no class that {model} knows{hint}",
        path=f"params.classes.{position}",
        nearest=near[0] if near else None,
    )
