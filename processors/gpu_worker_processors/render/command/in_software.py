"""A command for an NVIDIA card as the same command without one: decoders and filters of the card
become those of the CPU. The encoder is not for here: see `hardware`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gpu_worker_processors.render.command.graph import Filter, Graph
from gpu_worker_processors.render.command.script import Given, Input, Script
from gpu_worker_processors.render.command.values import Text

_FILTERS = {
    "scale_cuda": "scale",
    "overlay_cuda": "overlay",
    "pad_cuda": "pad",
    "chromakey_cuda": "chromakey",
    "thumbnail_cuda": "thumbnail",
    "bilateral_cuda": "bilateral",
    "yadif_cuda": "yadif",
    "bwdif_cuda": "bwdif",
    "transpose_cuda": "transpose",
    "hwupload_cuda": "null",
    "hwdownload": "null",
}
"""What does the same on the CPU."""
_SCALERS = {
    "nearest": "neighbor",
    "0": "bicubic",
    "1": "neighbor",
    "2": "bilinear",
    "3": "bicubic",
    "4": "lanczos",
}
"""`interp_algo` of scale_cuda -> flags of scale; the names that are missing are the same."""
_ONLY_ON_CARD = {
    "scale_cuda": {"interp_algo", "format", "passthrough", "use_filters", "param"},
    "bilateral_cuda": {"window_size", "sigmaR"},
    "bwdif_cuda": {"mode"},
    "transpose_cuda": {"passthrough"},
    "hwupload_cuda": {"device"},
}
"""Options that the filter of the CPU has not, or not with these values."""
_DECODING = frozenset(
    {"hwaccel", "hwaccel_output_format", "hwaccel_device", "extra_hw_frames", "surfaces", "gpu"}
)


def in_software(script: Script) -> Script:
    """The same command without decoders and filters of the card."""
    return dataclasses.replace(
        script,
        common=tuple(_setting(given) for given in script.common),
        inputs=tuple(_input(item) for item in script.inputs),
        settings=tuple(_setting(given) for given in script.settings),
        earlier=tuple(in_software(one) for one in script.earlier),
    )


def _input(item: Input) -> Input:
    settings = tuple(
        given
        for given in item.settings
        if given.name not in _DECODING
        and not (given.name == "c" and given.plain.endswith("_cuvid"))
    )
    return dataclasses.replace(item, settings=settings)


def _setting(given: Given) -> Given:
    if not isinstance(given.value, Graph):
        return given
    chains = tuple(
        tuple(replaced for item in chain for replaced in _filter(item))
        for chain in given.value.chains
    )
    return dataclasses.replace(given, value=Graph(chains))


def _filter(item: Filter) -> Iterator[Filter]:
    name = _FILTERS.get(item.name)
    if name is None:
        yield item
        return
    left_out = _ONLY_ON_CARD.get(item.name, set())
    options = [(key, value) for key, value in item.options if key not in left_out]
    scaler = item.option("interp_algo")
    if scaler is not None:
        options.append(("flags", Text(_SCALERS.get(scaler.text(str), scaler.text(str)))))
    pixels = item.option("format") if item.name == "scale_cuda" else None
    if pixels is None:
        yield dataclasses.replace(item, name=name, options=tuple(options))
        return
    yield dataclasses.replace(item, name=name, options=tuple(options), outputs=())
    yield Filter("format", (("pix_fmts", pixels),), outputs=item.outputs)
