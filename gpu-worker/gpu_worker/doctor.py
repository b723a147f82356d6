"""`gpu-worker doctor`: checks everything a job needs here and says, for what is not right, what
to do about it.

Each check is `ok`, `warn` (something is slower or missing that not every job needs) or `fail` (jobs
will break). The exit status is 1 when one fails. Works without a GPU, without weights and without
network; shows no secret.
"""

from __future__ import annotations

import argparse
import email.utils
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from gpu_worker.capabilities import Capabilities, probe
from gpu_worker.settings import ConfigError, Settings
from gpu_worker_processors.models.weights import SHIPPED, WeightStore
from gpu_worker_processors.render.hardware import STAND_INS, unavailable
from gpu_worker_processors.render.processor import ffmpeg_program
from gpu_worker_processors.sandbox import program

PACKAGES = (
    "torch",
    "av",
    "numpy",
    "opencv-python-headless",
    "spandrel",
    "scenedetect-headless",
    "runpod",
    "pydantic",
)
"""What the worker cannot do without."""

MIN_FREE_DISK_PERCENT = 10.0
MIN_MEMORY_BYTES = 4 * 10**9
"""RunPod's SDK ends a worker at start below these: rp_system_fitness.py in runpod-python 1.12."""

MIN_DRIVERS = {"12": 525, "13": 580}
"""CUDA that torch was built for -> oldest Linux driver. CUDA Toolkit release notes, table "Minimum
Required Driver"."""

CLOCK_WARN_SECONDS = 60.0
CLOCK_FAIL_SECONDS = 900.0
"""S3 refuses a signature more than 15 minutes off (RequestTimeTooSkewed)."""
CLOCK_TIMEOUT_SECONDS = 5.0

H264_ENCODERS = ("h264_nvenc", "libx264")


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    """What was found and, unless it is ok, what to do."""


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    parser = subparsers.add_parser(
        "doctor", help="check this machine: GPU, encoders, weights, disk, sandbox"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )


def run(args: argparse.Namespace) -> int:
    checks, found = examine(os.environ)
    broken = any(check.status == "fail" for check in checks)
    if args.json:
        answer = {
            "ok": not broken,
            "checks": [asdict(check) for check in checks],
            "capabilities": found.to_dict(),
        }
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    else:
        sys.stdout.write(table(checks))
    return 1 if broken else 0


def table(checks: list[Check]) -> str:
    """A line per check, marks and names aligned."""
    width = max(len(check.name) for check in checks)
    return "".join(
        f"{check.status:<4}  {check.name:<{width}}  {check.detail}\n" for check in checks
    )


def examine(env: Mapping[str, str]) -> tuple[list[Check], Capabilities]:
    """All checks, in the order of the table, and what they were made from."""
    settings_check, settings = check_settings(env)
    found = probe(settings)
    checks = [
        check_python(),
        check_packages(),
        settings_check,
        check_gpu(found, settings),
        check_driver(found),
        check_encoders(found),
        check_weights(found, settings),
        check_disk(found, settings),
        check_memory(found),
        check_sandbox(found, settings),
        check_ffmpeg(),
        check_render(settings),
        check_clock(env),
    ]
    return checks, found


def check_python() -> Check:
    version = sys.version_info
    name = f"{version.major}.{version.minor}.{version.micro}"
    if not (3, 10) <= version[:2] <= (3, 12):
        return Check("python", "warn", f"{name} is untested; use Python 3.10, 3.11 or 3.12")
    return Check("python", "ok", name)


def check_packages(names: tuple[str, ...] = PACKAGES) -> Check:
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            return Check(
                "packages", "fail", f"{name} is not installed; install requirements/worker.txt"
            )
    return Check(
        "packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def check_settings(env: Mapping[str, str]) -> tuple[Check, Settings]:
    """The settings of this environment, or the defaults and what is wrong with it."""
    try:
        settings = Settings.from_env(env)
    except ConfigError as error:
        return Check("settings", "fail", f"{error}; the checks below use the defaults"), Settings()
    problems: list[str] = []
    if settings.weights_dir is not None and not settings.weights_dir.is_dir():
        problems.append("WEIGHTS_DIR names no folder; create it or correct the path")
    if settings.allow_local_files:
        problems.append(
            "GPU_WORKER_ALLOW_LOCAL_FILES is on: leave it off wherever tasks come from others"
        )
    if settings.exempt_hosts:
        problems.append(
            "GPU_WORKER_EXEMPT_HOSTS opens plain http and private addresses: for a development"
            " server only"
        )
    if problems:
        return Check("settings", "warn", "; ".join(problems)), settings
    return Check("settings", "ok", "every variable is known and parses"), settings


def check_gpu(found: Capabilities, settings: Settings) -> Check:
    gpu = found.gpu
    idle = [device.name for device in gpu.gpus if not device.computes]
    if idle:
        return Check("gpu", "fail", f"{idle[0]} gives wrong results; replace this worker")
    if gpu.gpus:
        facts = (
            f"{one.name}, {one.memory_bytes / 2**30:.0f} GiB, sm {one.compute_capability}"
            for one in gpu.gpus
        )
        return Check("gpu", "ok", "; ".join(facts))
    problem = gpu.problem or "torch sees no GPU"
    if settings.device.startswith("cuda"):
        return Check(
            "gpu",
            "fail",
            f"{problem}; start the container with a GPU, or set GPU_WORKER_DEVICE to auto",
        )
    if gpu.driver:
        return Check(
            "gpu", "fail", f"driver {gpu.driver} is here but no GPU can be used: {problem}"
        )
    return Check("gpu", "warn", f"{problem}: networks run on the CPU, correct and slow")


def check_driver(found: Capabilities) -> Check:
    gpu = found.gpu
    if gpu.driver is None:
        return Check(
            "cuda", "warn" if gpu.gpus else "ok", "no NVIDIA driver; not needed on the CPU"
        )
    needed = MIN_DRIVERS.get((gpu.built_for_cuda or "").split(".")[0], 0)
    if int(gpu.driver.split(".")[0]) < needed:
        advice = f"choose hosts with driver {needed} or newer"
        return Check(
            "cuda",
            "fail",
            f"driver {gpu.driver} is too old for torch's CUDA {gpu.built_for_cuda}; {advice}",
        )
    return Check("cuda", "ok", f"driver {gpu.driver}, torch built for CUDA {gpu.built_for_cuda}")


def check_encoders(found: Capabilities) -> Check:
    working = [name for name, problem in found.encoders.items() if problem is None]
    if not any(name in working for name in H264_ENCODERS):
        reasons = "; ".join(f"{name}: {found.encoders[name]}" for name in H264_ENCODERS)
        return Check(
            "encoders", "fail", f"no H.264 encoder works ({reasons}); reinstall PyAV from its wheel"
        )
    if found.gpu.gpus and not any(name.endswith("_nvenc") for name in working):
        reason = found.encoders["h264_nvenc"]
        return Check(
            "encoders",
            "warn",
            f"{', '.join(working)}; no NVENC ({reason}): A100, H100, H200 and B200 have none,"
            " elsewhere set NVIDIA_DRIVER_CAPABILITIES=compute,video,utility",
        )
    return Check("encoders", "ok", ", ".join(working))


def check_weights(found: Capabilities, settings: Settings) -> Check:
    if found.weights_problem:
        return Check("weights", "fail", found.weights_problem)
    if settings.weights_dir is None:
        return Check(
            "weights",
            "warn",
            f"WEIGHTS_DIR is not set, so networks other than {', '.join(SHIPPED)} answer"
            " weights_missing; set it to a folder, and `gpu-worker weights pull NAME` fills it",
        )
    if not settings.weights_dir.is_dir():
        return Check(
            "weights",
            "fail",
            f"WEIGHTS_DIR is {settings.weights_dir}, which is no folder; create it or correct the"
            " variable",
        )
    present = [name for name, there in found.weights.items() if there]
    if set(present) <= set(SHIPPED):
        return Check(
            "weights", "warn", "none in WEIGHTS_DIR; `gpu-worker weights pull NAME` gets them"
        )
    specs = WeightStore.of(settings.processors).list()
    missing = sum(bool(spec.url) and spec.name not in present for spec in specs)
    detail = ", ".join(present) + (
        f"; {missing} more can be had with `gpu-worker weights pull`" if missing else ""
    )
    return Check("weights", "ok", detail)


def check_disk(found: Capabilities, settings: Settings) -> Check:
    facts = ", ".join(
        f"{disk.path}: {disk.free_bytes / 1e9:.1f} GB ({disk.free_percent:.0f} %) free"
        for disk in found.disks
    )
    if found.disks and not found.disks[-1].is_writable:
        return Check(
            "disk",
            "fail",
            f"{settings.work_root} is not writable; set GPU_WORKER_WORK_ROOT to a folder that is",
        )
    if any(disk.free_percent < MIN_FREE_DISK_PERCENT for disk in found.disks):
        return Check(
            "disk",
            "fail",
            f"{facts}; free space or enlarge it: below 10 % RunPod's SDK ends the worker at start",
        )
    return Check("disk", "ok", facts)


def check_memory(found: Capabilities) -> Check:
    fact = f"{found.memory_available_bytes / 1e9:.1f} GB available"
    if found.memory_available_bytes < MIN_MEMORY_BYTES:
        return Check(
            "memory",
            "fail",
            f"{fact}; RunPod's SDK ends a worker with less than 4 GB: choose a larger one",
        )
    return Check("memory", "ok", fact)


def check_sandbox(found: Capabilities, settings: Settings) -> Check:
    level = found.sandbox["level"]
    if level == "off":
        return Check(
            "sandbox",
            "warn",
            "GPU_WORKER_SANDBOX is off: a hostile video could reach files and network; set"
            " best_effort",
        )
    tried: dict[str, bool] = found.sandbox.get("canaries", {})
    ways: dict[str, str] = {
        "refused when tried": ", ".join(name for name, refused in tried.items() if refused),
        "got through": ", ".join(name for name, refused in tried.items() if not refused),
    }
    facts = [f"{outcome}: {names}" for outcome, names in ways.items() if names]
    facts += found.sandbox.get("reasons", ())
    detail = "; ".join(facts)
    if level == "full":
        abi = found.sandbox["landlock_abi"]
        return Check("sandbox", "ok", f"Landlock ABI {abi} and seccomp; {detail}")
    if level == "broken":
        return Check(
            "sandbox", "fail", f"the filters are on and yet leave a way; {detail}; please report it"
        )
    advice = "run where the kernel has Landlock (Linux 5.13) and allows seccomp"
    return Check(
        "sandbox",
        "fail" if settings.sandbox == "require" else "warn",
        f"{level} ({detail}); {advice}",
    )


def check_ffmpeg() -> Check:
    """The binary that `render` will drive; frames go through PyAV's own libraries."""
    import imageio_ffmpeg

    try:
        binary = imageio_ffmpeg.get_ffmpeg_exe()
        done = subprocess.run(
            [binary, "-hide_banner", "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (RuntimeError, OSError, subprocess.SubprocessError):
        return Check(
            "ffmpeg", "warn", "no ffmpeg binary runs here; reinstall imageio-ffmpeg from its wheel"
        )
    return Check("ffmpeg", "ok", done.stdout.split(" Copyright")[0])


def check_render(settings: Settings) -> Check:
    """The sandbox around FFmpeg, and which hardware encoders a command will get."""
    found = program.level(settings.render_sandbox)
    if found.name == "full":
        problems = {
            name: unavailable(ffmpeg_program(), name, settings.render_sandbox) for name in STAND_INS
        }
        working = [name for name, problem in problems.items() if problem is None]
        reason = "; ".join(dict.fromkeys(problem for problem in problems.values() if problem))
        return Check(
            "render",
            "ok",
            f"FFmpeg's sandbox is whole; hardware: {', '.join(working) or f'none ({reason})'}",
        )
    if found.name == "off":
        return Check(
            "render",
            "warn",
            "GPU_WORKER_RENDER_SANDBOX is off: a hostile command could reach files and network",
        )
    missing = ", ".join(sorted(program.REFUSALS - found.refused))
    advice = "run where the kernel has Landlock (Linux 5.13) and allows seccomp"
    status = "fail" if settings.render_sandbox == "require" else "warn"
    return Check("render", status, f"FFmpeg's sandbox is {found.name} (open: {missing}); {advice}")


def check_clock(env: Mapping[str, str]) -> Check:
    """This machine's clock against the Date header of a server that the operator names: a wrong one
    breaks presigned URLs."""
    url = env.get("GPU_WORKER_DOCTOR_URL", "")
    if not url:
        return Check(
            "clock",
            "ok",
            "not compared; set GPU_WORKER_DOCTOR_URL to your storage endpoint to compare it",
        )
    if not url.startswith(("https://", "http://")):
        return Check(
            "clock",
            "warn",
            "GPU_WORKER_DOCTOR_URL is no http(s) URL; set it to your storage endpoint",
        )
    offset = clock_offset_seconds(url)
    if offset is None:
        return Check(
            "clock",
            "warn",
            "the server named by GPU_WORKER_DOCTOR_URL gave no time; check name and network",
        )
    off = f"this clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the server's"
    if abs(offset) >= CLOCK_FAIL_SECONDS:
        return Check(
            "clock",
            "fail",
            f"{off}: signatures are refused beyond 15 minutes; set the clock by NTP",
        )
    if abs(offset) >= CLOCK_WARN_SECONDS:
        return Check("clock", "warn", f"{off}; set the clock by NTP")
    return Check("clock", "ok", off)


def clock_offset_seconds(url: str) -> float | None:
    """Our time minus the server's; None when it gives none. Any status will do: the Date stands in
    errors too."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the scheme was checked
    try:
        with urllib.request.urlopen(request, timeout=CLOCK_TIMEOUT_SECONDS) as response:  # noqa: S310
            headers: Any = response.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
        error.close()
    except (OSError, ValueError):
        return None
    try:
        return time.time() - email.utils.parsedate_to_datetime(headers["Date"]).timestamp()
    except (TypeError, ValueError):
        return None
