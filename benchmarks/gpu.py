"""Everything that needs a GPU, in one call of less than ten minutes: tests, parity, speed, peers,
cold start.

    python benchmarks/gpu.py                     all sections on the first CUDA device
    python benchmarks/gpu.py --only nets peers   these sections
    python benchmarks/gpu.py --cpu               tiny sizes on the CPU: proves that it runs, no more
    python benchmarks/gpu.py --bundle DIR        installs what `gpu_bundle.py` has put there first:
                                                 no network needed

Each section runs in a process group of its own with a time limit. Every row is stored as soon as
it is there: what fails or runs out of time costs only itself. `gpu.json` and `gpu.md` are written
into $OUT, or the current folder, after each section. docs/benchmarks.md is made from a `gpu.json`
beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_sizes import Row, Sizes

ROOT = Path(__file__).parents[1]
PACKAGES = tuple(str(ROOT / name) for name in ("client", "processors", "gpu-worker"))
BUDGET_SECONDS = 540.0
"""Of the whole call: a lent machine takes commands of ten minutes at most."""
SECTIONS: dict[str, tuple[str, str, float]] = {
    "nets": ("gpu_nets", "speed_rows", 130),
    "parity": ("gpu_nets", "parity_rows", 40),
    "peers": ("gpu_nets", "peer_rows", 60),
    "track": ("gpu_video", "track_rows", 150),
    "upscale": ("gpu_video", "upscale_rows", 90),
    "cold": ("gpu_cold", "rows", 60),
    "tests": ("gpu_checks", "test_rows", 120),
    "decode": ("gpu_video", "decode_rows", 40),
    "compiled": ("gpu_nets", "compiled_rows", 120),
    "variants": ("gpu_variants", "rows", 240),
}
"""Section -> module, function, seconds it may take; the most wanted first."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=list(SECTIONS),
        metavar="SECTION",
        help=" ".join(SECTIONS),
    )
    parser.add_argument("--cpu", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--bundle", type=Path, help="folder of gpu_bundle.py")
    parser.add_argument(
        "--budget", type=float, default=BUDGET_SECONDS, help="seconds for all of it"
    )
    parser.add_argument("--section", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.section:
        return run_section(args.section[0], Path(args.section[1]), on_cpu=args.cpu)
    deadline = time.monotonic() + args.budget
    if args.bundle:
        install(args.bundle)
    environment = prepared_environment()
    out = Path(os.environ.get("OUT", "."))
    results: dict[str, Any] = {"machine": {}, "sections": {}}
    for name in ("machine", *args.only):
        limit = min(SECTIONS[name][2] if name in SECTIONS else 60.0, deadline - time.monotonic())
        rows, problem = spawn(name, environment, limit, on_cpu=args.cpu)
        if name == "machine":
            results["machine"] = rows[0] if rows else {"gpu": "unknown", "problem": problem}
            environment["GPU_BENCH_PEAK_TFLOPS"] = str(
                results["machine"].get("matrix product, TFLOP/s", 1.0)
            )
        else:
            results["sections"][name] = {"rows": rows, "problem": problem}
        write(results, out)
    print((out / "gpu.md").read_text(encoding="utf-8"))
    return 1 if any(part["problem"] for part in results["sections"].values()) else 0


def prepared_environment() -> dict[str, str]:
    """The environment of the sections: this repository's packages importable whether they are
    installed or not."""
    path = os.pathsep.join([*PACKAGES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def install(bundle: Path) -> None:
    """Unpacks a bundle into this interpreter's own packages, and adds this repository's: the worker
    starts its engine isolated from PYTHONPATH, in a sandbox that reads no other folder. For a
    machine that is thrown away afterwards."""
    packages = Path(sysconfig.get_path("purelib"))
    for archive in (*sorted(bundle.glob("*.whl")), bundle / "pure.zip"):
        shutil.unpack_archive(archive, packages, "zip")
    (packages / "gpu_bundle.pth").write_text("\n".join(PACKAGES) + "\n", encoding="utf-8")
    for variable, folder in (("WEIGHTS_DIR", bundle / "weights"), ("TEST_MEDIA", bundle / "media")):
        if folder.is_dir():
            os.environ.setdefault(variable, str(folder.resolve()))


def spawn(
    name: str, environment: dict[str, str], limit_seconds: float, *, on_cpu: bool
) -> tuple[list[Row], str | None]:
    """The rows of a section that are there when it ends or its time is over, and what went
    wrong."""
    if limit_seconds < 5:
        return [], "no time was left"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        argv = [
            sys.executable,
            __file__,
            "--section",
            name,
            str(file),
            *(["--cpu"] if on_cpu else []),
        ]
        process = subprocess.Popen(argv, env=environment, stdout=sys.stderr, start_new_session=True)
        try:
            code = process.wait(limit_seconds)
            problem = None if code == 0 else f"ended with exit code {code}; its log says why"
        except subprocess.TimeoutExpired:
            problem = f"stopped after {limit_seconds:.0f} s"
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
            process.wait()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    print(
        f"{name}: {time.monotonic() - started:.1f} s, {len(lines)} rows, {problem or 'well'}",
        file=sys.stderr,
        flush=True,
    )
    return [json.loads(line) for line in lines], problem


def run_section(name: str, file: Path, *, on_cpu: bool) -> int:
    """Runs in the section's own process; one JSON line for each row."""
    from gpu_sizes import FULL, SMALL

    sizes = SMALL if on_cpu else FULL
    with file.open("w", encoding="utf-8") as out:
        for row in rows_of(name, sizes):
            out.write(json.dumps(row) + "\n")
            out.flush()
    return 0


def rows_of(name: str, sizes: Sizes) -> Iterable[Row]:
    """The rows of a section, each as soon as it is measured."""
    if name == "machine":
        return [machine(sizes)]
    module, function, _ = SECTIONS[name]
    made: Callable[[Sizes], Iterable[Row]] = getattr(importlib.import_module(module), function)
    return made(sizes)


def machine(sizes: Sizes) -> dict[str, Any]:
    """What the rows were measured on, with the two rates that bound everything else."""
    import torch
    from gpu_sizes import seconds_per_call

    device, dtype = sizes.device, torch.float16 if sizes.device.type == "cuda" else torch.float32
    a, b = (torch.randn(sizes.matrix, sizes.matrix, device=device, dtype=dtype) for _ in range(2))
    product = seconds_per_call(lambda: a @ b, sizes)
    block = torch.empty(
        64 * sizes.matrix**2 // 8192, 8192, dtype=torch.uint8, device=device
    ).random_()
    target = torch.empty_like(block)
    copy = seconds_per_call(lambda: target.copy_(block), sizes)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "none, the CPU instead"
    return {
        "gpu": name,
        "matrix product, TFLOP/s": round(2 * sizes.matrix**3 / product / 1e12, 3),
        "copy on the device, GB/s": round(2 * block.numel() / copy / 1e9),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "Python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write(results: dict[str, Any], folder: Path) -> None:
    """Both files, after each section: a call that is cut off leaves what it has."""
    from gpu_report import section

    (folder / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (folder / "gpu.md").write_text(section(results), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
