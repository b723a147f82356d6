"""Where a video is cut, and what that will cost: decided and shown before anything is uploaded."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from itertools import pairwise
from pathlib import Path

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.estimate import Estimate, estimate
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.split.source import SourceVideo, SplitError, read_source

DEFAULT_SEGMENTS = 4
LONGEST_SECONDS = 600.0
"""Segments are no longer, where key frames allow: that much work at most is done twice when a
worker dies."""
LARGEST_OUTPUT_BITS = 8 * 4.5 * 2**30
"""What a worker may write in one piece: R2 takes 4.995 GiB in one PUT, less some room for the guess
below."""
BITS_PER_PIXEL = {"prores": 3.6}
"""Codec of the output -> what it takes. ProRes 422 HQ is 220 Mbit/s at 1920x1080 and 29.97 frames/s
(Apple ProRes white paper), 3.54 bits."""
OTHER_BITS_PER_PIXEL = 0.5
"""250 Mbit/s at 3840x2160 and 60 frames/s: several times what a video takes at crf 18."""
MAX_SEGMENTS = 10_000


@dataclass(frozen=True)
class Segment:
    """Neighbouring frames that one job works on."""

    index: int
    first_frame: int
    """Number of its first frame in the whole video, from 0."""
    frames: int
    start_seconds: float
    """When its first frame is shown, on the file's clock."""
    duration_seconds: float

    @property
    def end_frame(self) -> int:
        """One after its last."""
        return self.first_frame + self.frames


@dataclass(frozen=True)
class SplitPlan:
    """What `split_upscale` will do with a file."""

    source: SourceVideo
    params: UpscaleParams
    segments: tuple[Segment, ...]
    estimate: Estimate
    """Seconds of paid work on all segments together, however many workers share it."""
    warnings: tuple[str, ...]
    """Where the joined video may differ from one that was made in one piece, as sentences."""
    gpu: str | None = None
    """The card that the estimate counts with; None is a processor."""

    @property
    def frames(self) -> int:
        return self.source.frames

    @property
    def longest_seconds(self) -> float:
        """Work on the longest segment: the least wall time, with a worker for each."""
        longest = max(segment.frames for segment in self.segments)
        return self.estimate.seconds * longest / self.frames

    def __str__(self) -> str:
        usd = self.estimate.usd
        cost = "unknown (give gpu, and perhaps prices)" if usd is None else _dollars(usd)
        head = (
            f"{self.source.path.name}: {self.frames} frames, {self.source.duration_seconds:.2f} s, "
            f"{self.source.width}x{self.source.height} in {len(self.segments)} segments\n"
            f"work {self.estimate.seconds:.1f} s ({self.estimate.basis}), cost {cost}"
        )
        rows = [
            f"{part.index:>5}  frames {part.first_frame} to {part.end_frame - 1}"
            f"  {part.start_seconds:.3f} s + {part.duration_seconds:.3f} s"
            for part in self.segments
        ]
        return "\n".join([head, *rows, *(f"note: {warning}" for warning in self.warnings)])

    def require_budget(self, max_usd: float | None) -> None:
        """Raises SplitError `budget`: the estimate is above it, or has no price."""
        if max_usd is None:
            return
        if (usd := self.estimate.usd) is None:
            raise SplitError("budget", "max_usd needs a price: give gpu, and perhaps prices")
        if not usd <= max_usd:  # so NaN is no budget either
            limit = f"max_usd, ${Decimal(str(max_usd)):f}; nothing was submitted"
            raise SplitError("budget", f"the estimate of {_dollars(usd)} is above {limit}")


def _dollars(usd: float) -> str:
    """Four significant digits, rounded up: what is above a budget also reads so. Never in powers of
    ten."""
    return f"${Context(prec=4, rounding=ROUND_CEILING).create_decimal(str(usd)):f}"


def plan_split(
    path: Path | str,
    params: UpscaleParams | None = None,
    *,
    segments: int = DEFAULT_SEGMENTS,
    gpu: str | None = None,
    prices: Mapping[str, float] | None = None,
) -> SplitPlan:
    """Reads a video and decides where to cut it. Nothing leaves this machine.

    Args:
        path: the video.
        params: of the `upscale` task.
        segments: about how many; fewer where there are not enough key frames, more where they would
            be longer than `longest_seconds`.
        gpu, prices: as of `estimate`.

    Raises:
        FileNotFoundError: there is no such file.
        SplitError: the file cannot be cut exactly; `reason` says why.
        ConfigError: `segments` is not 1 to `MAX_SEGMENTS`, or as of `estimate`.
    """
    if not 1 <= segments <= MAX_SEGMENTS:
        raise ConfigError(f"segments must be 1 to {MAX_SEGMENTS}")
    params = params or UpscaleParams()
    source = read_source(Path(path))
    wanted = max(segments, math.ceil(source.duration_seconds / longest_seconds(source, params)))
    starts = choose_cuts(source.cuts, source.frames, wanted)
    expected = estimate(
        {"task": "upscale", "params": params.model_dump()},
        width=source.width,
        height=source.height,
        fps=source.fps,
        duration_seconds=source.duration_seconds,
        gpu=gpu,
        prices=prices,
    )
    times = [*source.pts, source.end]
    parts = tuple(
        Segment(
            index,
            first,
            end - first,
            float(times[first] * source.time_base),
            float((times[end] - times[first]) * source.time_base),
        )
        for index, (first, end) in enumerate(pairwise([*starts, source.frames]))
    )
    warnings = tuple(_warnings(source, params, len(parts)))
    return SplitPlan(source, params, parts, expected, warnings, gpu)


def longest_seconds(source: SourceVideo, params: UpscaleParams) -> float:
    """Most for a segment: `LONGEST_SECONDS`, or what the output of one upload holds."""
    pixels_per_second = source.width * source.height * params.scale**2 * source.fps
    bits_per_second = pixels_per_second * BITS_PER_PIXEL.get(params.codec, OTHER_BITS_PER_PIXEL)
    return min(LONGEST_SECONDS, LARGEST_OUTPUT_BITS / bits_per_second)


def choose_cuts(allowed: Sequence[int], frames: int, segments: int) -> list[int]:
    """First frames of segments that are as equal as the allowed cuts (frame numbers, rising,
    beginning with 0) let them be; fewer than wanted where two wanted cuts share a nearest one."""
    chosen: set[int] = set()
    for wanted in (frames * number / segments for number in range(segments)):
        after = bisect_left(allowed, wanted)
        nearest = allowed[max(after - 1, 0) : after + 1]
        chosen.add(min(nearest, key=lambda number: abs(number - wanted)))
    return sorted(chosen)


def _warnings(source: SourceVideo, params: UpscaleParams, segments: int) -> Iterator[str]:
    if segments == 1:
        yield "the video has one frame to begin, its start: it cannot be shared among workers"
        return
    if params.face_enhance:
        yield "face_enhance begins anew in each segment: a face may change at a cut"
    if source.interlaced:
        yield (
            "the deinterlacer looks at a frame's neighbours: the first and last frame of a segment"
            " have one less"
        )
    if params.codec != "prores":
        yield (
            f"{params.codec} spends its bits by what came before: the frames are not bit for bit"
            " those of a video made in one piece"
        )
