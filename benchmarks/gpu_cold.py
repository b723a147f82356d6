"""Cold start: from the start of a process to the first enlarged frame, and what the time goes into.

    python benchmarks/gpu_cold.py FOLDER MODEL DEVICE STARTED     the process that is timed; prints
    its marks

The weights lie on the local disk. `STARTED` is the moment the parent started it, in seconds of the
epoch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_sizes import Row, Sizes

BAR_SECONDS = 8.0
MODELS = ("RealESRGAN_x4plus", "realesr-general-x4v3")


def rows(sizes: Sizes) -> Iterator[Row]:
    """One row for each network."""
    from gpu_nets import folder_with, nets

    for net in (net for net in nets(sizes) if net.name in MODELS):
        with tempfile.TemporaryDirectory() as name:
            folder_with(net, Path(name))
            size = f"{sizes.width}x{sizes.height}"
            argv = [
                sys.executable,
                __file__,
                name,
                net.name,
                str(sizes.device),
                size,
                repr(time.time()),
            ]
            output = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        marks: dict[str, float] = json.loads(output.splitlines()[-1])
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in marks.items())
        yield {
            "name": f"cold start, {net.name}, process start to first frame of {size}",
            "value": sum(marks.values()),
            "unit": "s",
            "lower_is_better": True,
            "bar": BAR_SECONDS,
            "note": f"seconds: {parts}",
        }


def measure(
    folder: Path, model: str, device_name: str, size: str, started: float
) -> dict[str, float]:
    """Seconds of each part, in order."""
    marks = {"interpreter": time.time() - started}
    last = time.perf_counter()

    def mark(part: str) -> None:
        nonlocal last
        now = time.perf_counter()
        marks[part], last = now - last, now

    import torch

    mark("import torch")
    device = torch.device(device_name)
    torch.zeros(1, device=device)
    mark("device")
    from gpu_worker_processors.models.sr.loader import load
    from gpu_worker_processors.models.weights import WeightStore

    mark("import networks")
    resolver = load(model, store=WeightStore(folder), device=device)
    mark("load weights")
    resolver.warm_up()
    mark("warm up")
    width, height = (int(part) for part in size.split("x"))
    frame = torch.rand(1, 3, height, width, device=device)
    resolver(frame).cpu()
    mark("first frame")
    return marks


if __name__ == "__main__":
    print(
        json.dumps(
            measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
        )
    )
