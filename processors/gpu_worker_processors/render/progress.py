"""FFmpeg's own account of how far it is: the `key=value` blocks of `-progress`, each closed by a
line `progress=...`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpu_worker_client.protocol.foreign import parse_integer

_KEYS = frozenset({"frame", "out_time_us"})
MAX_LINE_BYTES = 1024
"""Longer ones FFmpeg does not write: a reader may take the rest for another line."""
WORDS = ("-progress", "pipe:1", "-stats_period", "0.25", "-nostats")
"""What makes FFmpeg write them to its standard output, four times a second."""


@dataclass(frozen=True)
class Report:
    """One block."""

    frames: int = 0
    """Packets of the first video stream that went to the muxer; 0 without video."""
    seconds: float = 0.0
    """Where the output ends so far; 0 while FFmpeg says "N/A"."""
    ended: bool = False
    """The last block: the file is closed."""
    has_video: bool = False
    """Whether the muxer was given a video stream: only then FFmpeg counts frames."""


def reports(lines: Iterable[bytes]) -> Iterator[Report]:
    """The blocks in order, an unfinished last one left out. What does not parse counts as not
    said."""
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.decode("ascii", "replace").strip().partition("=")
        if key != "progress":
            if key in _KEYS:
                fields[key] = value.strip()
            continue
        microseconds = _whole(fields.get("out_time_us", ""))
        frames = fields.get("frame")
        yield Report(
            _whole(frames or ""), microseconds / 1e6, value == "end", has_video=frames is not None
        )
        fields = {}


def _whole(text: str) -> int:
    """A count; 0 for "N/A" and for what is below."""
    return parse_integer(text) or 0
