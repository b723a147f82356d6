"""A task on files of this machine, by the engine alone: no network, no URL. `python -m
gpu_worker_processors` runs one."""

from __future__ import annotations
