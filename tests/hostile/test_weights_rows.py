"""Rows W01-W08 of the hostile-input table: whatever lies in WEIGHTS_DIR, nothing of it is run and
nothing wrong is loaded."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from support.tiny_weights import WeightsFolder, compact, rrdb

from gpu_worker_client.protocol import ErrorCode, TaskError, parse_task
from gpu_worker_processors.models.sr.loader import load
from gpu_worker_processors.models.tensors import MAX_HEADER_BYTES, header_problem, load_state_dict

CPU = torch.device("cpu")


class Exploit:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._marker}",)


def rejected(folder: WeightsFolder, name: str = "net") -> TaskError:
    with pytest.raises(TaskError) as caught:
        load(name, store=folder.store(), device=CPU)
    assert caught.value.code is ErrorCode.weights_rejected
    assert caught.value.code.retryable is False
    return caught.value


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("pinned", [True, False], ids=["pinned digest", "no digest"])
def test_w01_a_pickle_that_runs_a_command_runs_nothing(
    tmp_path: Path, suffix: str, pinned: bool
) -> None:
    marker = tmp_path / "ran"
    folder = WeightsFolder(tmp_path / "w")
    path = folder.folder / f"net{suffix}"
    torch.save({"params_ema": {"body.0.weight": Exploit(marker)}}, path)
    folder.pin("net", path, arch="srvgg_compact", **({} if pinned else {"sha256": ""}))
    error = rejected(folder)
    assert error.details["reason"] == ("not_tensors" if pinned else "no_digest")
    assert not marker.exists()


def test_w01_a_bare_pickle_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    folder = WeightsFolder(tmp_path / "w")
    folder.put_bytes("net", "net.pth", pickle.dumps(Exploit(marker), protocol=2))
    assert rejected(folder).details["reason"] == "not_tensors"
    assert not marker.exists()


def test_w01_the_exploit_of_these_tests_does_work(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Exploit(marker)))
    assert marker.exists()


def test_w02_wrong_digest_truncated_and_one_byte_changed(tmp_path: Path) -> None:
    good = save(compact())
    flipped = bytearray(good)
    flipped[-5] ^= 0x10
    for number, (content, reason) in enumerate(
        [(bytes(flipped), "digest_mismatch"), (good[:-64], "size_mismatch")]
    ):
        folder = WeightsFolder(tmp_path / str(number))
        path = folder.put_bytes("net", "net.safetensors", good)
        path.write_bytes(content)
        assert rejected(folder).details["reason"] == reason


def _file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def _tensor(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BAD_HEADERS = {
    "header length 2^40": _file({}, length=2**40),
    "header just over the cap": _file(b" " * (MAX_HEADER_BYTES + 1)),
    "header longer than the file": _file({}, length=100),
    "overlapping tensors": _file({"a": _tensor([2], 0, 8), "b": _tensor([2], 4, 12)}, b"\0" * 12),
    "the same bytes twice": _file({"a": _tensor([2], 0, 8), "b": _tensor([2], 0, 8)}, b"\0" * 8),
    "a gap": _file({"a": _tensor([1], 4, 8)}, b"\0" * 8),
    "bytes after the last tensor": _file({"a": _tensor([1], 0, 4)}, b"\0" * 8),
    "shorter than it says": _file({"a": _tensor([2], 0, 8)}, b"\0" * 4),
    "shape product overflows 64 bits": _file({"a": _tensor([2**32, 2**32], 0, 8)}, b"\0" * 8),
    "huge shape": _file({"a": _tensor([2**62], 0, 8)}, b"\0" * 8),
    "negative shape": _file({"a": _tensor([-1, -2], 0, 8)}, b"\0" * 8),
    "offset is no number": _file(
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}, b"\0" * 4
    ),
    "unknown dtype": _file({"a": _tensor([1], 0, 4, "Q99")}, b"\0" * 4),
    "deep nesting": _file(b"[" * 200_000),
    "no JSON": _file(b"{" * 8),
    "empty file": b"",
}


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_w03_a_lying_header_allocates_nothing(tmp_path: Path, content: bytes) -> None:
    folder = WeightsFolder(tmp_path)
    path = folder.put_bytes("net", "net.safetensors", content)
    assert rejected(folder).details["reason"] == "bad_header"
    assert header_problem(path) is not None, "found out before the library sees the file"


@pytest.mark.parametrize(
    "file", ["net.engine", "net.plan", "net.pt2", "net.trt", "net.so", "net.ckpt"]
)
def test_w04_files_that_run_code_when_opened_have_no_place(tmp_path: Path, file: str) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put_bytes("net", file, b"anything")
    with pytest.raises(TaskError) as caught:
        folder.store()
    assert caught.value.code is ErrorCode.weights_rejected


def test_w04_onnx_that_reads_other_files(tmp_path: Path) -> None:
    entry = (
        b"\x0a\x08location" + b"\x12\x10../../etc/passwd"
    )  # StringStringEntryProto(key, value), onnx.proto
    tensor = b"\x6a" + bytes([len(entry)]) + entry  # TensorProto.external_data, field 13
    folder = WeightsFolder(tmp_path)
    folder.put_bytes("net", "net.onnx", b"\x08\x07" + tensor, arch="yunet")
    with pytest.raises(TaskError) as caught:
        folder.store().resolve("net")
    assert caught.value.details["reason"] == "external_data"
    with pytest.raises(TaskError):
        load("net", store=folder.store(), device=CPU)


@pytest.mark.parametrize(
    "model", ["../weights/x", "/etc/passwd", "RealESRGAN_x4plus/../x", "net.pth", ""]
)
def test_w05_a_task_names_models_from_a_fixed_list(model: str) -> None:
    task = {
        "task": "upscale",
        "input_url": "https://x.example/a",
        "output_url": "https://x.example/b",
        "params": {"model": model},
    }
    with pytest.raises(TaskError) as caught:
        parse_task(task)
    assert caught.value.code is ErrorCode.invalid_task


def test_w05_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path / "w")
    path = folder.put("net", compact(), arch="srvgg_compact")
    path.rename(tmp_path / "elsewhere.pth")
    path.symlink_to(tmp_path / "elsewhere.pth")
    assert rejected(folder).details["reason"] == "not_a_file"
    path.unlink()
    path.mkdir()
    assert rejected(folder).details["reason"] == "not_a_file"


def test_w06_right_file_wrong_architecture(tmp_path: Path) -> None:
    small = compact()
    small.pop("body.3.weight")
    wrong: dict[str, tuple[Any, dict[str, Any]]] = {
        "compact as rrdb": (compact(), {"arch": "rrdbnet"}),
        "rrdb as compact": (rrdb(1), {"arch": "srvgg_compact"}),
        "a layer is missing": (small, {"arch": "srvgg_compact"}),
        "another scale": (compact(scale=2), {"arch": "srvgg_compact"}),
        "unknown arch": (compact(), {"arch": "hat"}),
        "no dict of tensors": ([1, 2, 3], {"arch": "srvgg_compact", "wrap": ""}),
        "empty": ({}, {"arch": "srvgg_compact"}),
    }
    for number, (case, (state, fields)) in enumerate(wrong.items()):
        folder = WeightsFolder(tmp_path / str(number))
        folder.put("net", state, **fields)
        assert rejected(folder).details["reason"] == "state_dict_mismatch", case


def test_w08_weights_with_nan_or_infinity_give_an_error_not_a_black_picture(tmp_path: Path) -> None:
    for number, value in enumerate((float("nan"), float("inf"))):
        state = compact()
        state["body.0.weight"][0, 0, 0, 0] = value
        folder = WeightsFolder(tmp_path / str(number))
        folder.put("net", state, arch="srvgg_compact")
        resolver = load("net", store=folder.store(), device=CPU)
        with pytest.raises(TaskError) as caught:
            resolver(torch.rand(1, 3, 16, 16))
        assert caught.value.code is ErrorCode.nan_output


def test_the_same_folder_loads_what_is_right(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put("a", compact(), arch="srvgg_compact", suffix=".safetensors")
    folder.put("b", rrdb(1), arch="rrdbnet")
    for name in ("a", "b"):
        assert load_state_dict(folder.store().resolve(name))
        assert load(name, store=folder.store(), device=CPU)(torch.rand(1, 3, 16, 16)).shape == (
            1,
            3,
            64,
            64,
        )
