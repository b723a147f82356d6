"""No test of upscale leaves a thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = {
        thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "drain"))
    }
    yield
    assert {
        thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "drain"))
    } <= before
