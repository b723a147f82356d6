"""Fixtures of the client's tests: a scripted endpoint on loopback, a clock that nobody waits for,
the client of both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest
from support.client_surfaces import Blocking
from support.scripted_server import Answer, FakeTime, ScriptedServer, scripted_server

from gpu_worker_client import AsyncClient, Client

API_KEY = "rpa_CANARYkey0123456789"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture(params=["Client", "AsyncClient"])
def client(
    request: pytest.FixtureRequest, server: ScriptedServer, time: FakeTime
) -> Iterator[Client]:
    """One client and then the other: every test that takes it holds for both."""
    if request.param == "Client":
        with Client("ep1", API_KEY, server.url, timing=time.timing()) as client:
            yield client
        return
    loop = asyncio.new_event_loop()
    with Blocking(AsyncClient("ep1", API_KEY, server.url, timing=time.timing()), loop) as blocking:
        yield cast(Client, blocking)
    loop.close()


@pytest.fixture
def health(server: ScriptedServer) -> None:
    """Events ask for the queue as well; nothing is known of it here."""
    server.aside["/health"] = Answer(status=503)
