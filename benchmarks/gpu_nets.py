"""Super-resolution networks of the real shapes with random numbers: their cost, their speed in each
way of running, their parity with float32, and the same frames through RealESRGANer.

Speed needs no trained weights. A `Net` knows how to write itself into a weights folder, so that
what is timed is what a job loads; its arithmetic is counted by torch on the meta device, where
nothing is computed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_sizes import Row, Sizes, seconds_per_call
from numpy.typing import NDArray
from reference import load_reference
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gpu_worker_processors.media.color import BT709, ColorTags
from gpu_worker_processors.media.encoders import EncoderChoice
from gpu_worker_processors.media.frame import Frame
from gpu_worker_processors.models.sr.loader import Execution, forget_all, load
from gpu_worker_processors.models.sr.nets import load_network
from gpu_worker_processors.models.sr.resolver import SuperResolver
from gpu_worker_processors.upscale.enlarge import FrameEnlarger
from gpu_worker_processors.upscale.plan import Plan
from gpu_worker_processors.upscale.upscale import PARALLEL_FRAMES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.tiny_weights import WeightsFolder, compact, rrdb, swinir

PEAK_VARIABLE = "GPU_BENCH_PEAK_TFLOPS"
"""What the largest matrix product reached on this card, measured beforehand in a process of its
own."""
PARITY_DB = {torch.float16: 50.0, torch.bfloat16: 40.0}
"""Least PSNR against float32 by number format."""


@dataclass(frozen=True)
class Net:
    """A network by its name on the wire."""

    name: str
    arch: str
    state: Callable[[], dict[str, Tensor]]
    bar_fps: float | None = None
    """720x480, on an H200."""
    aim_fps: float | None = None


def nets(sizes: Sizes) -> tuple[Net, ...]:
    """The networks of the task, the most asked for first."""
    return (
        Net("RealESRGAN_x4plus", "rrdbnet", lambda: rrdb(sizes.blocks), 25, 40),
        Net("realesr-general-x4v3", "srvgg_compact", lambda: compact(sizes.convs), 200, 400),
        Net("realesr-animevideov3", "srvgg_compact", lambda: compact(sizes.convs // 2)),
        Net("RealESRGAN_x4plus_anime_6B", "rrdbnet", lambda: rrdb(sizes.small_blocks)),
        Net("SwinIR_4x_GAN", "swinir", lambda: swinir(**sizes.swin)),
    )


def folder_with(net: Net, path: Path) -> WeightsFolder:
    """A weights directory that holds the network."""
    folder = WeightsFolder(path)
    folder.put(net.name, net.state(), arch=net.arch)
    return folder


def flops_per_pixel(net: Net, folder: WeightsFolder) -> float:
    """Floating-point operations (two for a multiply-add) per pixel of the input, counted by torch.
    Matrix work only."""
    model = load_network(net.name, folder.store()).model.to("meta")
    edge = 64
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, edge, edge, device="meta"))
    return counter.get_total_flops() / edge**2


def speed_rows(sizes: Sizes) -> Iterator[Row]:
    """Frames per second of each network, kernel by kernel and replayed, the frames on the device
    before and after."""
    for net in nets(sizes):
        yield from _speed(net, sizes, ("eager", "graphs"))


def compiled_rows(sizes: Sizes) -> Iterator[Row]:
    """The same, compiled first."""
    for net in nets(sizes):
        if net.arch != "swinir":
            yield from _speed(net, sizes, ("compiled",))


def _speed(net: Net, sizes: Sizes, executions: tuple[Execution, ...]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = folder_with(net, Path(name))
        frame_flops = flops_per_pixel(net, folder) * sizes.width * sizes.height
        for execution in (
            executions if net.arch != "swinir" else executions[:1]
        ):  # SwinIR cannot be recorded
            forget_all()
            yield _speed_row(net, folder, execution, sizes, frame_flops)


def _speed_row(
    net: Net, folder: WeightsFolder, execution: Execution, sizes: Sizes, frame_flops: float
) -> Row:
    resolver = load(net.name, store=folder.store(), device=sizes.device, execution=execution)
    batch = resolver.batch_for(sizes.height, sizes.width)
    frames = torch.rand(batch, 3, sizes.height, sizes.width, device=sizes.device)
    if sizes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(sizes.device)
    fps = batch / seconds_per_call(lambda: resolver(frames), sizes)
    memory = (
        torch.cuda.max_memory_allocated(sizes.device) / 2**20
        if sizes.device.type == "cuda"
        else None
    )
    peak_flops = 1e12 * float(os.environ[PEAK_VARIABLE])
    share = fps * frame_flops / peak_flops
    at_most = f", {memory:.0f} MiB at most" if memory is not None else ""
    tiles = resolver.tiles_for(sizes.height, sizes.width)
    return {
        "name": f"{net.name}, {sizes.width}x{sizes.height} x4, network only, {execution}",
        "model": net.name,
        "flops_per_pixel": frame_flops / (sizes.width * sizes.height),
        "value": fps,
        "unit": "frames/s",
        "limit": peak_flops / frame_flops,
        "bar": net.bar_fps,
        "aim": net.aim_fps,
        "note": (
            f"{_name(resolver.dtype)}, batch {batch}, {tiles} tiles, {100 * share:.0f} % of the"
            f" matrix peak{at_most}"
        ),
    }


def parity_rows(sizes: Sizes) -> Iterator[Row]:
    """PSNR of half precision against float32 of the same network on the same device."""
    for net in nets(sizes):
        yield from _parity(net, sizes)


def _parity(net: Net, sizes: Sizes) -> Iterator[Row]:
    forget_all()
    with tempfile.TemporaryDirectory() as name:
        store = folder_with(net, Path(name)).store()
        shape = (1, 3, sizes.parity_px, sizes.parity_px)
        frames = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(sizes.device)
        exact = load(net.name, store=store, device=sizes.device, dtype=torch.float32)(frames)
        for dtype, bar in PARITY_DB.items():
            if dtype == torch.float16 and net.arch == "swinir":
                continue  # spandrel marks it as unfit for float16
            found = load(net.name, store=store, device=sizes.device, dtype=dtype)(frames)
            mse = float((found.double() - exact.double()).square().mean())
            value = -10 * np.log10(mse) if mse else float("inf")
            name_ = f"{net.name}, {_name(dtype)} against float32"
            yield {
                "name": name_,
                "value": value,
                "unit": "dB",
                "bar": bar,
                "note": f"spread {float(exact.std()):.3f}",
            }


def peer_rows(sizes: Sizes) -> Iterator[Row]:
    """RealESRGANer in half precision and this project, frames of 8-bit samples in host memory to
    such frames: in turn.

    Raises:
        ReferenceMissing: the originals are not installed.
    """
    reference = load_reference()
    for net in nets(sizes):
        if net.name in ("RealESRGAN_x4plus", "realesr-general-x4v3"):
            yield _peer_row(net, sizes, reference)


def _peer_row(net: Net, sizes: Sizes, reference: Any) -> Row:
    forget_all()
    with tempfile.TemporaryDirectory() as name:
        folder = folder_with(net, Path(name))
        resolver = load(net.name, store=folder.store(), device=sizes.device)
        original = _original(net, sizes, reference, folder.folder / f"{net.name}.pth")
        count = (
            2 * PARALLEL_FRAMES[sizes.device.type] * resolver.batch_for(sizes.height, sizes.width)
        )
        frames = [_frame(sizes, seed) for seed in range(count)]
        bgr = [_bgr(sizes, seed) for seed in range(count)]
        theirs = count / seconds_per_call(
            lambda: [original.enhance(frame, outscale=4) for frame in bgr], sizes
        )
        ours = count / seconds_per_call(lambda: enlarge_all(resolver, frames, sizes), sizes)
    return {
        "name": (
            f"{net.name}, {sizes.width}x{sizes.height} x4, frames in host memory to frames in host"
            " memory"
        ),
        "value": ours,
        "unit": "frames/s",
        "peer": theirs,
        "ratio": ours / theirs,
        "bar_ratio": 4.0,
        "note": (
            f"peer: RealESRGANer, {'fp16' if sizes.device.type == 'cuda' else 'fp32'}; ours with"
            " colour conversion"
        ),
    }


def _original(net: Net, sizes: Sizes, reference: Any, weights: Path) -> Any:
    shape = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 64}
    if net.arch == "rrdbnet":
        model = reference.RRDBNet(**shape, num_block=sizes.blocks, num_grow_ch=32, scale=4)
    else:
        model = reference.SRVGGNetCompact(
            **shape, num_conv=sizes.convs, upscale=4, act_type="prelu"
        )
    half = sizes.device.type == "cuda"
    return reference.RealESRGANer(
        scale=4, model_path=str(weights), model=model, half=half, device=sizes.device
    )


def enlarge_all(resolver: SuperResolver, frames: list[Frame], sizes: Sizes) -> None:
    """What the pipe of a job does between decoder and encoder, with as many frames side by side."""
    enlarge = enlarger(resolver, sizes)
    batch = resolver.batch_for(sizes.height, sizes.width)
    groups = [frames[start : start + batch] for start in range(0, len(frames), batch)]
    with ThreadPoolExecutor(PARALLEL_FRAMES[sizes.device.type]) as pool:
        for planes in pool.map(enlarge, groups):
            for frame in planes:
                frame.samples()


def enlarger(resolver: SuperResolver, sizes: Sizes) -> FrameEnlarger:
    """Of 8-bit 4:2:0 frames in BT.709 to such frames at four times the size."""
    tags = ColorTags(BT709, 1, 1, full_range=False)
    encoder = EncoderChoice("libx264", "h264", "yuv420p", 8)
    plan = Plan(
        4 * sizes.width,
        4 * sizes.height,
        tags,
        tags,
        encoder,
        "none",
        warnings=(),
    )
    return FrameEnlarger(plan, Upright(), resolver)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Upright:
    """Of a stream's facts the two that turn its frames."""

    rotation: int = 0
    mirrored: bool = False


def _frame(sizes: Sizes, seed: int) -> Frame:
    random = np.random.default_rng(seed)
    shapes = ((sizes.height, sizes.width), *[(sizes.height // 2, sizes.width // 2)] * 2)
    return Frame(
        tuple(random.integers(16, 236, shape, np.uint8) for shape in shapes), 8, is_rgb=False
    )


def _bgr(sizes: Sizes, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (sizes.height, sizes.width, 3), np.uint8)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
