"""The RunPod Hub wants a `handler.py` here or in the root: this runs the worker's own, with its
`runpod.serverless.start`."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(
        str(Path(__file__).parents[1] / "gpu-worker" / "handler.py"), run_name="__main__"
    )
