"""Segments of a video as files: packets moved as they are, nothing re-encoded, times beginning at
zero.

The same plan of the same file gives the same bytes, so a segment's name in storage can be the hash
of its content.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from gpu_worker_client.protocol.base import CONTAINERS, INDEXED
from gpu_worker_client.split.errors import SplitError
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.split.source import SourceVideo, packets_of
from gpu_worker_client.split.timestamps import decode_times


def cut_segments(plan: SplitPlan, folder: Path) -> Iterator[tuple[Segment, Path]]:
    """Writes the segments one after the other, in one pass over the source; a file is complete when
    it is handed out.

    Args:
        folder: exists; gets `segment-00000.mp4` and so on.

    Raises:
        SplitError: `source_changed` when the file is not what was planned, `container`,
            `unreadable`.
    """
    source = plan.source
    if source.path.stat().st_size != source.size_bytes:
        raise SplitError(
            "source_changed", f"{source.path.name} has changed since it was planned; plan it again"
        )
    # A container that keeps the source's clock; Matroska for the rest, as it holds any codec.
    muxer = CONTAINERS.get(source.path.suffix.lower())
    suffix = f".{muxer}" if muxer in INDEXED else ".mkv"
    try:
        with av.open(str(source.path)) as container:
            stream = container.streams[source.stream_index]
            packets = packets_of(container, stream)
            for segment in plan.segments:
                path = folder / f"segment-{segment.index:05d}{suffix}"
                _write(path, source, segment, stream, packets)
                yield segment, path
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SplitError("unreadable", f"{source.path.name} cannot be cut: {reason}") from error


def _write(
    path: Path, source: SourceVideo, segment: Segment, stream: Any, packets: Iterator[Any]
) -> None:
    """Moves the next packets of the source, as many as the segment has frames, into a file."""
    first = source.pts[segment.first_frame]
    shown = [pts - first for pts in source.pts[segment.first_frame : segment.end_frame]]
    expected = set(shown)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        target = output.add_stream_from_template(stream, opaque=True)
        target.time_base = source.time_base
        for index in range(segment.frames):
            packet = next(packets, None)
            if packet is None or packet.pts is None or packet.pts - first not in expected:
                raise SplitError(
                    "source_changed",
                    f"{source.path.name} has changed since it was planned; plan it again",
                )
            packet.pts, packet.dts = (
                packet.pts - first,
                decode_times(shown, source.reorder_delay, index),
            )
            packet.time_base, packet.stream = source.time_base, target
            output.mux(packet)
