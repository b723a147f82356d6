"""One continuous clock for a file whose own clock jumps, and times for frames whose container gives
none.

Recordings that were joined, or whose device began to count anew, have timestamps that jump by hours
in the middle. Players bridge such a jump; so does `continuous`, for all streams alike, so that
audio and video stay in step. The video decides where a jump is: what is read of a file on its own,
its frames or its audio, gets the same times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.media.sniff import Kind

CLOCK_STARTS_ANYWHERE = frozenset({"mpegts", "mpeg", "flv", "ogg"})
"""Demuxers of what is sent live and joined end to end."""
_BACK_SECONDS = Fraction(1, 10)
"""A step back by more is a jump: ffmpeg's own number (fftools/ffmpeg_demux.c)."""
_AHEAD_SECONDS = 10
"""A step ahead by more is a jump in a broadcast stream: ffmpeg's `-dts_delta_threshold`."""
_BROADCAST = frozenset({"mpegts", "mpeg"})
"""In all other containers a long step is a pause: a slide, a screen on which nothing moves."""
_FULL_SECONDS = Fraction(2**33, 90_000)
"""When the 33 bits of a broadcast clock are full (ISO/IEC 13818-1, 2.4.3.7)."""
_MOST_HELD = 1000
"""Packets of other streams that wait for the video to reach a jump that they have passed."""
_MOST_WARNINGS = 5


@dataclass(frozen=True)
class ClockJump:
    at_seconds: Fraction
    """On the continuous clock, from the start of the video."""
    by_seconds: Fraction
    """How far the file's own clock jumps; negative when back."""


def jump_warnings(jumps: Iterable[ClockJump]) -> list[ResultWarning]:
    """What the caller should know of them, the first few each by itself."""
    found = list(jumps)
    said = [
        f"the file's clock jumps by {float(jump.by_seconds):+.3f} s"
        f" {float(jump.at_seconds):.3f} s after the first frame"
        for jump in found[:_MOST_WARNINGS]
    ]
    if len(found) > _MOST_WARNINGS:
        said.append(f"its clock jumps {len(found) - _MOST_WARNINGS} times more")
    return [
        ResultWarning(code="clock_jump", message=f"{what}; the times go on without a break")
        for what in said
    ]


@dataclass
class _Stream:
    """How far a stream has come."""

    last: Fraction | None = None
    """The file's own time of the last packet."""
    step: Fraction = Fraction(0)
    """From that packet to the next one, as far as is known."""
    run: int = 0
    """Number of the stretch between two jumps that it is in."""


@dataclass
class _Run:
    """A stretch between two jumps, by the leading stream."""

    offset: Fraction
    """Continuous time less the file's own."""
    first: Fraction
    last: Fraction
    """Own times."""


class _Clock:
    def __init__(self, kind: Kind, leader: int) -> None:
        self.jumps: list[ClockJump] = []
        self._jumps_ahead = self._wraps = kind.demuxer in _BROADCAST
        self._leader = leader
        self._streams: dict[int, _Stream] = {}
        self._runs: list[_Run] = []

    def is_ready(self, packet: Any) -> bool:
        """Whether it is known on which side of which jump a packet stands."""
        if packet.dts is None or packet.stream.index == self._leader:
            return True
        stream = self._streams.get(packet.stream.index)
        own = packet.dts * packet.time_base
        return not (
            packet.stream.type == "audio"
            and stream is not None
            and self._is_jump(stream, own)
            and self._run_of(own, stream.run + 1) is None
        )

    def correct(self, packet: Any) -> None:
        """Moves a packet's timestamps to the continuous clock."""
        index = packet.stream.index
        stream = self._streams.setdefault(index, _Stream())
        if packet.dts is not None:
            own = packet.dts * packet.time_base
            if index == self._leader:
                self._lead(stream, own)
            elif packet.stream.type != "audio":
                stream.run = self._run_of(own, 0, Fraction(10**9)) or 0
            elif self._is_jump(stream, own):
                run = self._run_of(own, stream.run + 1)
                stream.run = stream.run if run is None else run
            if stream.last is not None and 0 < own - stream.last <= _AHEAD_SECONDS:
                stream.step = own - stream.last
            stream.last = own
            stream.step = (packet.duration or 0) * packet.time_base or stream.step
        if self._runs:
            ticks = round(self._runs[stream.run].offset / packet.time_base)
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks

    def _is_jump(self, stream: _Stream, own: Fraction) -> bool:
        if stream.last is None:
            return False
        step = own - stream.last
        return step < -_BACK_SECONDS or (self._jumps_ahead and step > _AHEAD_SECONDS)

    def _lead(self, stream: _Stream, own: Fraction) -> None:
        if not self._runs:
            self._runs.append(_Run(Fraction(0), own, own))
        run = self._runs[-1]
        if stream.last is None:
            return
        due = stream.last + stream.step
        at = due + run.offset - self._runs[0].first
        if self._is_jump(stream, own):
            by = own - due
            if self._wraps:  # FFmpeg takes a jump back for a counter that is full
                by = (by + _FULL_SECONDS / 2) % _FULL_SECONDS - _FULL_SECONDS / 2
            self.jumps.append(ClockJump(at, by))
            self._runs.append(_Run(run.offset + due - own, own, own))
            stream.run += 1
        elif self._wraps and own // _FULL_SECONDS > stream.last // _FULL_SECONDS:
            self.jumps.append(ClockJump(at, -_FULL_SECONDS))
        self._runs[-1].last = own

    def _run_of(
        self, own: Fraction, first: int, most: Fraction = Fraction(_AHEAD_SECONDS)
    ) -> int | None:
        """The run, from that number on, to whose times this one is nearest; None when far from
        all."""
        distances = [
            (max(run.first - own, own - run.last, Fraction(0)), -number)
            for number, run in enumerate(self._runs)
            if number >= first
        ]
        distance, number = min(distances, default=(most + 1, 0))
        return -number if distance <= most else None


def continuous(
    container: Any, kind: Kind, wanted: Iterable[Any], leader: Any, jumps: list[ClockJump]
) -> Iterator[Any]:
    """The packets of some streams of a file on its continuous clock.

    Args:
        container: open, and nothing demuxed yet.
        leader: the stream whose jumps count: the video. It is read along when it is not wanted.
        jumps: takes what was bridged, while it is read.
    """
    streams = list(wanted)
    if kind.demuxer not in CLOCK_STARTS_ANYWHERE:
        yield from container.demux(streams)
        return
    clock = _Clock(kind, leader.index)
    clock.jumps = jumps
    held: list[Any] = []
    indices = {stream.index for stream in streams}
    for packet in container.demux([*streams, *([] if leader.index in indices else [leader])]):
        if held and (not packet.size or len(held) > _MOST_HELD or all(map(clock.is_ready, held))):
            for waiting in held:
                clock.correct(waiting)
                yield waiting
            held.clear()
        follows = packet.size and packet.stream.index != leader.index
        if follows and (held or not clock.is_ready(packet)):
            held.append(packet)
            continue
        clock.correct(packet)
        if packet.stream.index in indices:
            yield packet


class DisplayOrder:
    """Times of frames whose container only says when packets are decoded (AVI): the n-th frame that
    is shown takes the n-th time. A packet that gives no frame leaves its time to the frame before
    it."""

    def __init__(self, reordered: int) -> None:
        self.reordered = reordered
        """Packets that may come before one whose frame is shown earlier."""
        self._times: list[int] = []
        self._inside: list[int] = []
        """Numbers of the packets that have given no frame yet."""
        self._count = 0
        self._last = -1

    def number(self, packet: Any) -> None:
        """Puts the packet's number where its timestamps were: the frame will have it."""
        dts = self._last + 1 if packet.dts is None else packet.dts
        self._last = dts
        self._times.append(dts)
        self._inside.append(self._count)
        packet.pts, packet.dts = self._count, None
        self._count += 1

    def time_of(self, number: int | None) -> int | None:
        """The time of the frame that is shown next, by the number of its packet."""
        if number is None or number not in self._inside:
            return self._times.pop(0) if self._times else None
        for gone in [one for one in self._inside if one < number - self.reordered]:
            self._inside.remove(gone)
            del self._times[:1]
        self._inside.remove(number)
        return self._times.pop(0)


class EndToEnd:
    """Times of frames of which only the durations are known (video without a container): each
    begins where the one before ends. A soft telecine's are shown for two and three fields in turn.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        """Ticks of a frame by the stream's rate. A packet with one field of two says half of it."""
        self._next = 0

    def time_of(self, duration: int | None) -> int:
        """The time of the frame that is shown next, by its own duration."""
        at = self._next
        self._next += max(self._step, duration or 0)
        return at
