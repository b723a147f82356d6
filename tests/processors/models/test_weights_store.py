"""The manifest and the store: what is accepted as an entry, what is proven of a file before it is
opened."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from support.paths import ROOT
from support.tiny_weights import WeightsFolder, compact

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.upscale import SrModel
from gpu_worker_processors.models.manifest import read_manifests
from gpu_worker_processors.models.weights import (
    FACE_DETECTOR,
    FACE_RESTORER,
    SHIPPED,
    WeightStore,
    network_for,
    upscale_weights,
)


def test_every_model_of_the_wire_has_official_weights() -> None:
    specs = read_manifests([ROOT / "weights" / "manifest.toml"])
    for model in get_args(SrModel):
        for name in upscale_weights(network_for(model, 2), 0.5, face_enhance=True) + (
            network_for(model, 4),
        ):
            assert specs[name].url.startswith("https://") or name in SHIPPED
            assert re.fullmatch("[0-9a-f]{64}", specs[name].sha256), (
                f"{name} has no confirmed digest"
            )


def test_the_installed_manifest_is_the_one_in_weights() -> None:
    text = (ROOT / "weights" / "manifest.toml").read_text(encoding="utf-8")
    assert [spec.name for spec in WeightStore(None).list()] == re.findall(
        '^name = "(.+)"$', text, re.MULTILINE
    )


def test_there_may_be_another_manifest(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[weights]]\nname = "mine"\nfile = "mine.pth"\n', encoding="utf-8"
    )
    store = WeightStore(None, tmp_path / "own.toml")
    assert [spec.name for spec in store.list()] == ["mine"]


@pytest.mark.parametrize(
    ("model", "strength", "faces", "expected"),
    [
        ("RealESRGAN_x4plus", None, False, ("RealESRGAN_x4plus",)),
        ("RealESRGAN_x4plus", 0.5, False, ("RealESRGAN_x4plus",)),
        ("realesr-general-x4v3", None, False, ("realesr-general-x4v3",)),
        ("realesr-general-x4v3", 1.0, False, ("realesr-general-x4v3",)),
        ("realesr-general-x4v3", 0.0, False, ("realesr-general-x4v3", "realesr-general-wdn-x4v3")),
        ("ESRGAN_4x", None, True, ("ESRGAN_4x", FACE_RESTORER, FACE_DETECTOR)),
    ],
)
def test_weights_an_upscale_needs(
    model: str, strength: float | None, faces: bool, expected: tuple[str, ...]
) -> None:
    assert upscale_weights(model, strength, faces) == expected


def test_a_local_entry_overrides_fields_and_drops_the_url_of_another_file(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put("realesr-animevideov3", compact(), arch="srvgg_compact", suffix=".safetensors")
    spec = folder.store().spec("realesr-animevideov3")
    assert (spec.file, spec.url, spec.min_vram) == ("realesr-animevideov3.safetensors", "", 1000)
    assert (
        folder.store().resolve("realesr-animevideov3").path
        == tmp_path / "realesr-animevideov3.safetensors"
    )


BAD_ENTRIES = {
    "parent folder": 'name = "a"\nfile = "../a.pth"',
    "absolute path": 'name = "a"\nfile = "/etc/a.pth"',
    "sub folder": 'name = "a"\nfile = "b/a.pth"',
    "hidden file": 'name = "a"\nfile = ".a.pth"',
    "null byte": 'name = "a"\nfile = "a\\u0000.pth"',
    "name with a slash": 'name = "../a"\nfile = "a.pth"',
    "TensorRT engine": 'name = "a"\nfile = "a.engine"',
    "TensorRT plan": 'name = "a"\nfile = "a.plan"',
    "exported program": 'name = "a"\nfile = "a.pt2"',
    "checkpoint": 'name = "a"\nfile = "a.ckpt"',
    "pickle": 'name = "a"\nfile = "a.pkl"',
    "upper-case digest": f'name = "a"\nfile = "a.pth"\nsha256 = "{"A" * 64}"',
    "short digest": 'name = "a"\nfile = "a.pth"\nsha256 = "abc"',
    "negative size": 'name = "a"\nfile = "a.pth"\nbytes = -1',
    "text as number": 'name = "a"\nfile = "a.pth"\nbytes = "5"',
    "truth as number": 'name = "a"\nfile = "a.pth"\nbytes = true',
    "unknown key": 'name = "a"\nfile = "a.pth"\nsha512 = "x"',
    "no file": 'name = "a"',
    "no name": 'file = "a.pth"',
    "no TOML": "name = ",
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_bad_entry_is_refused_with_its_place(tmp_path: Path, entry: str) -> None:
    (tmp_path / "manifest.local.toml").write_text(f"[[weights]]\n{entry}\n", encoding="utf-8")
    with pytest.raises(TaskError, match=r"manifest\.local\.toml") as caught:
        WeightStore(tmp_path)
    assert caught.value.code is ErrorCode.weights_rejected


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="gpu-worker weights pull RealESRGAN_x4plus") as caught:
        WeightStore(tmp_path).resolve("RealESRGAN_x4plus")
    assert caught.value.code is ErrorCode.weights_missing
    with pytest.raises(
        TaskError, match="WEIGHTS_DIR is not set.*gpu-worker weights pull RealESRGAN_x4plus"
    ):
        WeightStore(None).resolve("RealESRGAN_x4plus")
    with pytest.raises(TaskError, match="WEIGHTS_DIR is .*/none, which is no folder"):
        WeightStore(tmp_path / "none").resolve("RealESRGAN_x4plus")


@pytest.mark.parametrize(
    ("weights", "instead"), [("RealESRGAN_x4plus", "lite"), ("yolov8n", "hog")]
)
def test_missing_weights_name_what_works_without(
    tmp_path: Path, weights: str, instead: str
) -> None:
    with pytest.raises(TaskError, match=f'or set params.model to "{instead}"'):
        WeightStore(tmp_path).resolve(weights)


def test_without_the_worker_missing_weights_name_a_command_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gpu_worker", None)
    url = WeightStore(tmp_path).spec("RealESRGAN_x4plus").url
    for folder in (tmp_path, None):
        with pytest.raises(TaskError) as caught:
            WeightStore(folder).resolve("RealESRGAN_x4plus")
        assert f"`curl -fL -o RealESRGAN_x4plus.pth {url}`" in caught.value.message
        assert "gpu-worker" not in caught.value.message


def test_missing_weights_that_nobody_serves_name_no_command(tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        with pytest.raises(TaskError) as caught:
            WeightStore(folder).resolve("beat_this_small")
        assert "put beat_this_small.onnx there yourself" in caught.value.message
        assert "SHA-256 in manifest.local.toml" in caught.value.message
        assert "checkpoint small0 of https://github.com/CPJKU/beat_this" in caught.value.message
        assert "`" not in caught.value.message


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="ESRGAN_4x") as caught:
        WeightStore(tmp_path).resolve("../../etc/passwd")
    assert caught.value.code is ErrorCode.weights_missing
    assert "etc" not in caught.value.message


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path)
    path = folder.put("net", compact(), arch="srvgg_compact")
    store = folder.store()
    store.resolve("net")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    replaced = tmp_path / "new"
    replaced.write_bytes(content)
    replaced.rename(path)
    with pytest.raises(TaskError) as caught:
        store.resolve("net")
    assert caught.value.details["reason"] == "digest_mismatch"


def test_the_light_modules_import_no_torch() -> None:
    code = (
        "import sys, gpu_worker_processors.models.weights; sys.exit('torch' in sys.modules or"
        " 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "number",
    ["9" * 5000, "1" + "0" * 18, "-1", "true", "1e3", "0x10", "9999-12-31T23:59:59-23:59"],
    ids=["5000 digits", "19 digits", "negative", "truth", "fraction", "hexadecimal", "date"],
)
@pytest.mark.parametrize("field", ["bytes", "scale", "min_vram"])
def test_a_number_of_a_manifest_that_is_no_count_is_refused(
    field: str, number: str, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(f'[[weights]]\nname = "a"\nfile = "a.onnx"\n{field} = {number}\n')
    if number == "0x10":  # TOML has it
        assert getattr(read_manifests([path])["a"], field) == 16
        return
    with pytest.raises(TaskError) as caught:
        read_manifests([path])
    assert caught.value.code is ErrorCode.weights_rejected


def test_a_manifest_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text("weights = " + "[" * 100_000)
    with pytest.raises(TaskError) as caught:
        read_manifests([path])
    assert caught.value.code is ErrorCode.weights_rejected
