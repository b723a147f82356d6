"""The upscale pipe: decoder, network and encoder overlapping, every frame accounted for.

Frames out equal frames in, each with its own timestamp; a frame equal to the one before it, sample
for sample, is computed once and written twice. Memory does not depend on the length of the video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.decode import DecodedFrame
from gpu_worker_processors.media.encode import VideoWriter
from gpu_worker_processors.media.frame import Picture, PictureReader
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.media.threads import drained, grouped, mapped, prefetched
from gpu_worker_processors.upscale.enlarge import Planes

DECODED_AHEAD = 4
"""Frames decoded before the network asks for them."""
ENCODED_BEHIND = 3
"""Frames the network may be ahead of the encoder. At 4x a frame has 16 times the input's samples,
so few."""


@dataclass(frozen=True)
class Source:
    """A decoded frame on its way to the network."""

    pts: int
    duration: int
    picture: Picture | None
    """None: equal to the picture before."""


@dataclass(frozen=True)
class Finished:
    """A frame on its way to the encoder."""

    pts: int
    duration: int
    planes: Planes


@dataclass(frozen=True)
class Counts:
    frames: int
    reused: int
    first_pts: int
    last_pts: int
    last_duration: int
    """Ticks the last frame is shown; 0 when not known."""

    def duration_seconds(self, video: VideoInfo) -> float:
        """From the first frame's appearance to the last one's end."""
        last = self.last_duration * video.time_base or 1 / video.fps
        return float((self.last_pts - self.first_pts) * video.time_base + last)


def run_pipe(
    decoded: Iterable[DecodedFrame],
    enlarge: Callable[[Sequence[Picture]], list[Planes]],
    writer: VideoWriter,
    *,
    batch: int = 1,
    lanes: int = 1,
    reuse_identical: bool = True,
    progress: Callable[[int], object] = bool,
) -> Counts:
    """Moves every frame from the decoder through `enlarge` into `writer`.

    Args:
        enlarge: pictures -> planes of the output, one for each.
        batch: pictures handed to `enlarge` at once.
        lanes: calls of `enlarge` that run side by side, each in a thread of its own. The order of
            the frames stays.
        progress: told the number of frames finished by the network.

    Raises:
        TaskError: of whichever stage failed first; `output_invalid` when the counts of frames in
            and out differ.
    """
    done = reused = 0
    first: Source | None = None
    last: Source | None = None
    planes: Planes | None = None
    threads = torch.get_num_threads()  # of this thread; a new one would take all cores

    def compute(group: list[Source]) -> tuple[list[Source], list[Planes]]:
        pictures = [source.picture for source in group if source.picture is not None]
        return group, enlarge(pictures) if pictures else []

    def write(frame: Finished) -> None:
        writer.write(frame.planes.samples(), frame.pts, frame.duration)

    with (
        prefetched(
            _sources(decoded, reuse_identical), max(DECODED_AHEAD, 2 * batch * lanes)
        ) as sources,
        drained(write, max(ENCODED_BEHIND, batch)) as put,
    ):
        for group, enlarged in mapped(
            grouped(sources, batch), compute, lanes, start=partial(torch.set_num_threads, threads)
        ):
            results = iter(enlarged)
            for source in group:
                planes = planes if source.picture is None else next(results)
                assert planes is not None, "the first frame is never a repetition"
                reused += source.picture is None
                first, last = first or source, source
                put(Finished(source.pts, source.duration, planes))
                done += 1
                progress(done)
    if first is None or last is None or writer.frames != done:
        raise TaskError(
            ErrorCode.output_invalid,
            f"{done} frames went in and {writer.frames} came out; please report it",
        )
    return Counts(done, reused, first.pts, last.pts, last.duration)


def _sources(decoded: Iterable[DecodedFrame], reuse_identical: bool) -> Iterator[Source]:
    read = PictureReader()
    before: Picture | None = None
    for frame in decoded:
        picture = read(frame.frame)
        same = reuse_identical and before is not None and picture.same_as(before)
        yield Source(frame.pts, frame.frame.duration or 0, None if same else picture)
        before = picture
