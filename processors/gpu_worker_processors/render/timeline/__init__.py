"""A timeline planned and written as one command of FFmpeg."""

from gpu_worker_processors.render.timeline.compile import (
    SOFTWARE_ENCODERS,
    compile_measurement,
    compile_timeline,
    planned_sheet,
)
from gpu_worker_processors.render.timeline.rendering import TimelineRendering
from gpu_worker_processors.render.timeline.sources import (
    TimelineSource,
    inspect_fonts,
    inspect_inputs,
)
from gpu_worker_processors.render.timeline.thumbnails import Sheet

__all__ = [
    "SOFTWARE_ENCODERS",
    "Sheet",
    "TimelineRendering",
    "TimelineSource",
    "compile_measurement",
    "compile_timeline",
    "inspect_fonts",
    "inspect_inputs",
    "planned_sheet",
]
