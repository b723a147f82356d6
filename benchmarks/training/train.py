"""Trains `lite`, the super-resolution network that ships with this repository, on two CPU cores in
about half an hour a scale.

    python benchmarks/training/train.py --scale 4 --footage FOLDER --steps 12000 python
    benchmarks/training/train.py --scale 2 --footage FOLDER --steps 8000 --start
    weights/lite_x4.safetensors

The network is SRVGGNetCompact, Real-ESRGAN's compact layout: 3x3 convolutions with PReLU, then a
pixel shuffle that is added to the repeated pixels of the input. Loss: Charbonnier on RGB; Adam;
cosine schedule. Everything follows from --seed and the step's number, so a run that was stopped
goes on from its checkpoint (--state) as if it had not been.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from degrade import degrade, shrunk
from images import held_out, shots
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

FEATURES, LAYERS = 32, 10
PATCH_PX = 32
"""Edge of a training patch at the network's input; the network sees 12 px to each side."""
BATCH = 16
RATE, LAST_RATE = 1.5e-3, 1e-6
WARM_UP_STEPS = 100
CHARBONNIER = 1e-3
"""Below this difference (of 0..1) the loss is quadratic."""
REPORT_STEPS = 250
PAUSE_SECONDS = 2.0

Pair = tuple[Tensor, Tensor]
"""Small and large frame, uint8 [3, h, w] and [3, h * scale, w * scale]."""


class Compact(nn.Module):
    """SRVGGNetCompact with its parameters' names, so that any loader of that layout takes the
    weights."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        channels = [3] + [FEATURES] * (LAYERS + 1)
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.PReLU(after)]
        last = nn.Conv2d(FEATURES, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(last.weight)  # begins as plain repetition of pixels
        nn.init.zeros_(last.bias)
        self.body = nn.ModuleList([*layers, last])
        for layer in self.body[:-1:2]:
            nn.init.kaiming_normal_(layer.weight, a=0.25)
            nn.init.zeros_(layer.bias)

    def forward(self, small: Tensor) -> Tensor:
        features = small
        for layer in self.body:
            features = layer(features)
        return functional.pixel_shuffle(features, self.scale) + functional.interpolate(
            small, scale_factor=self.scale
        )


def make_pairs(
    count: int, scale: int, footage: Path | None, seed: int, pause_file: Path | None
) -> list[Pair]:
    """Every frame of `count` shots beside its degraded self."""
    pairs: list[Pair] = []
    for index, shot in enumerate(shots(count, footage, seed)):
        _rest(pause_file)
        small = degrade(shot, scale, np.random.default_rng((seed, index, scale)))
        pairs += [(_planes(a), _planes(b)) for a, b in zip(small, shot, strict=True)]
    return pairs


def batch(pairs: Sequence[Pair], scale: int, seed: int, step: int) -> Pair:
    """Random patches, mirrored and turned: float32 in 0..1."""
    rng = np.random.default_rng((seed, step))
    chosen = [_patch(*pairs[rng.integers(len(pairs))], scale, rng) for _ in range(BATCH)]
    small, large = (torch.stack(side).float() / 255 for side in zip(*chosen, strict=True))
    return small.to(memory_format=torch.channels_last), large


def learning_rate(step: int, steps: int) -> float:
    """Linear up, then half a cosine down."""
    if step < WARM_UP_STEPS:
        return RATE * (step + 1) / WARM_UP_STEPS
    return LAST_RATE + (RATE - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2


def luminance_psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int) -> float:
    """dB between two images [H, W, 3] in BT.601 luminance, without a border, as super-resolution
    papers count."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    difference = ((a.astype(np.float64) - b) @ weights)[border:-border, border:-border]
    return 10 * math.log10(255**2 / (difference**2).mean())


def score(net: nn.Module, scale: int) -> tuple[float, float]:
    """Mean luminance PSNR of the held-out images, shrunk and enlarged again: (network,
    bicubic)."""
    results: list[tuple[float, float]] = []
    for image in held_out():
        height, width = (edge // scale * scale for edge in image.shape[:2])
        large = image[:height, :width]
        small = (
            torch.from_numpy(shrunk(large[None], scale, "bicubic")).permute(0, 3, 1, 2).float()
            / 255
        )
        with torch.no_grad():
            guesses = net(small), functional.interpolate(small, scale_factor=scale, mode="bicubic")
        own, bicubic = (luminance_psnr(_codes(guess), large, scale) for guess in guesses)
        results.append((own, bicubic))
    own, bicubic = np.mean(results, axis=0)
    return float(own), float(bicubic)


def train(args: argparse.Namespace) -> Compact:
    torch.manual_seed(args.seed)
    net = Compact(args.scale)
    if args.start:
        _start_from(net, load_file(args.start))
    net.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), RATE, betas=(0.9, 0.99))
    first = _resume(args.state, net, adam)
    pairs = make_pairs(args.shots, args.scale, args.footage, args.seed, args.pause_file)
    print(
        f"{len(pairs)} pairs, {sum(p.numel() for p in net.parameters())} parameters, from step"
        f" {first}",
        flush=True,
    )
    started, loss_values = time.monotonic(), [0.0]
    for step in range(first, args.steps):
        _rest(args.pause_file)
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        loss_values.append(_step(net, adam, batch(pairs, args.scale, args.seed, step)))
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == args.steps:
            own, bicubic = score(net, args.scale)
            rate = (step + 1 - first) / (time.monotonic() - started)
            mean = np.mean(loss_values[-REPORT_STEPS:])
            print(
                f"step {step + 1}: loss {mean:.5f}, held out {own:.2f} dB, bicubic {bicubic:.2f}"
                f" dB, {rate:.1f} steps/s",
                flush=True,
            )
            _save_state(args.state, net, adam, step + 1)
    return net


def save(net: Compact, path: Path) -> None:
    """float16: half the bytes, and a rounding far below one code of the image."""
    save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, path)


def _rest(pause_file: Path | None) -> None:
    while pause_file and pause_file.exists():
        time.sleep(PAUSE_SECONDS)


def _step(net: Compact, adam: torch.optim.Adam, pair: Pair) -> float:
    small, large = pair
    with torch.autocast("cpu", torch.bfloat16):
        guess = net(small)
    loss = torch.sqrt((guess.float() - large) ** 2 + CHARBONNIER**2).mean()
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    adam.step()
    return loss.item()


def _start_from(net: Compact, state: dict[str, Tensor]) -> None:
    """Takes every tensor whose shape fits: all but the last layer when the scale is another."""
    own = net.state_dict()
    net.load_state_dict(
        {
            **own,
            **{
                name: value.float()
                for name, value in state.items()
                if value.shape == own[name].shape
            },
        }
    )


def _resume(path: Path, net: Compact, adam: torch.optim.Adam) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    net.load_state_dict(saved["net"])
    adam.load_state_dict(saved["adam"])
    return int(saved["step"])


def _save_state(path: Path, net: Compact, adam: torch.optim.Adam, step: int) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".part")
    torch.save({"net": net.state_dict(), "adam": adam.state_dict(), "step": step}, partial)
    partial.replace(path)


def _patch(small: Tensor, large: Tensor, scale: int, rng: np.random.Generator) -> Pair:
    edge = min(PATCH_PX, *small.shape[1:])
    top, left = (int(rng.integers(length - edge + 1)) for length in small.shape[1:])
    pair = (_cut(small, top, left, edge), _cut(large, top * scale, left * scale, edge * scale))
    mirror, turns = bool(rng.integers(2)), int(rng.integers(4))
    first, second = (torch.rot90(side.flip(2) if mirror else side, turns, (1, 2)) for side in pair)
    return first, second


def _cut(frame: Tensor, top: int, left: int, edge: int) -> Tensor:
    return frame[:, top : top + edge, left : left + edge]


def _planes(frame: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))


def _codes(frames: Tensor) -> NDArray[np.uint8]:
    """[1, 3, H, W] in 0..1 -> uint8 [H, W, 3]."""
    return (frames[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="trains the network `lite`")
    parser.add_argument("--scale", type=int, choices=(2, 4), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--shots", type=int, default=900, help="shots to make pairs of")
    parser.add_argument(
        "--footage",
        type=Path,
        help="folder with the videos named in images.py; left out without it",
    )
    parser.add_argument("--start", type=Path, help="weights to begin from")
    parser.add_argument(
        "--state", type=Path, help="checkpoint; default: lite_xSCALE.state in the working directory"
    )
    parser.add_argument(
        "--output", type=Path, help="default: lite_xSCALE.safetensors in the working directory"
    )
    parser.add_argument("--pause-file", type=Path, help="training rests while this file exists")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.state = args.state or Path(f"lite_x{args.scale}.state")
    args.output = args.output or Path(f"lite_x{args.scale}.safetensors")
    return args


if __name__ == "__main__":
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    save(train(arguments), arguments.output)
