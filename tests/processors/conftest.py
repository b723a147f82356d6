"""The one warm engine that the tests of media share in a process: each start costs seconds."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.media_job import MediaWorker


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Generator[MediaWorker]:
    """Reads whatever a test has in a temporary folder of pytest's."""
    from support.media_job import media_worker  # it asks for FFmpeg: not in a fast test

    with media_worker(tmp_path_factory.getbasetemp()) as running:
        yield running
