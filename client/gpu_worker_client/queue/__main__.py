"""`python -m gpu_worker_client.queue` is `gpu-client queue`."""

import sys

from gpu_worker_client.cli import main

sys.exit(main(["queue", *sys.argv[1:]]))
