"""What a splitter must know of a video: the time of every frame, and before which frames it may be
cut.

The file is read once, its packets are read and none but the first is decoded. A cut is allowed
before a key frame that starts decoding anew and that no frame crosses: everything before it in the
file is shown before it, everything after it later. So open GOPs are never cut,
whatever the codec. What cannot be cut exactly is refused, before anything is paid.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import av
from av.bitstream import BitStreamFilterContext
from av.error import FFmpegError
from av.stream import Disposition

from gpu_worker_client._blocking import checkpoint
from gpu_worker_client.protocol.errors import GpuWorkerError

EPOCH_FORMATS = frozenset({"mpegts", "mpeg", "flv", "ogg"})
"""Formats whose clock starts anywhere: their first timestamp becomes 0. In any other format 0
is meant, and a late start stays."""
_BROADCAST = frozenset({"mpegts", "mpeg"})
"""Formats in which a long step of the clock is a jump; in any other it is a pause."""
_BACK_SECONDS, _AHEAD_SECONDS = 0.1, 10
"""Steps of the decoding times that are a jump of the clock: ffmpeg's own numbers
(fftools/ffmpeg_demux.c, `-dts_delta_threshold`)."""
STARTS_ANEW = {"h264": "5", "hevc": "16-21"}
"""NAL units of a frame that decoding can start with (ITU-T H.264 and H.265, table 7-1). H.264: an
IDR frame, and no other, promises that no later frame refers to one before it. H.265: BLA, IDR and
CRA frames; leading frames of a CRA, which may refer back, are known by their timestamps. The key
frames of other codecs are believed."""

Reason = Literal[
    "unreadable",
    "no_video",
    "no_timestamps",
    "damaged",
    "clock_jump",
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
"""What stands in the way, for a program to branch on. Of the source: docs/split.md, "What is
refused". Of what came back:

- `frames_differ`: a worker wrote another number of frames than its segment has.
- `segments_differ`: the segments' formats differ; their workers' encoders do, perhaps.
- `container`: the output's container does not hold the joined video.
- `output_invalid`: the joined file is not what it should be; there is no output.
- `source_changed`: the source is not the file that was planned.
"""


class SplitError(GpuWorkerError):
    """The video cannot be split, or its parts cannot be joined."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@contextmanager
def ffmpeg_errors_as(reason: Reason, message: str) -> Generator[None, None, None]:
    """A block in which FFmpeg's errors are `SplitError`s."""
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise SplitError(reason, f"{message}: {cause}") from error


@dataclass(frozen=True)
class SourceVideo:
    """What was read of a video."""

    path: Path
    size_bytes: int
    stream_index: int
    width: int
    """Pixels, as stored: before a rotation by the player."""
    height: int
    time_base: Fraction
    """Seconds per tick."""
    pts: Sequence[int] = field(repr=False)
    """Ticks, of every frame in the order they are shown; strictly rising."""
    last_duration: int
    """Ticks that the last frame is shown."""
    coded: Sequence[int] = field(repr=False)
    """The same in the order of the file."""
    cuts: Sequence[int] = field(repr=False)
    """Numbers of the frames that a segment may start with, rising; the first is 0."""
    origin_seconds: Fraction
    """Point of the file's clock that is 0 in the output."""
    interlaced: bool

    @property
    def frames(self) -> int:
        return len(self.pts)

    @property
    def end(self) -> int:
        """Ticks at which the last frame ends."""
        return self.pts[-1] + self.last_duration

    @property
    def duration_seconds(self) -> float:
        return float((self.end - self.pts[0]) * self.time_base)

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return self.frames / self.duration_seconds


def read_source(path: Path) -> SourceVideo:
    """Reads the packets of a video file.

    Raises:
        FileNotFoundError: there is no such file.
        SplitError: `unreadable`, `no_video`, `damaged`, `no_timestamps`, `clock_jump`, `edit_list`,
            `no_keyframe`.
    """
    path.stat()  # a file that is not there is no damaged video
    with ffmpeg_errors_as("unreadable", f"{path.name} cannot be read as a video"):
        with av.open(str(path)) as container:
            frame = next(iter(container.decode(picked_video(container))), None)
        if frame is None:
            raise SplitError("no_video", "the video stream holds no frame")
        with av.open(str(path)) as container:
            return _scan(path, container, interlaced=bool(frame.interlaced_frame))


def picked_video(container: Any) -> Any:
    """The stream that a worker takes: the first video that is no cover image. Raises SplitError
    `no_video`."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise SplitError("no_video", "the file holds no video stream")


def packets_of(container: Any, streams: Any = None) -> Iterator[Any]:
    """The packets of the streams, or of all, but for the empty ones that end them. Each is a point
    to stop at."""
    for packet in container.demux(streams):
        checkpoint()
        if packet.size:
            yield packet


def _scan(path: Path, container: Any, *, interlaced: bool) -> SourceVideo:
    """Every packet once, in the order of the file."""
    stream = picked_video(container)
    nal_types = STARTS_ANEW.get(stream.codec_context.codec.canonical_name)
    name = "null" if nal_types is None else f"filter_units=pass_types={nal_types}"
    refreshes = BitStreamFilterContext(name, stream)
    coded: array[int] = array("q")
    anew: list[int] = []
    formats = set(container.format.name.split(","))
    most_ahead = _AHEAD_SECONDS if formats & _BROADCAST else float("inf")
    last, coded_ticks, decoded = (0, 0), 0, None
    for packet in packets_of(container, stream):
        _check(packet)
        if decoded is not None and packet.dts is not None:
            step = (packet.dts - decoded) * stream.time_base
            if not -_BACK_SECONDS <= step <= most_ahead:
                jump = f"the file's clock jumps by {float(step):+.3f} s"
                raise SplitError("clock_jump", f"{jump}; run it unsplit, which bridges the jump")
        decoded = packet.dts
        coded_ticks += packet.duration or 0
        last = max(last, (packet.pts, packet.duration or 0))
        coded.append(packet.pts)
        if packet.is_keyframe and refreshes.filter(packet):  # which empties the packet
            anew.append(len(coded) - 1)
    start = container.start_time if EPOCH_FORMATS & formats else None
    shown = array("q", sorted(coded))
    cuts = closed_cuts(coded, anew)
    if not cuts or cuts[0] != 0:
        problem = "the first frame needs others; cut off the beginning, or run it unsplit"
        raise SplitError("no_keyframe", problem)
    if len(set(shown)) < len(shown):
        problem = "two frames have one time; remux to .mkv, or run it unsplit"
        raise SplitError("no_timestamps", problem)
    listed = min(stream.duration or 0, coded_ticks)
    if "mov" in formats and shown[0] + listed > shown[-1]:
        # The duration of the packet is the time to the next one in the order of the file.
        last = (shown[-1], shown[0] + listed - shown[-1])
    return SourceVideo(
        path=path,
        size_bytes=path.stat().st_size,
        stream_index=stream.index,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        time_base=stream.time_base,
        pts=shown,
        last_duration=last[1] or _usual_step(shown),
        coded=coded,
        cuts=cuts,
        origin_seconds=Fraction(start or 0, av.time_base),
        interlaced=interlaced,
    )


def _check(packet: Any) -> None:
    if packet.is_corrupt:
        raise SplitError("damaged", "the file is damaged; repair it, or run it unsplit")
    if packet.is_discard:
        problem = "an edit list hides frames; remux without it, or run it unsplit"
        raise SplitError("edit_list", problem)
    if packet.pts is None:
        raise SplitError("no_timestamps", "a frame has no time; remux to .mkv, or run it unsplit")


def closed_cuts(coded: Sequence[int], anew: Sequence[int]) -> list[int]:
    """The positions of `anew`, at which decoding can start, whose frame is shown after all before
    it in the file and before all after it. There the order of the file and the order of showing
    agree, so a position is a frame's number too. `coded` are timestamps in the order of the file.
    """
    latest_before = [-(2**63), *accumulate(coded, max)]
    earliest_after = list(accumulate(reversed(coded), min))[::-1]
    return [index for index in anew if latest_before[index] < coded[index] == earliest_after[index]]


def decode_times(coded: Sequence[int]) -> list[int]:
    """Decoding times for frames that are moved: strictly rising, and none after its frame is shown.

    An mp4 says how long a frame lasts by the distance of decoding times only. So they are the
    showing times in their order, all earlier by one lag; a frame that is shown before a pause and
    decoded after later ones comes earlier still. The first one is earlier by the lag itself.
    `coded` are the showing times in ticks, in the order of the file, each once.
    """
    shown = sorted(coded)
    delay = max(position - bisect_left(shown, pts) for position, pts in enumerate(coded))
    lag, latest, times = delay * _usual_step(shown), shown[-1], list[int]()
    for turn, pts in zip(reversed(shown), reversed(coded), strict=True):
        latest = min(turn - lag, pts, latest)
        times.append(latest)
        latest -= 1
    return times[::-1]


def _usual_step(shown: Sequence[int]) -> int:
    """The median of the distances of frames, in ticks."""
    steps = sorted(later - earlier for earlier, later in pairwise(shown))
    return steps[len(steps) // 2] if steps else 1
