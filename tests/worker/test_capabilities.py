"""What the machine has, held against what other means say: FFmpeg's own command line, the file
system, the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from gpu_worker import capabilities
from gpu_worker.settings import Settings
from gpu_worker_processors.base import ProcessorSettings
from gpu_worker_processors.sandbox import landlock
from gpu_worker_processors.sandbox.paths import has_gpu


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[capabilities.Capabilities]:
    root = tmp_path_factory.mktemp("root")
    yield capabilities.probe(Settings(work_root=root))
    assert list(root.iterdir()) == [], "a probe left something behind"


def test_encoders_are_what_a_foreign_ffmpeg_can_do_too(found: capabilities.Capabilities) -> None:
    """The hardware encoders must agree with the ffmpeg binary, which brings its own build and asks
    the same driver."""
    working = {name for name, problem in found.encoders.items() if problem is None}
    assert {"libx264", "libx265", "libsvtav1", "prores_ks"} <= working
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "color=gray:s=256x256:d=0.1:r=10",
    ]
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        tried = subprocess.run(
            [*command, "-frames:v", "1", "-c:v", name, "-f", "null", "-"],
            capture_output=True,
            check=False,
        )
        assert (name in working) == (tried.returncode == 0), found.encoders[name]


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_a_machine_without_gpu_says_why(found: capabilities.Capabilities) -> None:
    assert found.gpu.gpus == ()
    assert "/dev/nvidia" in str(found.gpu.problem)
    assert "libcuda" in str(found.encoders["h264_nvenc"])


@pytest.mark.gpu
def test_a_gpu_computes_inside_the_sandbox(found: capabilities.Capabilities) -> None:
    import torch

    assert [gpu.name for gpu in found.gpu.gpus] == [
        torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
    ]
    assert all(gpu.computes for gpu in found.gpu.gpus)
    assert found.gpu.driver


@pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
def test_the_sandbox_was_really_closed(found: capabilities.Capabilities) -> None:
    assert found.sandbox["level"] == "full"
    assert found.sandbox["landlock_abi"] == landlock.abi()


def test_room_is_what_the_system_says(found: capabilities.Capabilities) -> None:
    sizes = {disk.path: disk.total_bytes for disk in found.disks}
    assert sizes["/"] == shutil.disk_usage("/").total
    assert len(sizes) == 2
    assert (
        0 < found.memory_available_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


def test_everything_is_plain_json(found: capabilities.Capabilities) -> None:
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == json.loads(
        json.dumps(found.to_dict())
    )


def test_weights_are_the_files_that_are_there(weights_dir: Path) -> None:
    there, problem = capabilities.weights(ProcessorSettings(weights_dir))
    assert problem is None
    assert (
        there["realesr-animevideov3"] == (weights_dir / "realesr-animevideov3.safetensors").exists()
    )
    assert not capabilities.weights(ProcessorSettings())[0]["realesr-animevideov3"]


def test_a_broken_manifest_is_said_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "manifest.local.toml").write_text("[[weights]]\nname = 7\n")
    there, problem = capabilities.weights(ProcessorSettings(tmp_path))
    assert there == {}
    assert "manifest" in str(problem)


def test_an_encoder_that_crashes_its_process_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver's crash is played by a real one: the first probe process gets SIGSEGV from its own
    interpreter."""
    crashing = tmp_path / "sitecustomize.py"
    crashing.write_text(
        "import os, sys\nif 'h264_nvenc' in sys.orig_argv:\n    import ctypes;"
        " ctypes.string_at(0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = capabilities.encoders("off", tmp_path / "work", ("h264_nvenc", "libx264"))
    assert found == {"h264_nvenc": "its probe crashed (signal 11)", "libx264": None}


def test_an_unusable_work_root_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    level = capabilities.sandbox("best_effort", tmp_path / "file" / "root")
    assert level["level"] == "none"
    assert "work directory" in level["reasons"][0]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC"
            " 2024\nGCC version:  12.2.0",
            "535.183.01",
            id="proprietary",
        ),
        pytest.param(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build "
            " (root@host)\n",
            "570.86.15",
            id="open",
        ),
        pytest.param("something else\n", None, id="unknown"),
    ],
)
def test_the_drivers_version_is_read(
    text: str, version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text(text)
    monkeypatch.setattr(capabilities, "_DRIVER_VERSION", tmp_path / "version")
    assert capabilities.driver_version() == version
