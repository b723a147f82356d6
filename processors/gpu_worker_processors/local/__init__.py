"""A task on files of this machine, by the engine without a worker: no network, no URL. `python -m
gpu_worker_processors` runs one."""

from __future__ import annotations
