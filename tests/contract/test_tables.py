"""A task stands in every table it belongs in: wire, processors, demo. The README and the documents
have their own tests."""

from __future__ import annotations

import pytest

from gpu_worker.demo.panels import PANELS
from gpu_worker_client.protocol import TASKS
from gpu_worker_processors import registry


def test_every_task_has_a_processor_and_no_processor_is_without_a_task() -> None:
    assert set(registry.PROCESSORS) == set(TASKS)


@pytest.mark.parametrize("name", registry.PROCESSORS)
def test_a_processor_is_what_its_line_says(name: str) -> None:
    processor = registry.get(name)
    assert processor.name == name
    assert all(
        callable(getattr(processor, verb)) for verb in ("required_weights", "prepare", "run")
    )


def test_every_task_has_a_panel_in_the_demo() -> None:
    assert sorted(panel.task for panel in PANELS) == sorted(TASKS)
