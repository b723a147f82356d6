"""What happens to a frame between decoder and encoder: to upright RGB, denoise, network, faces,
resize, back to planes.

All arithmetic runs on the device: a frame crosses the bus as the decoder's samples and comes back
as the encoder's, 1.5 bytes a pixel each way at 8 bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gpu_worker_processors.media.color_tensors import FromRgb, ToRgb
from gpu_worker_processors.media.frame import Frame, Plane
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.models.cuda_streams import DeviceStreams, Download
from gpu_worker_processors.upscale.denoise import denoise
from gpu_worker_processors.upscale.plan import Plan


class Network(Protocol):
    """What enlarges: a `SuperResolver`, or a stand-in."""

    @property
    def device(self) -> torch.device: ...

    def __call__(self, rgb: Tensor) -> Tensor:
        """float32 (n, 3, h, w), 0..1, on `device` -> (n, 3, h * k, w * k)."""
        ...


class Faces(Protocol):
    """Restores faces."""

    def __call__(self, source: Tensor, enlarged: Tensor) -> Tensor:
        """Both float32 (n, 3, ., .) of the same consecutive frames -> `enlarged` with restored
        faces."""
        ...


@dataclass(frozen=True)
class DownloadedPlanes:
    """Y, Cb, Cr of one frame that are being copied from the device."""

    download: Download
    """Three tensors (n, height, width) of the n frames that were computed together, chroma
    subsampled, uint8 or int16."""
    index: int
    """Number of this frame among the n, from 0."""

    def samples(self) -> list[Plane]:
        """The planes as the encoder takes them, uint8 or uint16. Waits until they are there: not in
        the network's thread."""
        planes = [plane[self.index].numpy() for plane in self.download.wait()]
        return [plane if plane.dtype == np.uint8 else plane.view(np.uint16) for plane in planes]


class FrameEnlarger:
    """Frames -> planes of the output.

    Args:
        net: the network. Its `device` is where everything is computed.
        strength: of the denoising filter; 0 is none.
        faces: restores faces, or None.
    """

    def __init__(
        self,
        plan: Plan,
        video: VideoInfo,
        net: Network,
        *,
        strength: float = 0.0,
        faces: Faces | None = None,
    ) -> None:
        self._plan = plan
        self._video = video
        self._net = net
        self._streams = DeviceStreams(net.device)
        self._strength = strength
        self._faces = faces
        self._to_rgb = ToRgb(plan.source_tags, net.device)
        self._from_rgb = FromRgb(
            plan.tags, bits=plan.encoder.bits, half_height=plan.encoder.half_height
        )

    @torch.inference_mode()
    def __call__(self, frames: Sequence[Frame]) -> list[DownloadedPlanes]:
        """Planes of each frame, in order. May be called in several threads at once."""
        with self._streams.entered():
            rgb = torch.stack([upright(self._rgb(frame), self._video) for frame in frames])
            clean = denoise(rgb, self._strength)
            large = self._net(clean)
            size = (self._plan.height, self._plan.width)
            if large.shape[-2:] != size:
                large = functional.interpolate(
                    large, size=size, mode="bicubic", antialias=True
                ).clamp_(0, 1)
            if self._faces is not None:
                large = self._faces(clean, large)
            download = self._streams.download(self._from_rgb(large))
        return [DownloadedPlanes(download, index) for index in range(len(frames))]

    def _rgb(self, frame: Frame) -> Tensor:
        return self._to_rgb(self._streams.upload(frame.planes), frame.bits, is_rgb=frame.is_rgb)


def upright(rgb: Tensor, video: VideoInfo) -> Tensor:
    """Turned, then mirrored, as the stream's display matrix says. Shape (3, height, width) -> the
    upright shape."""
    turned = torch.rot90(rgb, -(video.rotation // 90), dims=(1, 2))
    return turned.flip(2) if video.mirrored else turned
