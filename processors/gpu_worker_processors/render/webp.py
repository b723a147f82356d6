"""Animated WebP by its chunks: PyAV's libraries do not decode it, FFmpeg's own program does.

https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from gpu_worker_processors.media.sniff import is_animated_webp

_HEAD_BYTES = 30


@dataclass(frozen=True)
class WebpAnimation:
    """What the file holds."""

    width: int
    height: int
    frames: int
    seconds: float
    """Of one round."""


def webp_animation(path: Path) -> WebpAnimation | None:
    """None for any other file.

    Raises:
        ValueError: it is cut off.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
        if not is_animated_webp(head):
            return None
        if int.from_bytes(head[4:8], "little") + 8 != path.stat().st_size:
            raise ValueError("it is cut off")
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        frames = milliseconds = 0
        file.seek(12)
        while header := file.read(8):
            if len(header) < 8:
                raise ValueError("it is cut off")
            chunk, length = struct.unpack("<4sI", header)
            body = file.tell()
            if chunk == b"ANMF":
                frames += 1
                milliseconds += int.from_bytes(file.read(16)[12:15], "little")
            file.seek(body + length + length % 2)
    return WebpAnimation(width, height, frames, milliseconds / 1000)
