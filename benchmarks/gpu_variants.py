"""Other orders of the same arithmetic for RRDB networks: candidates, each to stay only if a card
shows that it pays.

A dense block as published joins its tensors before every convolution, which moves 5,120 bytes for
each pixel of the input in half precision where the convolutions themselves read and write 1,664.
Three ways out, all exact but for rounding:

- `by_input`: each tensor is convolved once with the weights of all later layers side by side, and
  the sums go along. No join, and 192 outputs at once instead of 32, which fill a tensor core's
  tile; but the sums are read and written again each time.
- `inplace`: one tensor of 192 channels, each layer writes its slice. A slice of channels is dense
  only in NCHW and for one frame, so that is the layout here, and cuDNN has to turn it for its
  tensor cores.
- `folded`: nearest-neighbour enlargement and the 3x3 convolution after it as four convolutions of
  2x2, one for each position in the enlarged pixel: 2.25 times fewer operations in those two layers,
  and no enlarged tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from gpu_nets import folder_with, nets
from gpu_sizes import Row, Sizes, seconds_per_call
from torch import Tensor, nn
from torch.nn import functional

from gpu_worker_processors.models.devices import best_dtype
from gpu_worker_processors.models.sr.nets import load_network
from gpu_worker_processors.models.sr.replay import ReplayedNetwork

SLOPE, RESIDUAL = 0.2, 0.2
"""Of LeakyReLU, and the share of a block's output that is added to its input: ESRGAN, arXiv
1809.00219."""
LAYERS = 5


class ByInput(nn.Module):
    """A dense block whose weights are split by the tensor they read.

    Args:
        block: spandrel's ResidualDenseBlock_5C.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        convolutions = [getattr(block, f"conv{k}")[0] for k in range(1, LAYERS + 1)]
        wide, self.growth = convolutions[0].in_channels, convolutions[0].out_channels
        ends = [wide + self.growth * k for k in range(LAYERS)]
        starts = [0, *ends[:-1]]
        parts = [
            torch.cat([c.weight[:, start:end] for c in convolutions[source:]])
            for source, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        self.weights = nn.ParameterList(
            [nn.Parameter(part.contiguous(), requires_grad=False) for part in parts]
        )
        self.bias = nn.Parameter(torch.cat([c.bias for c in convolutions]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        sums = functional.conv2d(x, self.weights[0], self.bias, padding=1)
        for weight in list(self.weights)[1:]:
            part = functional.leaky_relu(sums[:, : self.growth], SLOPE)
            sums = functional.conv2d(part, weight, padding=1).add_(sums[:, self.growth :])
        return torch.add(x, sums, alpha=RESIDUAL)


class Inplace(nn.Module):
    """A dense block that writes each layer into its slice of one tensor."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [getattr(block, f"conv{k}")[0] for k in range(1, LAYERS + 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        *inner, last = self.convolutions
        joined = x.new_empty((count, last.in_channels, height, width))  # type: ignore[arg-type]
        joined[:, :channels] = x
        for convolution in inner:
            end = channels + convolution.out_channels  # type: ignore[operator]
            joined[:, channels:end] = functional.leaky_relu(
                convolution(joined[:, :channels]), SLOPE
            )
            channels = end
        return torch.add(x, last(joined), alpha=RESIDUAL)


class FoldedUpsample(nn.Module):
    """Nearest-neighbour enlargement by two and a 3x3 convolution with zero padding, as one
    convolution of 2x2.

    Row 2y + a of the enlarged frame under the kernel's row d is row y + (a + d - 1) // 2 of the
    source: of the three kernel rows two fall on row y of the source, for a = 0 as for a = 1, and
    are added up.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        w = convolution.weight
        rows = [
            torch.stack([w[:, :, 0], w[:, :, 1] + w[:, :, 2]], 2),
            torch.stack([w[:, :, 0] + w[:, :, 1], w[:, :, 2]], 2),
        ]
        phases: list[Tensor] = []
        for r in rows:
            phases.append(torch.stack([r[..., 0], r[..., 1] + r[..., 2]], 3))
            phases.append(torch.stack([r[..., 0] + r[..., 1], r[..., 2]], 3))
        self.outputs = convolution.out_channels
        self.weight = nn.Parameter(torch.cat(phases).contiguous(), requires_grad=False)
        assert convolution.bias is not None
        self.bias = nn.Parameter(convolution.bias.repeat(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        all_phases = functional.conv2d(x, self.weight, self.bias, padding=1)
        layout = (
            torch.channels_last
            if x.is_contiguous(memory_format=torch.channels_last)
            else torch.contiguous_format
        )
        large = torch.empty(
            (count, self.outputs, 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=layout,
        )
        for phase, part in enumerate(all_phases.split(self.outputs, 1)):
            a, b = divmod(phase, 2)
            large[:, :, a::2, b::2] = part[:, :, a : a + height, b : b + width]
        return large


def with_blocks(net: Any, make: Callable[[Any], nn.Module]) -> None:
    """Replaces every dense block of spandrel's RRDBNet."""
    for group in list(net.model[1].sub)[:-1]:
        for name in ("RDB1", "RDB2", "RDB3"):
            setattr(group, name, make(getattr(group, name)))


def with_folded_tail(net: Any) -> None:
    """Replaces each enlargement and its convolution in the tail, which is banded already."""
    banded = net.model[2]
    layers: list[nn.Module] = []
    for layer in banded.tail:
        if layers and isinstance(layers[-1], nn.Upsample):
            assert isinstance(layer, nn.Conv2d)
            layers[-1] = FoldedUpsample(layer)
        else:
            layers.append(layer)
    banded.tail = nn.Sequential(*layers)


VARIANTS: dict[str, Callable[[Any], None]] = {
    "as published": lambda net: None,  # noqa: ARG005
    "by_input": lambda net: with_blocks(net, ByInput),
    "inplace": lambda net: with_blocks(net, Inplace),
    "folded": with_folded_tail,
}


Fusion = Literal["kernel by kernel", "compiled", "autotuned"]
"""What torch's compiler may do with a block: nothing; fuse what lies between the convolutions; try
its own convolutions too, into which it fuses sums and activations."""
RUNS: tuple[tuple[str, Fusion], ...] = (
    *((variant, "kernel by kernel") for variant in VARIANTS),
    *(("by_input", fusion) for fusion in ("compiled", "autotuned")),
    ("as published", "autotuned"),
)
"""The compiled network as published is a row of another section."""


def rows(sizes: Sizes) -> Iterator[Row]:
    """Frames per second and parity of each variant, recorded where there are graphs, beside the
    network as published."""
    net = nets(sizes)[0]
    dtype = best_dtype(sizes.device)
    frames = torch.rand(1, 3, sizes.height, sizes.width, device=sizes.device).to(dtype)
    published: tuple[float, Tensor] | None = None
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        store = folder_with(net, Path(name)).store()
        for variant, fusion in RUNS:
            if fusion != "kernel by kernel" and sizes.device.type != "cuda":
                continue
            layout = torch.contiguous_format if variant == "inplace" else torch.channels_last
            run = _prepared(
                load_network(net.name, store).model, variant, fusion, sizes, dtype, layout
            )
            x = frames.contiguous(memory_format=layout)
            fps, image = 1 / seconds_per_call(partial(run, x), sizes), run(x).float()
            published = published or (fps, image)
            psnr = -10 * torch.log10((image - published[1]).square().mean())
            yield {
                "name": f"{net.name}, dense blocks and tail {variant}, {fusion}",
                "value": fps,
                "unit": "frames/s",
                "ratio": fps / published[0],
                "note": (
                    f"{dtype}; {float(psnr):.1f} dB from the network as published in the same"
                    " format"
                ),
            }


def _prepared(
    model: Any,
    variant: str,
    fusion: Fusion,
    sizes: Sizes,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> Callable[[Tensor], Tensor]:
    VARIANTS[variant](model)
    model.to(sizes.device, dtype).to(memory_format=layout)
    if fusion != "kernel by kernel":
        for block in list(model.model[1].sub)[:-1]:
            block.compile(
                dynamic=False, mode="max-autotune-no-cudagraphs" if fusion == "autotuned" else None
            )
    return ReplayedNetwork(model) if sizes.device.type == "cuda" else model
