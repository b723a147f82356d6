"""State dicts: the tensors of a verified weight file, opened without running anything that the file
contains.

`.safetensors` headers are checked here before the library maps them (size cap, offsets without
overlap or gap, no shape that lies); `.pth`/`.pt` go through torch's weights-only unpickler.
Whatever is wrong is `weights_rejected` with a `reason`.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import MAX_INTEGER
from gpu_worker_processors.models.weights import WeightFile

MAX_HEADER_BYTES = 10_000_000
"""The safetensors library accepts 100 MB; the largest header of a model here is 0.1 MB."""
_ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Formats of the safetensors specification that a weight may have."""
_MAX_DIMENSIONS = 8
"""A weight of a three-dimensional convolution has five."""

StateDict = dict[str, torch.Tensor]


def load_state_dict(file: WeightFile) -> StateDict:
    """The tensors on the CPU, by key, unwrapped from `params_ema`, `params` and the like.

    Raises:
        TaskError: `weights_rejected`; `reason` = bad_header | not_tensors | state_dict_mismatch.
    """
    from spandrel import canonicalize_state_dict

    found = _load_safetensors(file) if file.spec.suffix == ".safetensors" else _load_pickle(file)
    state: dict[Any, Any] = canonicalize_state_dict(found) if isinstance(found, dict) else {}
    if not state or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise reject(file, "state_dict_mismatch", "holds no state dict of tensors")
    return state


def reject(file: WeightFile, reason: str, what: str) -> TaskError:
    """The typed error for a file whose content is not what its manifest entry promises."""
    return TaskError(
        ErrorCode.weights_rejected, f"{file.spec.file} {what}", name=file.spec.name, reason=reason
    )


def _load_safetensors(file: WeightFile) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    problem = header_problem(file.path)
    if problem is not None:
        raise reject(file, "bad_header", problem)
    try:
        return load_file(file.path, device="cpu")
    except (SafetensorError, ValueError, OSError) as error:
        raise reject(file, "bad_header", f"is not a safetensors file: {error}") from None


def _load_pickle(file: WeightFile) -> Any:
    """Only tensors and plain containers come out of torch's weights-only unpickler; the file's
    digest is pinned as well."""
    if file.spec.suffix not in {".pth", ".pt"}:
        raise reject(file, "not_tensors", "is no file of tensors")
    try:
        return torch.load(file.path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        OSError,
    ):
        raise reject(
            file,
            "not_tensors",
            "holds something else than tensors, or is damaged; nothing of it was run",
        ) from None


def header_problem(path: Path) -> str | None:
    """What is wrong with the header of a safetensors file, or None. Reads at most
    `MAX_HEADER_BYTES`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES or length > size - 8:
            return (
                f"announces a header of {length} bytes; at most {MAX_HEADER_BYTES} and no more than"
                " the file are accepted"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        return "has a header that is no JSON"
    if not isinstance(header, dict):
        return "has a header that is no JSON object"
    return _layout_problem(
        {key: value for key, value in header.items() if key != "__metadata__"}, size - 8 - length
    )


def _layout_problem(tensors: Mapping[str, Any], data_bytes: int) -> str | None:
    spans: list[tuple[int, int]] = []
    for entry in tensors.values():
        try:
            shape, (start, end) = list(entry["shape"]), entry["data_offsets"]
            item_bytes = _ITEM_BYTES[entry["dtype"]]
        except (KeyError, TypeError, ValueError):
            return "describes a tensor without known dtype, shape and data_offsets"
        if len(shape) > _MAX_DIMENSIONS or not all(
            type(number) is int and 0 <= number <= MAX_INTEGER for number in [*shape, start, end]
        ):
            return "has a shape or an offset that is no count"
        if end - start != item_bytes * math.prod(shape):
            return "has a tensor whose shape does not fit its bytes"
        spans.append((start, end))
    position = 0
    for start, end in sorted(spans):
        if start != position:
            return "has tensors that overlap or leave gaps"
        position = end
    return None if position == data_bytes else "is shorter or longer than its header says"
