"""The local platform, a toy worker on it, and both clients: what the tests of files share. The
client's own environment has no worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_worker_client import AsyncClient, Client, Timing

if TYPE_CHECKING:
    from support.toy_worker import ToyWorker

    from gpu_worker.devserver import LocalPlatform


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    from support.toy_worker import PAYLOAD_BYTES

    from gpu_worker.devserver import GateLimits, LocalPlatform, PlatformLimits

    limits = PlatformLimits(run_payload_bytes=PAYLOAD_BYTES)
    with LocalPlatform(
        poll_seconds=5, limits=limits, gate_limits=GateLimits(write_interval_seconds=0)
    ) as platform:
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> ToyWorker:
    from support.toy_worker import ToyWorker

    return ToyWorker(platform)


async def _soon(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


TIMING = Timing(sleep=lambda seconds: time.sleep(min(seconds, 0.02)), async_sleep=_soon)
"""Looks fifty times a second: the jobs here take milliseconds."""


@pytest.fixture
def client(platform: LocalPlatform) -> Iterator[Client]:
    from support.toy_worker import storage_of

    with Client(
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        timing=TIMING,
        storage=storage_of(platform),
    ) as client:
        yield client


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"abc" * 1000)
    return path


@pytest.fixture
def async_client(platform: LocalPlatform) -> AsyncClient:
    from support.toy_worker import storage_of

    return AsyncClient(
        platform.endpoint_id,
        platform.api_key,
        platform.base_url,
        timing=TIMING,
        storage=storage_of(platform),
    )
