"""The table of panels, in the order in which the demo runs them. A test holds it equal to the table
of tasks."""

from gpu_worker.demo import (
    auto_crop_panel,
    beat_panel,
    render_panel,
    scenes_panel,
    selftest_panel,
    track_panel,
    upscale_panel,
)
from gpu_worker.demo.panel import Panel

PANELS: list[Panel] = [
    selftest_panel.PANEL,
    scenes_panel.PANEL,
    track_panel.PANEL,
    auto_crop_panel.PANEL,
    beat_panel.PANEL,
    render_panel.PANEL,
    upscale_panel.PANEL,
]
