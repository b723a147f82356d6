"""A sheet of thumbnails: which frames of the video, where each lies on the sheet, and the WebVTT
text that says so."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from gpu_worker_client.protocol.timeline import Thumbnails
from gpu_worker_processors.render.timeline.graph import filter_text
from gpu_worker_processors.render.timeline.plan import VideoPlan, even, exact, nearest, refused

MAX_SIDE_PX = 65_500
"""Longest side of a sheet: JPEG counts pixels with 16 bits, some decoders stop a little earlier."""
MAX_PIXELS = 100_000_000
"""Pixels of a sheet; the whole of it is in memory."""
MAX_THUMBNAILS = 2000
"""Frames are picked by an expression of so many terms."""


@dataclass(frozen=True)
class Sheet:
    """A plan of thumbnails."""

    width: int
    """Width of one thumbnail, pixels."""
    height: int
    columns: int
    every: Fraction
    """Seconds of the video that each thumbnail stands for."""
    video_seconds: Fraction
    frames: tuple[int, ...]
    """Frames of the video, rising."""

    @property
    def rows(self) -> int:
        return -(-len(self.frames) // self.columns)

    @property
    def filters(self) -> list[str]:
        """From the video to its sheet."""
        chosen = "+".join(f"eq(n,{frame})" for frame in self.frames)
        count = len(self.frames)
        return [
            filter_text("select", chosen),
            filter_text(
                "scale",
                self.width,
                self.height,
                flags="area",
                out_color_matrix="bt601",
                out_range="pc",
            ),
            filter_text("tile", layout=f"{self.columns}x{self.rows}", nb_frames=count),
        ]

    def vtt(self, file_name: str) -> str:
        """WebVTT: for each part of the video a fragment of the sheet.
        https://www.w3.org/TR/media-frags/#naming-space

        Args:
            file_name: of the sheet, percent-encoded, as the player will find it beside this text.
        """
        lines = ["WEBVTT", ""]
        for n in range(len(self.frames)):
            end = self.video_seconds if n == len(self.frames) - 1 else (n + 1) * self.every
            x, y = n % self.columns * self.width, n // self.columns * self.height
            lines += [
                f"{clock(n * self.every)} --> {clock(end)}",
                f"{file_name}#xywh={x},{y},{self.width},{self.height}",
                "",
            ]
        return "\n".join(lines)


def plan_sheet(wanted: Thumbnails, plan: VideoPlan) -> Sheet:
    """Chooses the frames: the middle of each full stretch of the video, or of the whole video where
    it is shorter than a stretch.

    Raises:
        TaskError: `invalid_task` for a sheet that would be too large.
    """
    every = exact(wanted.every_seconds)
    count = max(1, nearest(plan.seconds / every))
    if count > MAX_THUMBNAILS:
        raise refused(
            "thumbnails.every_seconds", f"would give {count} thumbnails, more than {MAX_THUMBNAILS}"
        )
    middles = [
        min((n + Fraction(1, 2)) * every, plan.seconds / 2 if count == 1 else plan.seconds)
        for n in range(count)
    ]
    frames = tuple(min(plan.frames - 1, int(middle * plan.fps)) for middle in middles)
    columns = min(wanted.columns, count)
    height = even(Fraction(wanted.width * plan.height, plan.width))
    sheet = Sheet(wanted.width, height, columns, every, plan.seconds, frames)
    size = (sheet.width * columns, sheet.height * sheet.rows)
    if max(size) > MAX_SIDE_PX or size[0] * size[1] > MAX_PIXELS:
        raise refused(
            "thumbnails",
            f"would be a sheet of {size[0]}x{size[1]} pixels; send a longer every_seconds or less"
            " width",
        )
    return sheet


def clock(seconds: Fraction) -> str:
    """WebVTT's time stamp."""
    milliseconds = nearest(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02d}:{milliseconds // 60_000 % 60:02d}:"
        f"{milliseconds // 1000 % 60:02d}.{milliseconds % 1000:03d}"
    )
