"""The RunPod entry point: `python -u handler.py`, also with the SDK's `--test_input` and
`--rp_serve_api`."""

import os

from gpu_worker.runpod_sdk import runpod
from gpu_worker.serve import serverless_config

if __name__ == "__main__":
    runpod.serverless.start(serverless_config(os.environ))
