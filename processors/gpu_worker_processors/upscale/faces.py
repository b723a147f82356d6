"""Faces restored frame by frame, followed over time and forgotten at every cut."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

CUT_DIFFERENCE = 0.12
"""Mean absolute difference of two small RGB frames, 0..1, above which they are two shots:
PySceneDetect's content threshold, 30 of 255, is 0.118."""
_SMALL_PX = (18, 32)


class Enhancer(Protocol):
    """Restores the faces of one frame and remembers them for the next:
    `models.faces.FaceEnhancer`."""

    def reset(self) -> None: ...

    def enhance(self, original_rgb: Tensor, upscaled_rgb: Tensor) -> tuple[Tensor, int]: ...


class FollowedFaces:
    """Faces of one video. `count` is how many were restored so far, counted once per frame."""

    def __init__(self, enhancer: Enhancer) -> None:
        self.count = 0
        self._enhancer = enhancer
        self._before: Tensor | None = None

    def __call__(self, source: Tensor, enlarged: Tensor) -> Tensor:
        """(n, 3, h, w) and (n, 3, k * h, k * w), consecutive frames -> the enlarged ones with
        restored faces."""
        results: list[Tensor] = []
        for small, large in zip(source, enlarged, strict=True):
            if self._is_cut(small):
                self._enhancer.reset()
            restored, faces = self._enhancer.enhance(small, large)
            self.count += faces
            results.append(restored)
        return torch.stack(results)

    def _is_cut(self, rgb: Tensor) -> bool:
        thumbnail = functional.interpolate(rgb[None], size=_SMALL_PX, mode="area")
        before, self._before = self._before, thumbnail
        return before is not None and bool((thumbnail - before).abs().mean() > CUT_DIFFERENCE)
