"""`python -m gpu_worker_client.cli` is `gpu-client`."""

import sys

from gpu_worker_client.cli import main

sys.exit(main())
