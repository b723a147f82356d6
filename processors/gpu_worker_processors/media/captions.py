"""Captions inside a video stream (CEA-608/708, as ATSC A/53 carries them): taken from the frames of
the source, and given to the encoder with the frames of the output."""

from __future__ import annotations

import av
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from gpu_worker_processors.media.frame import side_data

WRITERS = frozenset({"h264", "hevc"})
"""Codecs whose encoders write the captions of a frame (FFmpeg's `a53cc`)."""
_SMALL_PX = 16
"""Side of what is held of a frame: side data cannot be taken without pixels."""


class Captions:
    """The captions of one video, on their way from reader to writer.

    PyAV makes no side data; a frame that is scaled keeps its own.
    """

    def __init__(self) -> None:
        self.found = False
        """Some of them say something: encoders pad with empty ones."""
        self._carriers: dict[int, av.VideoFrame] = {}
        self._shrinker, self._enlarger = VideoReformatter(), VideoReformatter()

    def take(self, frame: av.VideoFrame, pts: int) -> None:
        """Holds the captions of a frame of the source until `frame` asks for them."""
        triples = side_data(frame, SideDataType.A53_CC)
        if triples is None:
            return
        self.found = self.found or _says_something(triples)
        self._carriers[pts] = self._shrinker.reformat(
            frame, _SMALL_PX, _SMALL_PX, "gray", interpolation=Interpolation.POINT
        )

    def frame(self, pts: int, width: int, height: int, pix_fmt: str) -> av.VideoFrame:
        """A frame to fill, with the captions of the source's frame of that time."""
        carrier = self._carriers.pop(pts, None)
        if carrier is None:
            return av.VideoFrame(width, height, pix_fmt)
        frame = self._enlarger.reformat(
            carrier, width, height, pix_fmt, interpolation=Interpolation.POINT
        )
        frame.pict_type = PictureType.NONE  # else x264 codes it as the source did
        return frame


def _says_something(triples: bytes) -> bool:
    """Whether one of them (CTA-708, table 3) carries data."""
    return any(
        triples[at] & 4 and (triples[at + 1] & 0x7F or triples[at + 2] & 0x7F)
        for at in range(0, len(triples) - 2, 3)
    )
