"""Fixtures of the client's tests: a scripted endpoint on loopback, and a clock that nobody waits for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted_server import FakeTime, ScriptedServer, scripted_server

from gpu_worker_client import Client

API_KEY = "rpa_CANARYkey0123456789"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def client(server: ScriptedServer, time: FakeTime) -> Iterator[Client]:
    with Client("ep1", API_KEY, server.url, timing=time.timing()) as client:
        yield client
