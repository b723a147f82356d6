"""A shot made small the way video makes it small: shrunk, a little noisy, through H.264. About half
of the shots stay clean."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch
from images import Shot
from numpy.typing import NDArray
from torch.nn import functional

CLEAN = 0.5
"""Part of the shots that are only shrunk."""
CRF = (18, 30)
"""Of x264: from good to what streaming sites send."""
NOISY = 0.5
"""Part of the compressed shots that had sensor noise before."""
NOISE_CODES = 3.0
"""Its largest standard deviation, in codes of 255."""
PRESETS = ("veryfast", "medium")


def degrade(shot: Shot, scale: int, rng: np.random.Generator) -> Shot:
    """uint8 [T, H, W, 3] -> [T, H / scale, W / scale, 3]."""
    small = shrunk(
        shot, scale, str(rng.choice(("bicubic", "area", "bilinear"), p=(0.6, 0.25, 0.15)))
    )
    if rng.random() < CLEAN:
        return small
    if rng.random() < NOISY:
        noise = rng.normal(0, rng.uniform(0, NOISE_CODES), small.shape)
        small = np.clip(np.rint(small + noise), 0, 255).astype(np.uint8)
    return compressed(small, int(rng.integers(CRF[0], CRF[1] + 1)), str(rng.choice(PRESETS)))


def shrunk(shot: Shot, scale: int, kernel: str) -> Shot:
    """Every frame at 1 / `scale` of its size; bicubic and bilinear are antialiased."""
    frames = torch.from_numpy(np.ascontiguousarray(shot)).permute(0, 3, 1, 2).float()
    size = (shot.shape[1] // scale, shot.shape[2] // scale)
    antialias = {"antialias": True, "align_corners": False} if kernel != "area" else {}
    small = functional.interpolate(frames, size=size, mode=kernel, **antialias)
    return small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def compressed(shot: Shot, crf: int, preset: str = "medium") -> Shot:
    """The shot as a decoder shows it after H.264 in 4:2:0. Edges must be even."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = shot.shape[1:3]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.options = {"crf": str(crf), "preset": preset, "threads": "1"}
    decoder = av.CodecContext.create("h264", "r")
    packets = []
    for index, pixels in enumerate(shot):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    decoded: list[NDArray[np.uint8]] = [frame.to_ndarray(format="rgb24") for frame in frames]
    return np.stack(decoded)
