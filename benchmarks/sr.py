"""Only the network: RealESRGANer (realesrgan 0.3.0) against our SuperResolver, same weights, same
frames, one by one.

Both take uint8 frames and give uint8 frames back, on all cores of the CPU or on the first GPU
(RealESRGANer then with `half`). They take turns in one process, and the best turn of each counts.
The parity of the two images stands in the note.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import skimage.data
import torch
from needed_weights import STORE, skipped
from numpy.typing import NDArray
from reference import load_reference

from gpu_worker_processors.models.devices import pick_device
from gpu_worker_processors.models.sr.loader import load
from gpu_worker_processors.models.tensors import load_state_dict

ROUNDS = 5
FRAMES = 6
MODELS = (("realesr-animevideov3", 16, 144, 176), ("realesr-animevideov3", 16, 288, 352))
"""(weights, convolutions, height, width)."""

Frames = list[NDArray[np.uint8]]


def rows() -> list[dict[str, Any]]:
    """One row per model and size."""
    return [_measure(*model) for model in MODELS]


def _measure(name: str, convs: int, height: int, width: int) -> dict[str, Any]:
    title = f"{name}, {width}x{height}, network only"
    if not STORE.present(name):
        return skipped(title, name)
    device = pick_device()
    frames = _frames(height, width)
    peer, ours = _peer(name, convs, device), _ours(name, device)
    difference = np.concatenate(
        [
            (a.astype(float) - b).ravel()
            for a, b in zip(peer(frames[:1]), ours(frames[:1]), strict=True)
        ]
    )
    best = {peer: float("inf"), ours: float("inf")}
    for _ in range(ROUNDS):
        for run in best:
            started = time.perf_counter()
            run(frames)
            best[run] = min(best[run], time.perf_counter() - started)
    psnr = 10 * np.log10(255**2 / (difference**2).mean())
    return {
        "name": title,
        "ours": FRAMES / best[ours],
        "peer": FRAMES / best[peer],
        "ratio": best[peer] / best[ours],
        "unit": "frames/s",
        "note": f"peer: RealESRGANer on {device.type}; our image is {psnr:.1f} dB from its",
    }


def _frames(height: int, width: int) -> Frames:
    """Windows that wander over a photograph: red first, (height, width, 3)."""
    photo = skimage.data.astronaut()
    return [
        np.ascontiguousarray(photo[8 * i : 8 * i + height, 16 * i : 16 * i + width])
        for i in range(FRAMES)
    ]


def _peer(name: str, convs: int, device: torch.device) -> Callable[[Frames], Frames]:
    original = load_reference()
    net = original.SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=convs, upscale=4, act_type="prelu"
    )
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({"params": load_state_dict(STORE.resolve(name))}, file.name)
        half = device.type == "cuda"
        upsampler = original.RealESRGANer(
            scale=4, model_path=file.name, model=net, tile=0, half=half, device=device
        )
    return lambda frames: [
        upsampler.enhance(frame[..., ::-1], outscale=4)[0][..., ::-1] for frame in frames
    ]


def _ours(name: str, device: torch.device) -> Callable[[Frames], Frames]:
    resolver = load(name, store=STORE, device=device)

    def run(frames: Frames) -> Frames:
        out: Frames = []
        size = resolver.batch_for(*frames[0].shape[:2])
        for first in range(0, len(frames), size):
            block = (
                torch.from_numpy(np.stack(frames[first : first + size]))
                .to(device)
                .permute(0, 3, 1, 2)
                .float()
                / 255
            )
            codes = (
                (resolver(block) * 255)
                .round_()
                .to(torch.uint8)
                .permute(0, 2, 3, 1)
                .contiguous()
                .cpu()
                .numpy()
            )
            out += list(codes)
        return out

    return run
