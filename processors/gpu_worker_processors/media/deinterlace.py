"""Interlaced frames made whole before they are enlarged, cropped or drawn on: bwdif, one frame out
for each frame in, timestamps untouched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.filter.graph import Graph

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.media.captions import Captions
from gpu_worker_processors.media.combing import CombingFinder
from gpu_worker_processors.media.decode import DecodedFrame, FrameReader

_JOINED_FRAMES = 12
"""Combed frames nearer to each other are one span: telecine combs two of five."""
_MOST_SPANS = 20
"""Named in the warning; more would be a report, not a warning."""


class WholeFrames:
    """The frames of a reader, each interlaced one turned into a whole frame: those that the stream
    marks, and those on which combing is seen. All other frames are the decoder's own: a stream may
    change midway, as broadcasts and telecine do. Frames come out one late, none is lost and none is
    added."""

    def __init__(self, reader: FrameReader) -> None:
        self.captions = Captions()
        """For the writer of these frames."""
        self._reader = reader
        self._frames = self._marked = 0
        self._combed: list[int] = []

    def __iter__(self) -> Iterator[DecodedFrame]:
        self._frames = self._marked = 0
        self._combed = []
        find_combing = CombingFinder()
        join = _FieldJoiner(self._reader.video.time_base)
        for before, decoded, after in _with_neighbours(self._reader):
            frame = decoded.frame
            self._frames += 1
            self.captions.take(frame, decoded.pts)
            if frame.interlaced_frame:
                self._marked += 1
                parity = "auto"
            else:
                parity = find_combing(before and before.frame, frame, after and after.frame)
                if parity is None:
                    yield decoded
                    continue
                self._combed.append(decoded.index)
            yield replace(decoded, frame=join(parity, before, decoded, after))

    @property
    def warnings(self) -> list[ResultWarning]:
        """What the caller of a task should know of the frames, once all of them were read."""
        return [*self.changes, *self._reader.warnings]

    @property
    def changes(self) -> list[ResultWarning]:
        """Those warnings that concern a video made of these frames."""
        found: list[tuple[str, str]] = []
        joined = "the fields were joined to whole frames (bwdif)"
        if self._marked:
            share = "" if self._marked == self._frames else f" in {self._marked} of its frames"
            found.append(("deinterlaced", f"the video is interlaced{share}; {joined}"))
        if self._combed:
            what = f"{len(self._combed)} frames are interlaced and not marked as such"
            found.append(("deinterlaced", f"{what} ({_spans(self._combed)}); {joined}"))
        return [ResultWarning(code=code, message=message) for code, message in found]


class _FieldJoiner:
    """bwdif on single frames of a video and their neighbours; it goes on where the next frame
    follows, else it starts anew."""

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._graph: Any = None
        self._parity = ""
        self._pushed = -1
        """Index of the last frame that the graph has."""

    def __call__(
        self,
        parity: str,
        before: DecodedFrame | None,
        decoded: DecodedFrame,
        after: DecodedFrame | None,
    ) -> av.VideoFrame:
        """The frame made whole.

        Args:
            parity: `auto`, as the frame is marked, or the order of its fields.
        """
        if parity != self._parity or decoded.index != self._pushed:
            self._start(parity, before, decoded)
        if after is None:
            self._graph.vpush(None)
        else:
            self._push(after)
        return self._graph.vpull()

    def _start(self, parity: str, before: DecodedFrame | None, decoded: DecodedFrame) -> None:
        self._parity = parity
        self._graph = _graph(decoded.frame, self._time_base, parity)
        if before is not None:
            self._push(before)
        self._push(decoded)
        if before is not None:
            self._graph.vpull()  # the frame before, made whole as well

    def _push(self, decoded: DecodedFrame) -> None:
        frame = decoded.frame
        frame.pts, frame.time_base = decoded.pts, self._time_base
        self._graph.vpush(frame)
        self._pushed = decoded.index


def _with_neighbours(
    frames: Iterable[DecodedFrame],
) -> Iterator[tuple[DecodedFrame | None, DecodedFrame, DecodedFrame | None]]:
    before: DecodedFrame | None = None
    held: DecodedFrame | None = None
    for after in frames:
        if held is not None:
            yield before, held, after
        before, held = held, after
    if held is not None:
        yield before, held, None


def _spans(frames: Iterable[int]) -> str:
    """ "3-40, 96": the frames by index, those near to each other as one span."""
    spans: list[list[int]] = []
    for index in frames:
        if spans and index - spans[-1][-1] <= _JOINED_FRAMES:
            spans[-1][1:] = [index]
        else:
            spans.append([index])
    named = ["-".join(map(str, span)) for span in spans[:_MOST_SPANS]]
    more = [f"and {len(spans) - _MOST_SPANS} more"] if len(spans) > _MOST_SPANS else []
    return "frame index " + ", ".join(named + more)


def _graph(frame: av.VideoFrame, time_base: Fraction, parity: str) -> Graph:
    graph = Graph()
    which = "interlaced" if parity == "auto" else "all"
    nodes = (
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        ),
        graph.add("bwdif", mode="send_frame", parity=parity, deint=which),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph
