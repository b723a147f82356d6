"""What it costs to have an SDK: installed bytes and import time, ours and its peers', each in a fresh environment, in one run.

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
    "gpu-worker-client": (str(ROOT / "client"), "from gpu_worker_client import Client", "Client('e', 'k')"),
    "runpod": ("runpod", "import runpod", "runpod.api_key = 'k'; runpod.Endpoint('e')"),
    "replicate": ("replicate", "from replicate import Client", "Client('k').predictions"),
    "fal-client": ("fal-client", "from fal_client import SyncClient", "SyncClient(key='k')._client"),
    "openai": ("openai", "from openai import OpenAI", "OpenAI(api_key='k').chat"),
}
"""What to install, the import that a program begins with, and what makes a client that can send."""
PYDANTIC = "import pydantic; pydantic.BaseModel"


def main() -> int:
    uv = Path(sys.executable).with_name("uv")
    print("| SDK | version | packages | installed | import | client made | pydantic alone |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (source, statement, making) in SDKS.items():
            home = Path(folder, name)
            python = home / "bin/python"
            subprocess.run([uv, "venv", "-q", "--python", sys.executable, home], check=True)
            subprocess.run([uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, source], check=True)
            print(f"| {name} | {' | '.join(measured(home, python, name, statement, making))} |", flush=True)
    return 0


def measured(home: Path, python: Path, name: str, statement: str, making: str) -> list[str]:
    packages = next(home.glob("lib/python*/site-packages"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and path.suffix != ".pyc")
    version = output(python, f"from importlib.metadata import version; print(version({name!r}))")
    count = len(list(packages.glob("*.dist-info")))
    times = [f"{milliseconds(python, program):.0f} ms" for program in (statement, f"{statement}\n{making}")]
    pydantic = f"{milliseconds(python, PYDANTIC):.0f} ms" if (packages / "pydantic").exists() else "not needed"
    return [version, str(count), f"{size / 1e6:.1f} MB", *times, pydantic]


def milliseconds(python: Path, statement: str) -> float:
    """Wall time of the import, the best of several processes."""
    program = f"import time; begun = time.perf_counter()\n{statement}\nprint((time.perf_counter() - begun) * 1000)"
    return min(float(output(python, program)) for _ in range(RUNS))


def output(python: Path, program: str) -> str:
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, timeout=120).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
