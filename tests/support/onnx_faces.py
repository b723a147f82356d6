"""An ONNX file with YuNet's inputs and outputs whose "faces" are green squares: runs the real
`FaceDetectorYN` without weights.

Written byte by byte from the published messages of onnx.proto (github.com/onnx/onnx), as no
dependency writes ONNX. A pure green cell of stride 16 is a face four cells wide; its landmarks lie
at `LANDMARKS` (in cells) from the cell's corner.
"""

from __future__ import annotations

import math
import struct

STRIDE = 16
FACE_CELLS = 4.0
LANDMARKS = ((-0.5, -0.25), (1.5, -0.25), (0.5, 0.5), (-0.25, 1.25), (1.25, 1.25))

_FLOAT, _INT64 = 1, 7  # TensorProto.DataType
_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _tensor(name: str, dims: list[int], values: list[float] | list[int]) -> bytes:
    whole = all(isinstance(value, int) for value in values)
    raw = struct.pack(f"<{len(values)}{'q' if whole else 'f'}", *values)
    kind = _number(2, _INT64 if whole else _FLOAT)
    return b"".join(_number(1, dim) for dim in dims) + kind + _bytes(8, name) + _bytes(9, raw)


def _ints(name: str, values: list[int]) -> bytes:
    return _bytes(1, name) + b"".join(_number(8, value) for value in values) + _number(20, _INTS)


def _node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    names = b"".join(_bytes(1, name) for name in inputs)
    return (
        names
        + _bytes(2, output)
        + _bytes(3, output)
        + _bytes(4, kind)
        + b"".join(_bytes(5, a) for a in attributes)
    )


def _value(name: str, dims: list[int]) -> bytes:
    shape = b"".join(_bytes(1, _number(1, dim)) for dim in dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, shape)))


def face_detector(edge: int = 640) -> bytes:
    """The file's content."""
    nodes: list[bytes] = []
    constants: list[bytes] = []
    outputs: list[bytes] = []
    for stride in (8, 16, 32):
        cells = (edge // stride) ** 2
        green = [0.0] * (3 * stride * stride)
        if stride == STRIDE:  # blue, green, red planes: only green against the other two is a face
            share = 0.1 / stride**2
            plane = stride * stride
            green = [-share] * plane + [share] * plane + [-share] * plane
        size = math.log(FACE_CELLS)
        heads = {
            "cls": (green, [-12.0]),
            "obj": (green, [-12.0]),
            "bbox": ([0.0] * (4 * 3 * stride**2), [0.5, 0.5, size, size]),
            "kps": ([0.0] * (10 * 3 * stride**2), [float(v) for point in LANDMARKS for v in point]),
        }
        for head, (weights, bias) in heads.items():
            name, count = f"{head}_{stride}", len(bias)
            constants += [
                _tensor(f"{name}_w", [count, 3, stride, stride], weights),
                _tensor(f"{name}_b", [count], bias),
            ]
            constants.append(_tensor(f"{name}_shape", [3], [1, -1, count]))
            window = (_ints("kernel_shape", [stride, stride]), _ints("strides", [stride, stride]))
            nodes.append(
                _node("Conv", ["input", f"{name}_w", f"{name}_b"], f"{name}_conv", *window)
            )
            last = f"{name}_conv"
            if head in ("cls", "obj"):
                nodes.append(_node("Sigmoid", [last], f"{name}_sigmoid"))
                last = f"{name}_sigmoid"
            nodes.append(_node("Transpose", [last], f"{name}_nhwc", _ints("perm", [0, 2, 3, 1])))
            nodes.append(_node("Reshape", [f"{name}_nhwc", f"{name}_shape"], name))
            outputs.append(_value(name, [1, cells, count]))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "green")
    graph += b"".join(_bytes(5, constant) for constant in constants)
    graph += _bytes(11, _value("input", [1, 3, edge, edge])) + b"".join(
        _bytes(12, output) for output in outputs
    )
    return _number(1, 7) + _bytes(7, graph) + _bytes(8, _number(2, 11))
