"""The detector behind yolov8*, yolo11* and yolo26*: an ultralytics network in batches of a fixed
shape.

Owns precision, memory and decoding. The convolutions run in the fastest format of the device;
scores and boxes are decoded in float32, and only of the anchors whose best class is wanted. Memory
that runs out halves the batch; a number that is not finite repeats the batch in float32. Networks
stay warm between jobs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.models.devices import (
    best_dtype,
    is_out_of_memory,
    out_of_memory,
    release_memory,
)
from gpu_worker_processors.models.weights import WeightFile
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors.base import SCORE_FLOOR, RgbImage
from gpu_worker_processors.track.detectors.candidates import detections, strongest, suppressed
from gpu_worker_processors.track.detectors.classes import chosen_classes
from gpu_worker_processors.track.detectors.letterbox import FrameScaler, Letterbox
from gpu_worker_processors.track.detectors.ultralytics_net import (
    RawBoxes,
    YoloNetwork,
    load_network,
)

MAX_WARM = 2
"""Networks that stay loaded; the least recently used goes first. In half precision each takes two
bytes a parameter: 6 MB for yolov8n, 136 for yolov8x."""
BATCH = {"cpu": 4, "cuda": 16}
"""Images of a batch by type of device. yolov8n in bfloat16 on two cores with AMX: 24 frames/s one
by one, 33 in twos, 39 in fours, 43 in eights, which also take twice the memory and hold results
back twice as long."""

_warm: OrderedDict[tuple[str, torch.device, torch.dtype], YoloNetwork] = OrderedDict()


class YoloDetector:
    """See `base.Detector`.

    Args:
        network: the network, warm.
        classes: names of the classes to detect, in the order to number them; all when empty.
        iou_threshold: overlap from which on the weaker of two boxes of a class goes; no matter to
            an end-to-end head.
        full_precision: makes the same network in float32 on the same device; asked for once, at the
            first non-finite number.
        name: the model, for messages.
    """

    def __init__(
        self,
        network: YoloNetwork,
        classes: Sequence[str],
        iou_threshold: float,
        *,
        full_precision: Callable[[], YoloNetwork],
        name: str = "the model",
    ) -> None:
        self._wanted = chosen_classes(classes, network.class_names, name)
        self.class_names = tuple(network.class_names[number] for number in self._wanted)
        self.batch = BATCH[network.device.type]
        self.full_precision_batches = 0
        """Batches that had to be repeated in float32."""
        self._network = network
        self._iou_threshold = iou_threshold
        self._full_precision = full_precision
        self._full_precision_network: YoloNetwork | None = None
        self._decoder = _Decoder(network, self._wanted)
        self._box: Letterbox | None = None
        self._batch_memory: Tensor | None = None

    @property
    def device(self) -> str:
        return str(self._network.device)

    @property
    def dtype(self) -> str:
        return str(self._network.dtype).removeprefix("torch.")

    def scaler(self, video: VideoInfo) -> FrameScaler:
        """See `base.Detector`."""
        self._box = Letterbox.rectangle(
            video.width, video.height, stride=max(self._network.strides)
        )
        return FrameScaler(video, self._box)

    def __call__(self, images: Sequence[RgbImage]) -> list[Detections]:
        """See `base.Detector`."""
        assert self._box is not None, "`scaler` comes first"
        found: list[Detections] = []
        while len(found) < len(images):
            group = images[len(found) : len(found) + self.batch]
            found += self._detect(group, self._box)
        return found

    def _detect(self, group: Sequence[RgbImage], box: Letterbox) -> list[Detections]:
        while True:
            part = group[: self.batch]
            try:
                return [self._standing(*boxes, box) for boxes in self._propose(part)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            release_memory(self._network.device)
            if self.batch == 1:
                raise out_of_memory(
                    self._network.device,
                    f"one picture of {box.image_width}x{box.image_height} px",
                )
            self.batch //= 2

    @torch.inference_mode()
    def _propose(self, part: Sequence[RgbImage]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """(boxes, scores, classes) of the candidates of each image, on the CPU."""
        images = self._uploaded(part)
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            raw = self._network(images)
            if not _finite(raw):
                raw = self._retry(images)
        return self._decoder(raw, len(part), (images.shape[1], images.shape[2]))

    def _uploaded(self, part: Sequence[RgbImage]) -> Tensor:
        """uint8 (batch, height, width, 3) on the device, the last image repeated; through a buffer
        that is used again, page-locked for CUDA. Into fresh memory sixteen images took 9 ms, most
        of it the kernel's, clearing pages. Every call waits for the decoder's answer, which comes
        after the copy, so the buffer is free again by the next one."""
        shape = (self.batch, *part[0].shape)
        if self._batch_memory is None or self._batch_memory.shape != shape:
            on_cuda = self._network.device.type == "cuda"
            self._batch_memory = torch.empty(shape, dtype=torch.uint8, pin_memory=on_cuda)
        for index in range(self.batch):
            self._batch_memory[index] = torch.from_numpy(part[min(index, len(part) - 1)])
        return self._batch_memory.to(self._network.device, non_blocking=True)

    def _retry(self, images: Tensor) -> RawBoxes:
        if self._network.dtype != torch.float32:
            if self._full_precision_network is None:
                self._full_precision_network = self._full_precision()
            self.full_precision_batches += 1
            raw = self._full_precision_network(images)
            if _finite(raw):
                return raw
        raise TaskError(
            ErrorCode.nan_output,
            "the detector answered NaN or infinity in float32 too; its weights are damaged",
        )

    def _standing(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, box: Letterbox
    ) -> Detections:
        """One image's candidates after suppression. An end-to-end head needs none."""
        if self._network.end_to_end:
            keep = strongest(torch.arange(len(scores)), scores)
        else:
            keep = suppressed(boxes, scores, classes, self._iou_threshold)
        return detections(boxes[keep], scores[keep], classes[keep], box)


class _Decoder:
    """Raw output -> boxes in pixels of the image, float32, of the candidates only."""

    def __init__(self, network: YoloNetwork, wanted: tuple[int, ...]) -> None:
        self._bins, self._strides = network.bins, network.strides
        device = network.device
        number_of = torch.full((len(network.class_names),), -1)
        number_of[list(wanted)] = torch.arange(len(wanted))
        self._number_of = number_of.to(device)
        """Number of a class of the network among the wanted ones; -1 is not wanted."""
        self._wanted = torch.tensor(wanted, device=device)
        self._floor = float(torch.logit(torch.tensor(SCORE_FLOOR)))
        self._steps = torch.arange(self._bins, dtype=torch.float32, device=device)
        self._anchors: dict[tuple[int, int], Tensor] = {}

    def __call__(
        self, raw: RawBoxes, count: int, shape: tuple[int, int]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """
        Args:
            raw: the network's answer to a batch.
            count: images at its front that are not padding.
            shape: height and width of the images.
        """
        scores = raw.scores[:count]
        image, anchor = (scores[:, self._wanted].amax(1) > self._floor).nonzero(as_tuple=True)
        logits, best = scores[image, :, anchor].float().max(1)
        own = self._number_of[best]
        # An anchor stands only for its best class; when that is not wanted, it is no candidate.
        valid = own >= 0
        image, anchor, logits, own = image[valid], anchor[valid], logits[valid], own[valid]
        boxes = self._boxes(
            raw.boxes[image, :, anchor].float(), self._grid(shape, raw.boxes.device)[anchor]
        )
        packed = torch.cat([boxes, logits.sigmoid()[:, None], own[:, None].float()], 1).cpu()
        parts = packed.split(torch.bincount(image, minlength=count).tolist())
        return [(part[:, :4], part[:, 4], part[:, 5].long()) for part in parts]

    def _boxes(self, raw: Tensor, cells: Tensor) -> Tensor:
        """(n, 4 * bins) distances of anchors (n, 3: x, y, stride) -> (n, 4) corners. The
        expectation over the bins is the distribution focal loss head of arXiv 2006.04388."""
        sides = raw.view(-1, 4, self._bins)
        distances = sides.softmax(2) @ self._steps if self._bins > 1 else sides.squeeze(2)
        centre, stride = cells[:, :2], cells[:, 2:]
        return torch.cat([centre - distances[:, :2], centre + distances[:, 2:]], 1) * stride

    def _grid(self, shape: tuple[int, int], device: torch.device) -> Tensor:
        """(anchors, 3): centre in cells of its own level and that level's stride, levels and rows
        as the head lists them."""
        if shape not in self._anchors:
            levels: list[Tensor] = []
            for stride in self._strides:
                y, x = torch.meshgrid(
                    torch.arange(shape[0] // stride) + 0.5,
                    torch.arange(shape[1] // stride) + 0.5,
                    indexing="ij",
                )
                levels.append(
                    torch.stack(
                        [x.flatten(), y.flatten(), torch.full((x.numel(),), float(stride))], 1
                    )
                )
            self._anchors[shape] = torch.cat(levels).to(device)
        return self._anchors[shape]


def load_yolo(
    file: WeightFile,
    classes: Sequence[str],
    iou_threshold: float,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> YoloDetector:
    """A detector around the warm network of a verified file; `dtype` None is the fastest of the
    device."""
    used = dtype or best_dtype(device)
    return YoloDetector(
        _network(file, device, used),
        classes,
        iou_threshold,
        full_precision=lambda: load_network(file, device, torch.float32),
        name=file.spec.name,
    )


def forget_all() -> None:
    """Drops every warm network."""
    _warm.clear()


def _network(file: WeightFile, device: torch.device, dtype: torch.dtype) -> YoloNetwork:
    key = (file.spec.sha256, device, dtype)
    if key not in _warm:
        while len(_warm) >= MAX_WARM:
            _warm.popitem(last=False)
            release_memory(device)
        try:
            _warm[key] = load_network(file, device, dtype)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise out_of_memory(device, file.spec.name) from None
            raise
    _warm.move_to_end(key)
    return _warm[key]


def _finite(raw: RawBoxes) -> bool:
    low, high = torch.aminmax(torch.stack([*torch.aminmax(raw.scores), *torch.aminmax(raw.boxes)]))
    return bool(torch.isfinite(low) & torch.isfinite(high))
