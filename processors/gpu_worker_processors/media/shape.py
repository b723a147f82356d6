"""Decoded frames of one shape, whatever the stream does: the part that the container shows, and a
frame of another size or format than the first scaled to it."""

from __future__ import annotations

import av
from av.filter.graph import Graph
from av.video.reformatter import VideoReformatter

from gpu_worker_processors.media.cropping import Margins


class FrameShaper:
    """One for each stream: it keeps its scaler.

    Args:
        first: the first frame, as it is stored.
        margins: what of it is not shown.
    """

    def __init__(self, first: av.VideoFrame, margins: Margins) -> None:
        self.size = first.width, first.height
        """Width and height of the frames as they are stored."""
        self._pix_fmt = first.format.name
        self._margins = margins
        self._reformatter = VideoReformatter()
        self._cropper: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if self.differs(frame) or frame.format.name != self._pix_fmt:
            frame = self._reformatter.reformat(frame, *self.size, self._pix_fmt)
        return self._cropped(frame) if self._margins else frame

    def differs(self, frame: av.VideoFrame) -> bool:
        """Whether a frame has another size than the first."""
        return (frame.width, frame.height) != self.size

    def _cropped(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._cropper = self._cropper or self._graph(frame)
        self._cropper.vpush(frame)
        return self._cropper.vpull()

    def _graph(self, frame: av.VideoFrame) -> Graph:
        """FFmpeg's own way to cut: whole chroma samples, no pixel is copied."""
        left, top = self._margins.left, self._margins.top
        width = frame.width - left - self._margins.right
        height = frame.height - top - self._margins.bottom
        graph = Graph()
        nodes = (
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            ),
            graph.add("crop", f"{width}:{height}:{left}:{top}"),
            graph.add("buffersink"),
        )
        graph.link_nodes(*nodes).configure()
        return graph
