"""`python -m gpu_worker_processors < task.json`: see `local.run`."""

from __future__ import annotations

import sys

from gpu_worker_processors.local.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
