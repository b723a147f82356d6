"""One local platform per test; starting it takes milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpu_worker.devserver import Faults, GateLimits, LocalPlatform, ManualClock, R2Gate


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def platform(clock: ManualClock) -> Iterator[LocalPlatform]:
    with LocalPlatform(
        clock=clock, poll_seconds=0.5, gate_limits=GateLimits(min_part_bytes=100)
    ) as running:
        yield running


@pytest.fixture
def gate(platform: LocalPlatform) -> R2Gate:
    return platform.gate


@pytest.fixture
def faults(gate: R2Gate) -> Faults:
    return gate.faults
