"""What it costs to have an SDK: installed bytes and import time, ours and its peers', each in a
fresh environment, in one run.

    python benchmarks/sdk_peers.py

Needs `uv` beside this interpreter (the repository's environment has it) and a package index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 7
SDKS = {
    "gpu-worker-client": (
        str(ROOT / "client"),
        "from gpu_worker_client import Client",
        "Client('e', 'k')",
    ),
    "runpod": ("runpod", "import runpod", "runpod.api_key = 'k'; runpod.Endpoint('e')"),
    "replicate": ("replicate", "from replicate import Client", "Client('k').predictions"),
    "fal-client": (
        "fal-client",
        "from fal_client import SyncClient",
        "SyncClient(key='k')._client",
    ),
    "openai": ("openai", "from openai import OpenAI", "OpenAI(api_key='k').chat"),
}
"""What to install, the import that a program begins with, and what makes a client that can send."""
PYDANTIC = "import pydantic; pydantic.BaseModel"


def main() -> int:
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory() as folder:
        homes = {name: Path(folder, name) for name in SDKS}
        for name, home in homes.items():
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
            install = [
                uv,
                "pip",
                "install",
                "-q",
                "--compile-bytecode",
                "--python",
                home / "bin/python",
                SDKS[name][0],
            ]
            subprocess.run(install, check=True)
        times = best_milliseconds(homes)
        print(
            "| SDK | version | packages | installed | import | client made | pydantic alone"
            " |\n|---|---|---|---|---|---|---|"
        )
        for name, home in homes.items():
            cells = [
                *installed(home, name),
                *(f"{best:.0f} ms" if best else "not needed" for best in times[name]),
            ]
            print(f"| {name} | {' | '.join(cells)} |")
    return 0


def installed(home: Path, name: str) -> list[str]:
    """Version, packages with what it depends on, and megabytes without byte code."""
    size = sum(
        path.stat().st_size
        for path in packages_of(home).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    version = output(home, f"from importlib.metadata import version; print(version({name!r}))")
    return [version, str(len(list(packages_of(home).glob("*.dist-info")))), f"{size / 1e6:.1f} MB"]


def best_milliseconds(homes: dict[str, Path]) -> dict[str, list[float | None]]:
    """For each SDK the import, the import with a client made, and pydantic's import (None where it
    has none of it): the best of several processes each, taken in turns so that a busy minute of the
    machine is everybody's."""
    programs = {
        name: [statement, f"{statement}\n{making}", PYDANTIC]
        for name, (_, statement, making) in SDKS.items()
    }
    best: dict[str, list[float | None]] = {name: [None] * 3 for name in homes}
    for _ in range(RUNS):
        for name, home in homes.items():
            for index, program in enumerate(programs[name]):
                if program is PYDANTIC and not (packages_of(home) / "pydantic").exists():
                    continue
                took, before = milliseconds(home, program), best[name][index]
                best[name][index] = took if before is None else min(before, took)
    return best


def milliseconds(home: Path, program: str) -> float:
    """Wall time in a process of its own, without the interpreter's start."""
    timed = (
        f"import time; begun = time.perf_counter()\n{program}\nprint((time.perf_counter() - begun)"
        " * 1000)"
    )
    return float(output(home, timed))


def packages_of(home: Path) -> Path:
    return next(home.glob("lib/python*/site-packages"))


def output(home: Path, program: str) -> str:
    command = [home / "bin/python", "-c", program]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
