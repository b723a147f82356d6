"""The whole way on loopback: the unmodified runpod loop in a worker process, the control plane, the
R2 gate, the client SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import e2e_stage
from support.e2e_stage import Stage


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker that serves every test of a module: what one leaves behind, the next one meets."""
    yield from e2e_stage.start(tmp_path_factory)


@pytest.fixture
def fresh(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A worker of its own, with `@pytest.mark.parametrize("fresh", [{env}], indirect=True)` for
    settings."""
    env: dict[str, Any] = getattr(request, "param", {})
    yield from e2e_stage.start(tmp_path_factory, **env)
