"""`gpu-worker doctor`: the real command on this machine, and each verdict for states that this
machine is not in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpu_worker import doctor
from gpu_worker.capabilities import Capabilities, Disk, Gpu, GpuState
from gpu_worker.settings import Settings
from gpu_worker_processors.models.weights import WeightStore

L4 = Gpu(
    index=0, name="NVIDIA L4", memory_bytes=24 * 2**30, compute_capability="8.9", computes=True
)
HEALTHY = Capabilities(
    gpu=GpuState(gpus=(L4,), driver="570.86.15", built_for_cuda="12.8"),
    encoders={"h264_nvenc": None, "libx264": None},
    weights={"RealESRGAN_x4plus": True},
    weights_problem=None,
    disks=(Disk("/", 50, 100, True),),
    memory_available_bytes=16 * 10**9,
    sandbox={"level": "full", "landlock_abi": 5, "reasons": [], "canaries": {"network": True}},
)
CPU_ONLY = GpuState(problem="no GPU device")


def command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GPU_WORKER_") and name != "WEIGHTS_DIR"
    }
    return subprocess.run(
        [sys.executable, "-m", "gpu_worker.cli", "doctor", *words],
        env=clean | {"GPU_WORKER_WORK_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_command_answers_in_json(tmp_path: Path) -> None:
    done = command(tmp_path, "--json")
    answer = json.loads(done.stdout)
    failed = [check["name"] for check in answer["checks"] if check["status"] == "fail"]
    assert answer["ok"] == (not failed)
    assert done.returncode == (1 if failed else 0)
    names = {check["name"] for check in answer["checks"]}
    assert names >= {
        "gpu",
        "cuda",
        "encoders",
        "weights",
        "disk",
        "memory",
        "clock",
        "sandbox",
        "ffmpeg",
        "packages",
        "settings",
    }
    assert answer["capabilities"]["encoders"]["libx264"] is None


def test_a_wrong_setting_is_named_without_its_value() -> None:
    verdict, settings = doctor.check_settings({"GPU_WORKER_SANDBOX": "s3cret-value"})
    assert verdict.status == "fail"
    assert "GPU_WORKER_SANDBOX must be one of" in verdict.detail
    assert "s3cret-value" not in verdict.detail
    assert settings == Settings()


@pytest.mark.parametrize(
    ("env", "says"),
    [
        pytest.param({"WEIGHTS_DIR": "/not/there"}, "WEIGHTS_DIR", id="weights folder missing"),
        pytest.param({"GPU_WORKER_ALLOW_LOCAL_FILES": "1"}, "leave it off", id="local files"),
        pytest.param(
            {"GPU_WORKER_EXEMPT_HOSTS": "127.0.0.1:18000"}, "development", id="exempt hosts"
        ),
    ],
)
def test_risky_settings_are_a_warning(env: dict[str, str], says: str) -> None:
    verdict, _ = doctor.check_settings(env)
    assert verdict.status == "warn"
    assert says in verdict.detail


def test_the_table_has_a_line_for_each_check() -> None:
    text = doctor.table(
        [doctor.Check("gpu", "ok", "an L4"), doctor.Check("settings", "fail", "unknown variable")]
    )
    assert text == "ok    gpu       an L4\nfail  settings  unknown variable\n"


@pytest.mark.parametrize(
    ("check", "found", "settings", "status", "says"),
    [
        pytest.param("gpu", {}, {}, "ok", "24 GiB", id="an L4"),
        pytest.param("gpu", {"gpu": CPU_ONLY}, {}, "warn", "CPU", id="no GPU"),
        pytest.param(
            "gpu",
            {"gpu": CPU_ONLY},
            {"device": "cuda:0"},
            "fail",
            "GPU_WORKER_DEVICE",
            id="no GPU but asked for",
        ),
        pytest.param(
            "gpu",
            {"gpu": GpuState(driver="535.1", problem="too old")},
            {},
            "fail",
            "too old",
            id="unusable driver",
        ),
        pytest.param(
            "gpu",
            {"gpu": GpuState(gpus=(replace(L4, computes=False),))},
            {},
            "fail",
            "wrong results",
            id="sick GPU",
        ),
        pytest.param("cuda", {}, {}, "ok", "12.8", id="driver fits"),
        pytest.param(
            "cuda",
            {"gpu": replace(HEALTHY.gpu, driver="470.2")},
            {},
            "fail",
            "525",
            id="driver for CUDA 11",
        ),
        pytest.param(
            "cuda",
            {"gpu": replace(HEALTHY.gpu, built_for_cuda="13.0")},
            {},
            "fail",
            "580",
            id="CUDA 13 on driver 570",
        ),
        pytest.param("encoders", {}, {}, "ok", "h264_nvenc", id="NVENC"),
        pytest.param(
            "encoders",
            {"encoders": {"h264_nvenc": "unsupported device", "libx264": None}},
            {},
            "warn",
            "H200",
            id="no NVENC",
        ),
        pytest.param(
            "encoders",
            {"encoders": {"h264_nvenc": "x", "libx264": "y"}},
            {},
            "fail",
            "libx264: y",
            id="no H.264",
        ),
        pytest.param("weights", {}, {}, "warn", "WEIGHTS_DIR", id="no folder"),
        pytest.param(
            "weights", {}, {"weights_dir": Path("/")}, "ok", "RealESRGAN_x4plus", id="weights"
        ),
        pytest.param(
            "weights",
            {
                "weights": {s.name: bool(s.url) for s in WeightStore(None).list()}
                | {"yolov8m": False}
            },
            {"weights_dir": Path("/")},
            "ok",
            "; 1 more can be had",
            id="only what has an address",
        ),
        pytest.param(
            "weights",
            {"weights": {"a": False, "lite": True}},
            {"weights_dir": Path("/")},
            "warn",
            "pull",
            id="empty folder",
        ),
        pytest.param(
            "weights",
            {"weights_problem": "manifest.toml is not TOML"},
            {},
            "fail",
            "TOML",
            id="broken manifest",
        ),
        pytest.param(
            "weights",
            {},
            {"weights_dir": Path("/no/such/folder")},
            "fail",
            "WEIGHTS_DIR is /no/such/folder, which is no folder",
            id="a folder that is not there",
        ),
        pytest.param("disk", {}, {}, "ok", "50 %", id="room"),
        pytest.param(
            "disk",
            {"disks": (Disk("/", 50, 100, True), Disk("/w", 9, 100, True))},
            {},
            "fail",
            "10 %",
            id="disk nearly full",
        ),
        pytest.param(
            "disk",
            {"disks": (Disk("/", 50, 100, False),)},
            {"work_root": Path("/read/only")},
            "fail",
            "/read/only is not writable; set GPU_WORKER_WORK_ROOT",
            id="read-only root",
        ),
        pytest.param(
            "memory", {"memory_available_bytes": 3 * 10**9}, {}, "fail", "4 GB", id="little memory"
        ),
        pytest.param("sandbox", {}, {}, "ok", "ABI 5", id="full sandbox"),
        pytest.param(
            "sandbox",
            {"sandbox": {"level": "off"}},
            {"sandbox": "off"},
            "warn",
            "best_effort",
            id="no sandbox wanted",
        ),
        pytest.param(
            "sandbox",
            {"sandbox": {"level": "none", "reasons": ["Landlock: none"]}},
            {},
            "warn",
            "5.13",
            id="no sandbox",
        ),
        pytest.param(
            "sandbox",
            {"sandbox": {"level": "none", "reasons": ["Landlock: none"]}},
            {"sandbox": "require"},
            "fail",
            "Landlock: none",
            id="no sandbox but required",
        ),
        pytest.param(
            "sandbox",
            {"sandbox": {"level": "broken", "canaries": {"network": False, "read_outside": True}}},
            {},
            "fail",
            "got through: network",
            id="sandbox with a hole",
        ),
    ],
)
def test_verdicts(
    check: str, found: dict[str, Any], settings: dict[str, Any], status: str, says: str
) -> None:
    state, chosen = replace(HEALTHY, **found), Settings(**settings)
    verdict = {
        "gpu": lambda: doctor.check_gpu(state, chosen),
        "cuda": lambda: doctor.check_driver(state),
        "encoders": lambda: doctor.check_encoders(state),
        "weights": lambda: doctor.check_weights(state, chosen),
        "disk": lambda: doctor.check_disk(state, chosen),
        "memory": lambda: doctor.check_memory(state),
        "sandbox": lambda: doctor.check_sandbox(state, chosen),
    }[check]()
    assert (verdict.name, verdict.status) == (check, status)
    assert says in verdict.detail


def test_a_missing_package_is_named() -> None:
    verdict = doctor.check_packages(("pydantic", "no-such-package"))
    assert verdict.status == "fail"
    assert "no-such-package" in verdict.detail


@contextmanager
def server_with_clock(offset_seconds: float, status: int) -> Iterator[str]:
    """A loopback server whose clock is wrong by so much; its URL carries a signature."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(status)
            self.send_header("Date", formatdate(time.time() + offset_seconds, usegmt=True))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/bucket?X-Amz-Signature=c4nary"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("offset_seconds", "http_status", "status"),
    [
        pytest.param(0, 200, "ok", id="right"),
        pytest.param(0, 403, "ok", id="right, from an error page"),
        pytest.param(300, 200, "warn", id="five minutes behind"),
        pytest.param(-3600, 400, "fail", id="an hour ahead"),
    ],
)
def test_the_clock_is_compared_with_the_named_server(
    offset_seconds: float, http_status: int, status: str
) -> None:
    with server_with_clock(offset_seconds, http_status) as url:
        verdict = doctor.check_clock({"GPU_WORKER_DOCTOR_URL": url})
    assert verdict.status == status
    assert "c4nary" not in verdict.detail
    if offset_seconds:
        assert ("behind" if offset_seconds > 0 else "ahead") in verdict.detail


def test_an_unreachable_clock_server_is_no_failure() -> None:
    with server_with_clock(0, 200) as url:
        pass
    assert doctor.check_clock({"GPU_WORKER_DOCTOR_URL": url}).status == "warn"
    assert doctor.check_clock({"GPU_WORKER_DOCTOR_URL": "file:///etc/passwd"}).status == "warn"
    assert doctor.check_clock({}).status == "ok"
