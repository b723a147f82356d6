"""The image's entry point: `python -u handler.py` serves a RunPod endpoint (also with the SDK's
`--test_input` and `--rp_serve_api`); with `WORKER_MODE=cloud` it pulls jobs from a bucket."""

import os
import sys

if __name__ == "__main__":
    if os.environ.get("WORKER_MODE") == "cloud":
        from gpu_worker.cli import main

        sys.exit(main(["pull", *sys.argv[1:]]))
    from gpu_worker.runpod_sdk import runpod
    from gpu_worker.serve import serverless_config

    runpod.serverless.start(serverless_config(os.environ))
