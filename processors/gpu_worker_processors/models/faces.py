"""Faces restored by GFPGAN and put back into the enlarged frame, without flicker.

A face is found in the original frame, followed over the shot, cut out upright at 512x512, restored,
and blended back where it was with a soft border. What is not a face stays exactly as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.detect.yunet import FaceDetector, YuNet
from gpu_worker_processors.models.devices import best_dtype, is_out_of_memory, out_of_memory
from gpu_worker_processors.models.face_tracks import FaceTracks, FollowedFace
from gpu_worker_processors.models.sr.nets import build
from gpu_worker_processors.models.tensors import load_state_dict
from gpu_worker_processors.models.warp import Matrix, enlarged, invert, sample, similarity, window
from gpu_worker_processors.models.weights import FACE_RESTORER, WeightStore

FACE_PX = 512
"""Edge of the images that GFPGAN was trained on."""
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Where FFHQ's alignment has eyes, nose and corners of the mouth in a 512x512 image (facexlib's
face template)."""
FEATHER_PX = 64
"""Width of the soft border of the 512x512 image."""
MIN_FACE_PX = 10
"""Distance of the eyes and mouth below which there is nothing to restore from, in pixels of the
original frame."""

Restorer = Callable[[Tensor], Tensor]

_warm: dict[tuple[str, torch.device], Restorer] = {}


class FaceEnhancer:
    """Restores the faces of one video, frame after frame.

    Args:
        store: where the weights of detector and restorer are.
        detector: another detector than YuNet.
        net: another restorer than GFPGAN: float32 [1, 3, 512, 512], 0..1 -> the same.

    Raises:
        TaskError: `weights_missing`, `weights_rejected`, `gpu_oom`.
    """

    def __init__(
        self,
        store: WeightStore,
        device: torch.device,
        *,
        detector: FaceDetector | None = None,
        net: Restorer | None = None,
    ) -> None:
        self.device = device
        self._detector = detector or YuNet.load(store)
        self._net = net or load_restorer(store, device)
        self._tracks = FaceTracks()
        self._mask = _soft_square(FACE_PX, FEATHER_PX).to(device)

    def reset(self) -> None:
        """Forgets the faces of the shot: call it at a cut."""
        self._tracks.reset()

    def enhance(self, original_rgb: Tensor, upscaled_rgb: Tensor) -> tuple[Tensor, int]:
        """Restores the faces of the next frame.

        Args:
            original_rgb: float32 [3, H, W], 0..1, before enlargement: faces are found and taken
                from here.
            upscaled_rgb: float32 [3, H * k, W * k], 0..1, on the enhancer's device; left unchanged.

        Returns:
            The enlarged frame with restored faces, and how many there are.
        """
        height, width = original_rgb.shape[1:]
        found = self._detector.detect(
            (original_rgb * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
        )
        faces = [face for face in self._tracks.update(found) if _size(face) >= MIN_FACE_PX]
        out = upscaled_rgb.clone() if faces else upscaled_rgb
        factor_x, factor_y = upscaled_rgb.shape[2] / width, upscaled_rgb.shape[1] / height
        with torch.no_grad():
            for face in faces:
                to_face = similarity(face.landmarks, TEMPLATE)
                crop = sample(
                    original_rgb.to(self.device), invert(to_face), 0, 0, FACE_PX, FACE_PX
                ).clamp(0, 1)
                self._paste(
                    out, self._restore(crop), enlarged(to_face, factor_x, factor_y), face.strength
                )
        return out, len(faces)

    def _restore(self, crop: Tensor) -> Tensor:
        try:
            restored = self._net(crop[None])[0]
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise out_of_memory(self.device, "the face restoration network") from None
            raise
        if not bool(torch.isfinite(restored).all()):
            raise TaskError(
                ErrorCode.nan_output, "the face restoration network answered NaN or infinity"
            )
        return restored.float().clamp(0, 1)

    def _paste(self, frame: Tensor, face: Tensor, to_face: Matrix, strength: float) -> None:
        """Blends the upright 512x512 face into the frame, in place; a border that is all mask has
        no edge to see."""
        left, top, width, height = window(invert(to_face), FACE_PX, frame.shape[2], frame.shape[1])
        if not (width and height):
            return
        patch = sample(face, to_face, left, top, width, height).clamp(0, 1)
        mask = (
            sample(self._mask[None], to_face, left, top, width, height, border="zeros").clamp(0, 1)
            * strength
        )
        part = frame[:, top : top + height, left : left + width]
        part += mask * (patch - part)


def load_restorer(store: WeightStore, device: torch.device) -> Restorer:
    """GFPGAN on its device, held warm; in bfloat16 where the device computes it (float16 overflows
    in its decoder)."""
    file = store.resolve(FACE_RESTORER)
    key = (file.spec.sha256, device)
    if key not in _warm:
        descriptor = build(load_state_dict(file), file)
        dtype = best_dtype(
            device,
            supports_half=descriptor.supports_half,
            supports_bfloat16=descriptor.supports_bfloat16,
        )
        try:
            descriptor.to(device, dtype)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise out_of_memory(device, "the face restoration network") from None
            raise
        _warm[key] = _gfpgan(descriptor.model, dtype)
    return _warm[key]


def _gfpgan(model: Any, dtype: torch.dtype) -> Restorer:
    """The network works in -1..1. Its noise is the checkpoint's own: drawn anew, it would make a
    face shimmer."""

    def restore(face: Tensor) -> Tensor:
        out = model((face * 2 - 1).to(dtype), return_rgb=False, randomize_noise=False)[0]
        if not bool(torch.isfinite(out).all()) and dtype != torch.float32:
            out = model.float()(face * 2 - 1, return_rgb=False, randomize_noise=False)[0]
            model.to(dtype)
        return (out.float() + 1) / 2

    return restore


def _size(face: FollowedFace) -> float:
    eyes, mouth = face.landmarks[:2].mean(axis=0), face.landmarks[3:].mean(axis=0)
    return float(np.linalg.norm(eyes - mouth))


def _soft_square(edge: int, feather: int) -> Tensor:
    """[edge, edge]: 1 inside, falling to 0 at the border along a cosine."""
    distance = torch.arange(edge, dtype=torch.float32) + 0.5
    distance = torch.minimum(distance, edge - distance).div(feather).clamp(0, 1)
    ramp = 0.5 - 0.5 * torch.cos(torch.pi * distance)
    return ramp[:, None] * ramp[None, :]
