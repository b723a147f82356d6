"""Interlaced frames made whole before they are enlarged: bwdif, one frame out for each frame in,
timestamps untouched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.error import BlockingIOError, EOFError
from av.filter.graph import Graph

from gpu_worker_processors.media.decode import DecodedFrame


def deinterlaced(frames: Iterable[DecodedFrame], time_base: Fraction) -> Iterator[DecodedFrame]:
    """The same frames with the fields of those that the stream marks as interlaced turned into
    whole frames. The filter needs the next frame, so frames come out one late, none is lost and
    none is added."""
    waiting: deque[DecodedFrame] = deque()
    graph: Graph | None = None
    for decoded in frames:
        frame = decoded.frame
        graph = graph or _graph(frame, time_base)
        waiting.append(decoded)
        frame.pts, frame.time_base = decoded.pts, time_base
        graph.vpush(frame)
        yield from _ready(graph, waiting)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph, waiting)
    assert not waiting, "bwdif gives one frame for each"


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


def _ready(graph: Any, waiting: deque[DecodedFrame]) -> Iterator[DecodedFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield replace(waiting.popleft(), frame=frame)
