"""The local platform, its workers played by a thread, and a client that waits a fiftieth of its
time. The client's own environment has no worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpu_worker_client import Client, Timing

if TYPE_CHECKING:
    from support.crew import Crew

    from gpu_worker.devserver.local import LocalPlatform


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    from gpu_worker.devserver.local import LocalPlatform

    with LocalPlatform(poll_seconds=0.02) as platform:
        yield platform


@pytest.fixture
def crew(platform: LocalPlatform) -> Iterator[Crew]:
    from support.crew import Crew

    with Crew(platform) as crew:
        yield crew


@pytest.fixture
def client(platform: LocalPlatform) -> Iterator[Client]:
    def fast(seconds: float) -> Any:
        return asyncio.sleep(seconds / 50)

    with Client(
        platform.endpoint_id, platform.api_key, platform.base_url, timing=Timing(async_sleep=fast)
    ) as client:
        yield client


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"
