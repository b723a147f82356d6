"""A YOLO network of ultralytics as a plain function from images to raw scores and box logits.

Owns everything that touches the ultralytics package (AGPL-3.0, an optional extra): it is imported
here and nowhere else, with its downloads, package installs, update checks and telemetry off, and
what its import changes in the process is put back. Only a verified file is opened, by torch's
weights-only unpickler with ultralytics' list of known layer classes.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.tensors import reject

if TYPE_CHECKING:
    from gpu_worker_processors.models.weights import WeightFile

_SWITCHES: Mapping[str, str] = {
    "YOLO_OFFLINE": "1",  # no telemetry, no probe for a connection
    "YOLO_AUTOINSTALL": "0",  # a missing package is an error, not a `pip install`
    "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS": "1",
    "YOLO_VERBOSE": "False",  # the engine's standard output is not ultralytics' to write to
}


_GIT = "ultralytics.utils.git"
"""Reads the `.git` of whatever repository the package is installed in, at import. In a worktree
that is a file, which the sandbox closes; and which repository it is, is nothing to a detector."""


@dataclass(frozen=True)
class RawBoxes:
    """What the head says of every anchor, before any decoding. float32 on the network's device."""

    scores: Tensor
    """(n, classes, anchors) logits."""
    boxes: Tensor
    """(n, 4 * bins, anchors): distances to left, top, right, bottom; logits of a distribution over
    `bins` where bins > 1."""


class YoloNetwork:
    """A fused network in evaluation mode.

    Args:
        model: ultralytics' DetectionModel, unfused, float32; taken over.
        device, dtype: where it goes and in what format.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        model = model.float().eval().fuse(verbose=False)
        layers: Any = model.model
        self._body: list[Any] = list(layers)[:-1]
        self._head: Any = layers[-1]
        self._saved = frozenset(model.save)
        self.class_names: tuple[str, ...] = tuple(
            model.names[number] for number in sorted(model.names)
        )
        self.end_to_end = bool(self._head.end2end)
        """The head answers each object once: nothing is to be suppressed. A file with both heads
        (yolo26*) is used with the one that needs suppression, unless it says otherwise: as
        ultralytics' predict does by default."""
        self.bins = int(self._head.reg_max)
        self.strides: tuple[int, ...] = tuple(int(stride) for stride in self._head.stride)
        self.device, self.dtype = device, dtype
        part: dict[str, Any] = self._head.one2one if self.end_to_end else self._head.one2many
        self._head_part = part
        # Bytes are exact in every format, their quotients by 255 are not: the first convolution
        # divides instead.
        layers[0].conv.weight.data.div_(255)
        layers.requires_grad_(False).to(device, dtype).to(memory_format=torch.channels_last)
        if device.type == "cpu" and torch.backends.mkldnn.is_available():
            _fuse_activations(layers)
        for level in itertools.chain(part["box_head"], part["cls_head"]):
            level[-1] = _InFloat32(level[-1])

    def __call__(self, images: Tensor) -> RawBoxes:
        """
        Args:
            images: uint8 (n, height, width, 3) RGB on `device`, sizes multiples of the largest
                stride.
        """
        x: Any = images.permute(0, 3, 1, 2).to(self.dtype)  # a view of channels last
        outputs: list[Any] = []
        for layer in self._body:
            x = layer(self._inputs(layer, x, outputs))
            outputs.append(x if layer.i in self._saved else None)
        raw = self._head.forward_head(self._inputs(self._head, x, outputs), **self._head_part)
        return RawBoxes(raw["scores"], raw["boxes"])

    @staticmethod
    def _inputs(layer: Any, x: Any, outputs: list[Any]) -> Any:
        """ultralytics' wiring: `f` is -1 for the layer before, an index, or a list of both."""
        if layer.f == -1:
            return x
        if isinstance(layer.f, int):
            return outputs[layer.f]
        return [x if index == -1 else outputs[index] for index in layer.f]


def _fuse_activations(layers: nn.Module) -> None:
    """Lets oneDNN apply SiLU to each convolution's result while it is in a register. As operations
    of their own they were 26 % of yolov8n's time on a CPU with AMX; fused, the detector went from
    40 to 53 frames/s, with one rounding less."""
    for block in layers.modules():
        convolution, activation = getattr(block, "conv", None), getattr(block, "act", None)
        if (
            isinstance(convolution, nn.Conv2d)
            and isinstance(activation, nn.SiLU)
            and convolution.padding_mode == "zeros"
        ):
            block.forward = _FusedSilu(convolution).forward


class _FusedSilu(nn.Module):
    """A convolution with SiLU, in the one operation that torch's own compiler makes of the two on a
    CPU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._convolution = convolution
        self._sizes = [
            list(size) for size in (convolution.padding, convolution.stride, convolution.dilation)
        ]

    def forward(self, x: Tensor) -> Tensor:
        layer = self._convolution
        return torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001
            x, layer.weight, layer.bias, *self._sizes, layer.groups, "swish", [], ""
        )


class _InFloat32(nn.Module):
    """The last convolution of a branch, whose output is the logits: bfloat16 would round a logit of
    2 to steps of 1/64."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self._convolution = convolution.float()

    def forward(self, x: Tensor) -> Tensor:
        return self._convolution(x.float())


def load_network(file: WeightFile, device: torch.device, dtype: torch.dtype) -> YoloNetwork:
    """The network of a verified file.

    Raises:
        TaskError: `unsupported_task` when ultralytics is not installed, `weights_rejected` when the
            file holds no YOLO detector.
    """
    tasks = import_ultralytics("tasks", file.spec.name)
    heads = import_ultralytics("modules.head", file.spec.name)
    if file.spec.suffix != ".pt":
        raise reject(file, "not_tensors", "is no .pt file of ultralytics")
    try:
        # An absolute path of a file that is there: never looked up, never downloaded.
        checkpoint, _ = tasks.torch_safe_load(str(file.path.resolve(strict=True)), safe_only=True)
    except Exception as error:
        raise reject(
            file, "not_tensors", "is no network of ultralytics, or damaged; nothing of it was run"
        ) from error
    model: Any = (
        (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    )
    if not isinstance(model, tasks.DetectionModel) or type(model.model[-1]) not in (
        heads.Detect,
        heads.v10Detect,
    ):
        raise reject(
            file,
            "state_dict_mismatch",
            "holds no YOLO detector; segmentation, pose and the like are not read",
        )
    return YoloNetwork(model, device, dtype)


def import_ultralytics(module: str, model: str) -> Any:
    """A module below `ultralytics.nn`.

    Raises:
        TaskError: `unsupported_task` when ultralytics is not installed.
    """
    from importlib import import_module

    try:
        if "ultralytics" in sys.modules:
            return import_module(f"ultralytics.nn.{module}")
        with _side_effects_undone():
            sys.modules[_GIT] = _no_repository()
            return import_module(f"ultralytics.nn.{module}")
    except ImportError as error:
        raise TaskError(
            ErrorCode.unsupported_task,
            f"{model} needs ultralytics, which is not installed: pip install"
            ' "gpu-worker-processors[yolo]"; hog and yolox models work without it',
            missing=error.name or "ultralytics",
        ) from None


def _no_repository() -> ModuleType:
    """Stands for the module `_GIT` and finds no repository."""

    class GitRepo:
        root = gitdir = refdir = head = branch = commit = message = origin = None
        is_repo = False

    module = ModuleType(_GIT)
    module.__dict__["GitRepo"] = GitRepo
    return module


@contextmanager
def _side_effects_undone() -> Generator[None]:
    """Puts back what `import ultralytics` changes: environment (OMP_NUM_THREADS=1 among it),
    OpenCV's threads and readers, how torch and NumPy print, warning filters."""
    import cv2
    import numpy as np

    environment, threads = dict(os.environ), cv2.getNumThreads()
    replaced = {
        name: getattr(cv2, name) for name in ("imread", "imwrite", "imshow") if hasattr(cv2, name)
    }
    printing: Any = np.get_printoptions()
    folder = tempfile.TemporaryDirectory(
        prefix="ultralytics-"
    )  # its settings and fonts; read and written at import only
    os.environ.update(_SWITCHES, YOLO_CONFIG_DIR=folder.name)
    try:
        with folder, warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment, **_SWITCHES)
        cv2.setNumThreads(threads)
        for name, function in replaced.items():
            setattr(cv2, name, function)
        np.set_printoptions(**printing)
        torch.set_printoptions(profile="default")
