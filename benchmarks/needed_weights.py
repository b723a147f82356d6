"""The weights of WEIGHTS_DIR, and the row that is printed while a network's are missing there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpu_worker_processors.models.weights import WeightStore

FOLDER = os.environ.get("WEIGHTS_DIR", "")
STORE = WeightStore(Path(FOLDER) if FOLDER else None)


def skipped(row: str, model: str) -> dict[str, Any]:
    """A row without figures, with the command that gets the weights."""
    command = f"WEIGHTS_DIR={FOLDER or 'weights'} .venv/bin/gpu-worker weights pull {model}"
    return {"name": row, "skipped": f"needs {model}: `{command}`"}
