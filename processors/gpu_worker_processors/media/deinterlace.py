"""Interlaced frames made whole before they are enlarged, cropped or drawn on: bwdif, one frame out
for each frame in, timestamps untouched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.error import BlockingIOError, EOFError
from av.filter.graph import Graph
from av.sidedata.sidedata import Type as SideDataType

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.media.decode import DecodedFrame, FrameReader
from gpu_worker_processors.media.frame import side_data


class WholeFrames:
    """The frames of a reader, the fields of each that the stream marks as interlaced turned into a
    whole frame. All other frames are the decoder's own: a stream may change midway, as broadcasts
    and telecine do. The filter needs the next frame, so frames come out one late, none is lost and
    none is added."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self._changed = self._frames = 0
        self._has_captions = False

    def __iter__(self) -> Iterator[DecodedFrame]:
        self._changed = self._frames = 0
        waiting: deque[DecodedFrame | None] = deque()
        graph: Graph | None = None
        before: DecodedFrame | None = None
        for decoded in self._reader:
            self._frames += 1
            self._changed += decoded.frame.interlaced_frame
            self._has_captions = self._has_captions or _has_captions(decoded.frame)
            if graph is None and not decoded.frame.interlaced_frame:
                before = decoded
                yield decoded
                continue
            if graph is None:
                graph = _graph(decoded.frame, self._reader.video.time_base)
                if before is not None:
                    self._push(graph, before)
                    waiting.append(None)
            self._push(graph, decoded)
            waiting.append(decoded)
            yield from _ready(graph, waiting)
        if graph is not None:
            graph.vpush(None)
            yield from _ready(graph, waiting)
        assert not waiting, "bwdif gives one frame for each"

    @property
    def warnings(self) -> list[ResultWarning]:
        """What the caller of a task should know of the frames, once all of them were read."""
        return [*self.changes, *self._reader.warnings]

    @property
    def changes(self) -> list[ResultWarning]:
        """Those warnings that concern a video made of these frames."""
        warnings: list[ResultWarning] = []
        if self._has_captions:
            message = "the captions inside the video stream (CEA-608/708) were left out"
            warnings.append(ResultWarning(code="captions_dropped", message=message))
        if not self._changed:
            return warnings
        share = "" if self._changed == self._frames else f" in {self._changed} of its frames"
        message = f"the video is interlaced{share}; the fields were joined to whole frames (bwdif)"
        return [ResultWarning(code="deinterlaced", message=message), *warnings]

    def _push(self, graph: Graph, decoded: DecodedFrame) -> None:
        frame = decoded.frame
        frame.pts, frame.time_base = decoded.pts, self._reader.video.time_base
        graph.vpush(frame)


def _has_captions(frame: av.VideoFrame) -> bool:
    """Whether one of its triples (CTA-708, table 3) carries data: encoders pad with empty ones."""
    triples = side_data(frame, SideDataType.A53_CC) or b""
    return any(
        triples[at] & 4 and (triples[at + 1] & 0x7F or triples[at + 2] & 0x7F)
        for at in range(0, len(triples) - 2, 3)
    )


def _graph(frame: av.VideoFrame, time_base: Fraction) -> Graph:
    graph = Graph()
    nodes = (
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        ),
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    return graph


def _ready(graph: Any, waiting: deque[DecodedFrame | None]) -> Iterator[DecodedFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        decoded = waiting.popleft()
        if decoded is not None:
            is_whole = not decoded.frame.interlaced_frame
            yield decoded if is_whole else replace(decoded, frame=frame)
