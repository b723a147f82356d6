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
from gpu_worker_processors.media.frame import Frame, PlaneReader
from gpu_worker_processors.media.probe import VideoInfo
from gpu_worker_processors.media.threads import drained, grouped, mapped, prefetched
from gpu_worker_processors.upscale.enlarge import DownloadedPlanes

DECODED_AHEAD = 4
"""Frames decoded before the network asks for them."""
ENCODED_BEHIND = 3
"""Frames the network may be ahead of the encoder. At 4x a frame has 16 times the input's samples,
so few."""


_Group = list[tuple[Frame, bool]]
"""Consecutive frames, each with whether it repeats the one before it."""


@dataclass(frozen=True)
class Counts:
    frames: int
    reused: int
    first_pts: int
    last_pts: int
    last_duration: int
    """Ticks the last frame is shown."""

    def duration_seconds(self, video: VideoInfo) -> float:
        """From the first frame's appearance to the last one's end."""
        return float((self.last_pts + self.last_duration - self.first_pts) * video.time_base)


def run_pipe(
    decoded: Iterable[DecodedFrame],
    enlarge: Callable[[Sequence[Frame]], list[DownloadedPlanes]],
    writer: VideoWriter,
    *,
    batch: int = 1,
    parallel: int = 1,
    reuse_identical: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Counts:
    """Moves every frame from the decoder through `enlarge` into `writer`.

    Args:
        enlarge: frames -> planes of the output, one for each.
        batch: frames handed to `enlarge` at once.
        parallel: calls of `enlarge` that run at the same time, each in a thread of its own. The
            order of the frames stays.
        progress: called with the number of frames that the network has finished.

    Raises:
        TaskError: of whichever step failed first; `output_invalid` when the counts of frames in
            and out differ.
    """
    done = reused = 0
    first: Frame | None = None
    last: Frame | None = None
    planes: DownloadedPlanes | None = None
    threads = torch.get_num_threads()  # of this thread; a new one would take all cores

    def compute(group: _Group) -> tuple[_Group, list[DownloadedPlanes]]:
        frames = [frame for frame, is_repeat in group if not is_repeat]
        return group, enlarge(frames) if frames else []

    def write(item: tuple[DownloadedPlanes, int, int]) -> None:
        planes, pts, duration = item
        writer.write(planes.samples(), pts, duration)

    with (
        prefetched(
            _frames(decoded, reuse_identical), max(DECODED_AHEAD, 2 * batch * parallel)
        ) as source,
        drained(write, max(ENCODED_BEHIND, batch)) as put,
    ):
        for group, enlarged in mapped(
            grouped(source, batch), compute, parallel, start=partial(torch.set_num_threads, threads)
        ):
            results = iter(enlarged)
            for frame, is_repeat in group:
                if is_repeat:
                    reused += 1
                else:
                    planes = next(results)
                assert planes is not None, "the first frame is never a repetition"
                first, last = first or frame, frame
                put((planes, frame.pts, frame.duration))
                done += 1
                if progress is not None:
                    progress(done)
    if first is None or last is None or writer.frames != done:
        raise TaskError(
            ErrorCode.output_invalid,
            f"{done} frames went in and {writer.frames} came out; please report it",
        )
    return Counts(done, reused, first.pts, last.pts, last.duration)


def _frames(decoded: Iterable[DecodedFrame], reuse_identical: bool) -> Iterator[tuple[Frame, bool]]:
    """Each frame, and whether it equals the one before it."""
    read = PlaneReader()
    before: Frame | None = None
    for item in decoded:
        frame = read(item.frame, item.pts, item.duration)
        yield frame, reuse_identical and before is not None and frame.same_as(before)
        before = frame
