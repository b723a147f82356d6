"""Networks by the name of their weights: state dict -> architecture (spandrel) -> module, with what
is known of its cost.

The architectures that a manifest may name are a short literal table; a file whose keys or shapes
are not of the named one is `weights_rejected` with `reason` = state_dict_mismatch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, UnsupportedModelError

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.sr.banded import BAND_PIXELS, band_tail
from gpu_worker_processors.models.sr.compact import add_before_shuffle
from gpu_worker_processors.models.tensors import StateDict, load_state_dict, reject
from gpu_worker_processors.models.weights import DNI_PARTNERS, WeightFile, WeightStore

SPANDREL_IDS: Mapping[str, str] = {
    "rrdbnet": "ESRGAN",
    "srvgg_compact": "Compact",
    "swinir": "SwinIR",
    "gfpgan": "GFPGAN",
}
"""Manifest `arch` -> spandrel's architecture id."""


@dataclass(frozen=True)
class Traits:
    """What a tiler must know of an architecture."""

    overlap_px: int
    """Input pixels that neighbouring tiles share."""
    values_per_pixel: int
    """Peak number of activation values alive per input pixel of a x4 network, as torch's memory
    profiler counts them (201, 3081 and 3337 at 64x64), with room for the float32 result."""
    batch_pixels: int
    """Input pixels per call from which on a larger batch brings nothing on a GPU; small networks
    need more to fill it."""
    channels_last: bool = True
    autocast: bool = False
    """Keeps float32 weights and lets torch pick the format per operation, for a network that mixes
    formats itself."""
    recordable: bool = True
    """Its kernels can be recorded: nothing of a call is computed on the host or copied from
    there."""
    banded_values_per_pixel: int | None = None
    """The same number beyond the first `BAND_PIXELS`, for a network whose tail runs in bands; None
    for any other."""

    def affordable_pixels(self, values: int) -> int:
        """Input pixels of one call that keep at most so many activation values alive."""
        pixels = values // self.values_per_pixel
        if self.banded_values_per_pixel is None or pixels < BAND_PIXELS:
            return pixels
        return (
            BAND_PIXELS
            + (values - BAND_PIXELS * self.values_per_pixel) // self.banded_values_per_pixel
        )


TRAITS: Mapping[str, Traits] = {
    # Receptive field 18 or 34 px a side (3x3 convolutions in a row), so 48 shared pixels leave no
    # visible trace.
    "Compact": Traits(overlap_px=48, values_per_pixel=300, batch_pixels=2_000_000),
    # 64 channels at 16x the pixels, three of them alive in the tail of a band; the trunk has 579 at
    # 192x192, by the same profiler. A batch of 4 brought 1-6 % (ls-ads/real-esrgan-serve).
    "ESRGAN": Traits(
        overlap_px=32, values_per_pixel=3400, batch_pixels=350_000, banded_values_per_pixel=800
    ),
    # Its attention mask is float32 whatever the weights are, so a module in bfloat16 fails at any
    # size but the trained one; and it is made on the host at every call.
    "SwinIR": Traits(
        overlap_px=32,
        values_per_pixel=4000,
        batch_pixels=350_000,
        channels_last=False,
        autocast=True,
        recordable=False,
    ),
}
_LOAD_ERRORS = (
    UnsupportedModelError,
    RuntimeError,
    KeyError,
    ValueError,
    IndexError,
    TypeError,
    AssertionError,
)
"""What spandrel and `load_state_dict` raise on keys or shapes of another network."""


def build(state: StateDict, file: WeightFile) -> ImageModelDescriptor[torch.nn.Module]:
    """The module of the architecture that the manifest names, in float32 on the CPU, in evaluation
    mode.

    Raises:
        TaskError: `weights_rejected`, reason state_dict_mismatch.
    """
    architecture = SPANDREL_IDS.get(file.spec.arch)
    if architecture is None:
        raise reject(
            file,
            "state_dict_mismatch",
            f"has arch `{file.spec.arch}`; known are: {', '.join(SPANDREL_IDS)}",
        )
    support = MAIN_REGISTRY[architecture]
    try:
        if not support.detect(state):
            raise UnsupportedModelError
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "torch.meshgrid", UserWarning
            )  # spandrel's SwinIR calls it the old way
            descriptor = support.architecture.load(
                {key: _in_float32(value) for key, value in state.items()}
            )
    except _LOAD_ERRORS:
        raise reject(
            file, "state_dict_mismatch", f"holds no weights of the network `{file.spec.arch}`"
        ) from None
    assert isinstance(descriptor, ImageModelDescriptor)
    descriptor.eval()
    descriptor.model.requires_grad_(False)
    if architecture == "ESRGAN":
        band_tail(descriptor.model)
    elif architecture == "Compact":
        add_before_shuffle(descriptor.model)
    return descriptor


def _in_float32(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value


def interpolate(strong: StateDict, weak: StateDict, strength: float) -> StateDict:
    """Weights `strength * strong + (1 - strength) * weak` (deep network interpolation, arXiv
    1811.10515), in float32."""
    return {
        key: strength * value.float() + (1 - strength) * weak[key].float()
        for key, value in strong.items()
    }


def load_network(
    name: str, store: WeightStore, denoise_strength: float | None = None
) -> ImageModelDescriptor[torch.nn.Module]:
    """A super-resolution network by its manifest name; `denoise_strength` below 1 mixes in the
    weak-denoise partner.

    Raises:
        TaskError: `weights_missing`, `weights_rejected`; `invalid_task` when the network has no
            such partner.
    """
    file = store.resolve(name)
    state = load_state_dict(file)
    if denoise_strength is not None and name not in DNI_PARTNERS:
        raise TaskError(
            ErrorCode.invalid_task,
            f"weights can be interpolated only with: {', '.join(DNI_PARTNERS)}",
        )
    if denoise_strength is not None and denoise_strength < 1:
        weak = store.resolve(DNI_PARTNERS[name])
        other = load_state_dict(weak)
        if {key: value.shape for key, value in state.items()} != {
            key: value.shape for key, value in other.items()
        }:
            raise reject(weak, "state_dict_mismatch", f"has other layers than {file.spec.file}")
        state = interpolate(state, other, denoise_strength)
    descriptor = build(state, file)
    if descriptor.purpose != "SR" or (descriptor.input_channels, descriptor.output_channels) != (
        3,
        3,
    ):
        raise reject(file, "state_dict_mismatch", "is no super-resolution network from RGB to RGB")
    if descriptor.scale != file.spec.scale:
        raise reject(
            file,
            "state_dict_mismatch",
            f"enlarges by {descriptor.scale}, its manifest says {file.spec.scale}",
        )
    return descriptor
