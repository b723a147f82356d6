"""What is found by a task's name is of that task."""

from __future__ import annotations

import pytest

from gpu_worker.demo.panel import Panel
from gpu_worker.demo.panels import PANELS
from gpu_worker_client.protocol import TASKS
from gpu_worker_processors import registry


@pytest.mark.parametrize("name", registry.PROCESSORS)
def test_a_processor_is_what_its_line_says(name: str) -> None:
    processor = registry.get(name)
    assert processor.name == name
    assert all(
        callable(getattr(processor, verb)) for verb in ("required_weights", "prepare", "run")
    )


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.task)
def test_a_panel_is_its_tasks(panel: Panel) -> None:
    assert panel.request.__module__ == f"gpu_worker.demo.{TASKS[panel.task].module}_panel"
