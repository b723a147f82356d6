"""The video files that a worker writes: which suffix means which container."""

from __future__ import annotations

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix of a video file -> FFmpeg's muxer."""
INDEXED = frozenset({"mp4", "mov"})
"""Muxers whose files have an index, which can stand in front, and a clock for each stream.
ISO/IEC 14496-12."""
