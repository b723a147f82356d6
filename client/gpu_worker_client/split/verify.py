"""The joined file read again, before anyone may see it: every frame there and at its time, the
other streams byte for byte."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from gpu_worker_client.split.errors import SplitError
from gpu_worker_client.split.plan import SplitPlan
from gpu_worker_client.split.source import SourceVideo, packets_of, picked_video
from gpu_worker_client.split.streams import Copied

MOST_LATE_SECONDS = 1
"""By which a whole file may be moved; the lead-in of an audio codec is under a tenth of this."""


def check_output(plan: SplitPlan, path: Path, copied: Mapping[int, Copied]) -> None:
    """
    Args:
        plan: what the file was made by.
        path: the joined file.
        copied: what `join` says it copied.

    Raises:
        SplitError: `output_invalid`, naming what is wrong.
    """
    try:
        with av.open(str(path)) as container:
            video = picked_video(container)
            found = _read(
                container, video, {segment.first_frame for segment in plan.segments}, copied
            )
            shift = _check_times(plan.source, found.times, video.time_base)
            for index, stream in copied.items():
                tolerance = video.time_base + container.streams[index].time_base
                _check_copied(index, stream, found.other_streams[index], shift, tolerance)
    except (FFmpegError, OSError, ValueError) as error:
        raise SplitError(
            "output_invalid",
            f"the joined file does not read: {type(error).__name__}; please report it",
        ) from error


class _Found:
    def __init__(self, copied: Mapping[int, Copied]) -> None:
        self.times: array[int] = array("q")
        self.other_streams = {
            index: Copied(stream.kind, stream.is_aac) for index, stream in copied.items()
        }


def _read(container: Any, video: Any, starts: set[int], copied: Mapping[int, Copied]) -> _Found:
    """Every packet once; the first of each segment is decoded."""
    found = _Found(copied)
    for packet in packets_of(container):
        if packet.stream_index == video.index:
            if len(found.times) in starts:
                _decode(video.codec_context, packet, len(found.times))
            found.times.append(packet.pts)
        elif packet.stream_index in found.other_streams:
            found.other_streams[packet.stream_index].see(packet)
    return found


def _decode(context: Any, packet: Any, number: int) -> None:
    """Whether a segment's first packet makes a frame by itself."""
    context.flush_buffers()
    if not [*context.decode(packet), *context.decode(None)]:
        raise SplitError(
            "output_invalid",
            f"frame {number} of the joined file does not decode by itself; please report it",
        )
    context.flush_buffers()


def _check_times(source: SourceVideo, times: array[int], time_base: Fraction) -> Fraction:
    """Every frame's time to the tick. Returns the seconds by which all are late: Matroska has no
    times before 0, so what begins earlier (the lead-in of AAC for one) moves the whole file."""
    if len(times) != source.frames:
        raise SplitError(
            "output_invalid",
            f"the joined file has {len(times)} frames of {source.frames}; please report it",
        )
    shown = sorted(times)
    wanted = (pts * source.time_base - source.origin_seconds for pts in source.pts)
    late = [pts * time_base - seconds for pts, seconds in zip(shown, wanted, strict=True)]
    if not -time_base <= late[0] <= MOST_LATE_SECONDS or max(late) - min(late) > time_base:
        raise SplitError(
            "output_invalid",
            "the frames of the joined file are not at their times; please report it",
        )
    return late[0]


def _check_copied(
    index: int, expected: Copied, found: Copied, shift: Fraction, tolerance: Fraction
) -> None:
    same = (expected.packets, expected.digest.digest()) == (found.packets, found.digest.digest())
    ends = [
        (expected.first_seconds, found.first_seconds),
        (expected.last_seconds, found.last_seconds),
    ]
    if not same or (
        found.packets and any(abs(after - before - shift) > tolerance for before, after in ends)
    ):
        raise SplitError(
            "output_invalid",
            f"{expected.kind} stream {index} of the joined file is not the source's; please"
            " report it",
        )
