"""Our networks against the originals' classes with the same weights: RealESRGANer, SRVGGNetCompact,
RRDBNet in float32.

float32 must agree to one code of 255 after rounding, bfloat16 to 40 dB (the bar) with the real
weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from support.reference_nets import reference
from support.tiny_weights import WeightsFolder, compact, rrdb
from torch import Tensor
from torch.nn import functional

from gpu_worker_processors.models.sr.loader import forget_all, load
from gpu_worker_processors.models.tensors import load_state_dict
from gpu_worker_processors.models.weights import WeightStore

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    forget_all()
    yield
    torch.set_num_threads(before)


def photograph(height: int, width: int) -> Tensor:
    """[1, 3, H, W]: a face and its surroundings, shrunk so that the network has something to
    invent."""
    rgb = (
        torch.from_numpy(skimage.data.astronaut()[:400, 60:460].copy())
        .permute(2, 0, 1)[None]
        .float()
        / 255
    )
    return functional.interpolate(rgb, size=(height, width), mode="area")


def codes(frames: Tensor) -> NDArray[np.int16]:
    """[1, 3, H, W] 0..1 -> (H, W, 3) codes of 0..255."""
    return (frames[0].permute(1, 2, 0) * 255).round().numpy().astype(np.int16)


def psnr(a: NDArray[np.int16], b: NDArray[np.int16]) -> float:
    mse = float(((a - b).astype(np.float64) ** 2).mean())
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def by_original(
    name: str, store: WeightStore, net: Any, rgb: Tensor, tmp_path: Path
) -> NDArray[np.int16]:
    """The whole of the original: its loader of `.pth`, its padding, its network, its rounding."""
    path = tmp_path / f"{name}.pth"
    torch.save({"params_ema": load_state_dict(store.resolve(name))}, path)
    upsampler = reference().RealESRGANer(
        scale=4, model_path=str(path), model=net, tile=0, half=False, device=CPU
    )
    bgr = codes(rgb)[..., ::-1].astype(np.uint8)
    return upsampler.enhance(np.ascontiguousarray(bgr), outscale=4)[0][..., ::-1].astype(np.int16)


@pytest.mark.parametrize(("name", "convs"), [("realesr-animevideov3", 16), ("upscayl-lite-4x", 32)])
def test_real_weights_give_the_originals_picture(
    weights_dir: Path, tmp_path: Path, name: str, convs: int
) -> None:
    store = WeightStore(weights_dir)
    rgb = (
        torch.from_numpy(codes(photograph(72, 88)).astype(np.float32)).permute(2, 0, 1)[None] / 255
    )
    net = reference().SRVGGNetCompact(
        num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=convs, upscale=4, act_type="prelu"
    )
    expected = by_original(name, store, net, rgb, tmp_path)
    exact = codes(load(name, store=store, device=CPU, dtype=torch.float32)(rgb))
    # RealESRGANer pads 10 px on the right and below before the network, which reaches 18 or 34 px
    # back from there.
    reach = 4 * (convs + 2)
    assert np.abs(exact - expected)[:-reach, :-reach].max() <= 1
    assert psnr(exact[:-reach, :-reach], expected[:-reach, :-reach]) >= 50
    fast = codes(load(name, store=store, device=CPU, dtype=torch.bfloat16)(rgb))
    assert psnr(fast[:-reach, :-reach], expected[:-reach, :-reach]) >= 40
    bicubic = functional.interpolate(rgb, scale_factor=4, mode="bicubic").clamp(0, 1)
    assert psnr(codes(bicubic), exact) < 40, "the network does something"


@pytest.mark.parametrize("kind", ["compact", "rrdb"])
def test_the_networks_are_the_originals_layer_by_layer(tmp_path: Path, kind: str) -> None:
    folder = WeightsFolder(tmp_path)
    if kind == "compact":
        state = compact(convs=3, features=24)
        net = reference().SRVGGNetCompact(
            num_in_ch=3, num_out_ch=3, num_feat=24, num_conv=3, upscale=4, act_type="prelu"
        )
    else:
        state = rrdb(2)
        net = reference().RRDBNet(
            num_in_ch=3, num_out_ch=3, num_feat=64, num_block=2, num_grow_ch=32, scale=4
        )
    net.load_state_dict(state, strict=True)
    folder.put("net", state, arch="srvgg_compact" if kind == "compact" else "rrdbnet")
    rgb = photograph(24, 31)
    with torch.no_grad():
        expected = net.eval()(rgb).clamp(0, 1)
    got = load("net", store=folder.store(), device=CPU, dtype=torch.float32)(rgb)
    assert float(expected.std()) > 0.02, "a picture, not one colour"
    assert np.abs(codes(got) - codes(expected)).max() <= 1
    assert float((got - expected).abs().max()) < 1e-4
