"""The one warm engine that the tests of media share in a process: each start costs seconds."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from support.media_job import MediaWorker, media_worker


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Generator[MediaWorker]:
    """Reads whatever a test has in a temporary folder of pytest's."""
    with media_worker(tmp_path_factory.getbasetemp()) as running:
        yield running
