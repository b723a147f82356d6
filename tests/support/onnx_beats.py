"""An ONNX file with Beat This!'s input and outputs whose "beats" are loud frames: runs the real
runtime without weights.

Input float32 (1, frames, 128) of any number of frames; outputs `beat` and `downbeat`, float32 (1,
frames). A frame's logit is the mean of its log mel spectrum less `BEAT_BIAS`; for downbeats only
bands from `HIGH_BAND` on count.
"""

from __future__ import annotations

from support.onnx_faces import _bytes, _ints, _node, _number, _tensor

BANDS, HIGH_BAND = 128, 100
BEAT_BIAS, DOWNBEAT_BIAS = 0.25, 3.5
_FLOAT = 1


def _value(name: str, dims: list[int | str]) -> bytes:
    """A float tensor; a dimension that has a name may have any size."""
    parts = [_number(1, dim) if isinstance(dim, int) else _bytes(2, dim) for dim in dims]
    return _bytes(1, name) + _bytes(
        2, _bytes(1, _number(1, _FLOAT) + _bytes(2, b"".join(_bytes(1, part) for part in parts)))
    )


def beat_network(bands: int = BANDS) -> bytes:
    """The file's content."""
    nodes, constants, outputs = list[bytes](), list[bytes](), list[bytes]()
    for head, first, bias in (("beat", 0, BEAT_BIAS), ("downbeat", HIGH_BAND, DOWNBEAT_BIAS)):
        weights = [1 / (bands - first) if band >= first else 0.0 for band in range(bands)]
        constants += [_tensor(f"{head}_w", [bands, 1], weights), _tensor(f"{head}_b", [1], [-bias])]
        nodes.append(_node("MatMul", ["spectrogram", f"{head}_w"], f"{head}_product"))
        nodes.append(_node("Add", [f"{head}_product", f"{head}_b"], f"{head}_sum"))
        nodes.append(_node("Squeeze", [f"{head}_sum"], head, _ints("axes", [2])))
        outputs.append(_value(head, [1, "frames"]))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "loud")
    graph += b"".join(_bytes(5, constant) for constant in constants)
    graph += _bytes(11, _value("spectrogram", [1, "frames", bands])) + b"".join(
        _bytes(12, output) for output in outputs
    )
    return _number(1, 7) + _bytes(7, graph) + _bytes(8, _number(2, 11))
