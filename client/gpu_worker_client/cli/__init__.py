"""`gpu-client`: the SDK at a shell."""

from gpu_worker_client.cli.main import main

__all__ = ["main"]
