"""The panels of the demo, each in a module named after its task's: `blur_panel` has the `PANEL` of
`blur`. The self-test comes first, the slowest task last: the table of tasks backwards."""

from importlib import import_module

from gpu_worker.demo.panel import Panel
from gpu_worker_client.protocol import TASKS

PANELS: list[Panel] = [
    import_module(f"gpu_worker.demo.{kind.module}_panel").PANEL for kind in reversed(TASKS.values())
]
