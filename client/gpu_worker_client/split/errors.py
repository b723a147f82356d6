"""Why a video cannot be split, or what came back cannot be joined."""

from __future__ import annotations

from typing import Literal

from gpu_worker_client.protocol.errors import GpuWorkerError

Reason = Literal[
    "unreadable",
    "no_video",
    "no_timestamps",
    "damaged",
    "edit_list",
    "no_keyframe",
    "container",
    "budget",
    "busy",
    "frames_differ",
    "segments_differ",
    "output_invalid",
    "source_changed",
]
"""What stands in the way, for a program to branch on:

- `unreadable`, `no_video`, `damaged`: the file is no video, or broken; repair it.
- `no_timestamps`: frames without a time, or two with the same one (AVI with B-frames): remux to MKV
  first, or run it unsplit.
- `edit_list`: an edit list hides some of the frames: run it unsplit.
- `no_keyframe`: the first frame needs frames before it.
- `container`: the output's container does not hold the joined video.
- `budget`: the estimate is above `max_usd`, or there is no price to hold against it. Nothing was
  submitted.
- `busy`: another call of this process is making the same output. Nothing was submitted by this one.
- `frames_differ`: a worker wrote another number of frames than its segment has.
- `segments_differ`: the segments came back in different formats, from workers with different
  encoders perhaps.
- `output_invalid`: the joined file is not what it should be; nothing was left at the output's
  path.
- `source_changed`: the source is not the file that was planned.
"""


class SplitError(GpuWorkerError):
    """The video cannot be split, or its parts cannot be joined."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
