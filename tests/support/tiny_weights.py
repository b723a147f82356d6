"""Small networks with seeded random weights, saved in the key layout of the official files, and a
WEIGHTS_DIR that holds them.

The layouts were written down from the published networks (basicsr's RRDBNet, realesrgan's
SRVGGNetCompact).
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_worker_processors.models.weights import WeightStore


def _conv(
    state: dict[str, Tensor],
    name: str,
    inputs: int,
    outputs: int,
    gain: float,
    random: torch.Generator,
) -> None:
    spread = gain * (2 / (inputs * 9)) ** 0.5
    state[f"{name}.weight"] = torch.randn((outputs, inputs, 3, 3), generator=random) * spread
    state[f"{name}.bias"] = torch.randn(outputs, generator=random) * 0.01


def rrdb(blocks: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """RRDBNet x4, 64 features, growth 32: `conv_first`, `body.N.rdbM.convK`, `conv_body`,
    `conv_up1`, ..., `conv_last`."""
    random = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    _conv(state, "conv_first", 3, 64, 1, random)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for k in range(1, 6):
                name = f"body.{block}.rdb{dense}.conv{k}"
                _conv(state, name, 64 + 32 * (k - 1), 64 if k == 5 else 32, 0.5, random)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        _conv(state, name, 64, 64, 1, random)
    _conv(state, "conv_last", 64, 3, 0.3, random)
    state["conv_last.bias"] += 0.5
    return state


def compact(convs: int = 4, features: int = 64, scale: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """SRVGGNetCompact: `body.0` convolution, then PReLU and convolution in turn; the last makes 3 *
    scale^2 channels."""
    random = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for i in range(convs + 1):
        _conv(state, f"body.{2 * i}", 3 if i == 0 else features, features, 1, random)
        state[f"body.{2 * i + 1}.weight"] = torch.rand(features, generator=random) * 0.3
    _conv(state, f"body.{2 * convs + 2}", features, 3 * scale**2, 0.1, random)
    return state


def rrdb_of_2018(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of the ESRGAN paper's release: `RRDB_trunk.N.RDBM.convK`,
    `trunk_conv`, `HRconv`, ..."""
    names = {
        "conv_body": "trunk_conv",
        "conv_up1": "upconv1",
        "conv_up2": "upconv2",
        "conv_hr": "HRconv",
    }
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        layer = (
            layer.replace("body.", "RRDB_trunk.").replace(".rdb", ".RDB")
            if layer.startswith("body.")
            else names.get(layer, layer)
        )
        renamed[f"{layer}.{kind}"] = value
    return renamed


def swinir(
    seed: int = 0, groups: int = 2, blocks: int = 2, heads: int = 2, channels: int = 24
) -> dict[str, Tensor]:
    """SwinIR x4 for real images ("nearest+conv"); layout from spandrel's class. The published
    middle size has 6 groups of 6 blocks, 6 heads and 180 channels."""
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(seed)
    depths, num_heads = [blocks] * groups, [heads] * groups
    shape = {
        "img_size": 64,
        "window_size": 8,
        "depths": depths,
        "num_heads": num_heads,
        "embed_dim": channels,
        "mlp_ratio": 2,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torch.meshgrid the old way
        net = SwinIR(
            upscale=4,
            in_chans=3,
            img_range=1.0,
            upsampler="nearest+conv",
            resi_connection="1conv",
            **shape,
        )
    return net.state_dict()


class WeightsFolder:
    """A WEIGHTS_DIR under construction: put files, then ask for a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._entries: list[dict[str, Any]] = []

    def put(
        self,
        name: str,
        state: Any,
        *,
        arch: str,
        suffix: str = ".pth",
        scale: int = 4,
        wrap: str = "params_ema",
    ) -> Path:
        """Saves a state dict as a release would and pins it in `manifest.local.toml`."""
        path = self.folder / f"{name}{suffix}"
        if suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(state, path)
        else:
            torch.save({wrap: state} if wrap else state, path)
        self.pin(name, path, arch=arch, scale=scale)
        return path

    def put_bytes(
        self, name: str, file: str, content: bytes, *, arch: str = "srvgg_compact", **fields: Any
    ) -> Path:
        path = self.folder / file
        path.write_bytes(content)
        self.pin(name, path, arch=arch, **fields)
        return path

    def pin(self, name: str, path: Path, **fields: Any) -> None:
        """Writes what is true of the file now into the manifest; `fields` override it."""
        content = path.read_bytes()
        entry = {
            "name": name,
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        self._entries.append({**entry, "kind": "sr", "scale": 4, **fields})
        self.write_manifest()

    def write_manifest(self) -> None:
        lines = []
        for entry in self._entries:
            lines.append("[[weights]]")
            lines += [
                f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in entry.items()
            ]
        (self.folder / "manifest.local.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def store(self) -> WeightStore:
        return WeightStore(self.folder)
