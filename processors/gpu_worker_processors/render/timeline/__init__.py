"""A timeline planned and written as one command of FFmpeg."""

from gpu_worker_processors.render.timeline.compile import (
    SOFTWARE_ENCODERS,
    compile_timeline,
    planned_sheet,
)
from gpu_worker_processors.render.timeline.rendering import TimelineRendering
from gpu_worker_processors.render.timeline.sheet import Sheet
from gpu_worker_processors.render.timeline.sources import Source, look_at_inputs

__all__ = [
    "SOFTWARE_ENCODERS",
    "Sheet",
    "Source",
    "TimelineRendering",
    "compile_timeline",
    "look_at_inputs",
    "planned_sheet",
]
