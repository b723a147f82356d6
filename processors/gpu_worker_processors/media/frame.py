"""Frames as arrays: the planes of a decoded frame without copying them, and a frame to encode from
planes.

Reads any software pixel format FFmpeg decodes to. Formats that are not plain planes (palettes,
packed, big-endian, P010) are rearranged by libswscale without changing matrix or range. Alpha is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from gpu_worker_processors.media.color import ColorTags

Plane = NDArray[np.unsignedinteger[Any]]
"""Samples of one plane, shape (height, width), uint8 or uint16."""
_PLAIN = re.compile(
    r"(?:yuvj?|yuva)4\d\dp(?:(?:9|1\d)le)?|gbra?p(?:(?:9|1\d)le)?|gray(?:(?:9|1\d)le)?|nv12|nv21"
)
_SUBSAMPLING = {
    (4, 4): "420",
    (4, 8): "422",
    (8, 8): "444",
    (8, 4): "440",
    (2, 8): "411",
    (2, 2): "410",
}
"""Size of the chroma planes of an 8x8 frame -> what FFmpeg calls it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The samples of one frame, and when it is shown."""

    planes: tuple[Plane, ...]
    """Y, Cb, Cr; or only Y; or R, G, B: arrays (height, width), chroma subsampled. Views into the
    decoder's memory."""
    bits: int
    """Depth of the code values, 8 to 16."""
    is_rgb: bool
    pts: int = 0
    """Ticks of `VideoInfo.time_base`."""
    duration: int = 0
    """Ticks; 0 when not known."""

    def same_as(self, other: Frame) -> bool:
        """Whether every sample is equal."""
        return (
            self.bits == other.bits
            and len(self.planes) == len(other.planes)
            and all(np.array_equal(a, b) for a, b in zip(self.planes, other.planes, strict=True))
        )


class PlaneReader:
    """Reads the planes of decoded frames. Use one for each stream: it holds the rearranging context
    between frames."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, pts: int = 0, duration: int = 0) -> Frame:
        name = frame.format.name
        if not _PLAIN.fullmatch(name):
            name = plain_format(frame.format)
            frame = self._reformatter.reformat(frame, format=name)
        bits = frame.format.components[0].bits
        dtype = np.uint8 if bits == 8 else np.uint16
        planes = [_view(plane, dtype) for plane in frame.planes]
        if name.startswith("gbr"):
            return Frame((planes[2], planes[0], planes[1]), bits, True, pts, duration)
        if name in ("nv12", "nv21"):
            width = frame.format.chroma_width(frame.width)
            pair = np.frombuffer(frame.planes[1], np.uint8)  # type: ignore[call-overload]
            pair = pair.reshape(-1, frame.planes[1].line_size)[:, : 2 * width]
            first, second = (0, 1) if name == "nv12" else (1, 0)
            chroma = pair[:, first::2], pair[:, second::2]
            return Frame((planes[0], *chroma), bits, False, pts, duration)
        used = planes[:1] if name.startswith("gray") else planes[:3]
        return Frame(tuple(used), bits, False, pts, duration)


def luma(frame: av.VideoFrame) -> Plane | None:
    """The samples of its first plane, a view; None of a format that has no plane of luma."""
    name = frame.format.name
    if not _PLAIN.fullmatch(name) or name.startswith("gbr"):
        return None
    return _view(frame.planes[0], np.uint8 if frame.format.components[0].bits == 8 else np.uint16)


def plain_format(fmt: av.VideoFormat) -> str:
    """The format made of plain planes that holds everything `fmt` holds but alpha."""
    bits = max(component.bits for component in fmt.components)
    suffix = "" if bits <= 8 else f"{bits if bits in (9, 10, 12, 14) else 16}le"
    if fmt.is_rgb or fmt.has_palette:
        return f"gbrp{suffix}"
    if not any(component.is_chroma for component in fmt.components):
        return f"gray{suffix}"
    return f"yuv{_SUBSAMPLING[fmt.chroma_width(8), fmt.chroma_height(8)]}p{suffix}"


def side_data(frame: av.VideoFrame, kind: SideDataType) -> bytes | None:
    """The side data of that kind, None where there is none, or some that PyAV does not know."""
    try:
        return bytes(cast(Any, frame.side_data)[kind])  # PyAV's stub knows no item of it
    except (KeyError, ValueError):
        return None


def has_alpha(pix_fmt: str) -> bool:
    """Whether the format carries transparency."""
    return any(component.is_alpha for component in av.VideoFormat(pix_fmt, 16, 16).components)


def chroma_is_finer_than_420(pix_fmt: str) -> bool:
    """Whether the format has more colour samples than one for each 2x2 pixels."""
    fmt = av.VideoFormat(pix_fmt, 16, 16)
    has_color = (
        fmt.is_rgb or fmt.has_palette or any(component.is_chroma for component in fmt.components)
    )
    return has_color and fmt.chroma_width(16) * fmt.chroma_height(16) > 64


def make_frame(
    planes: Sequence[Plane],
    pix_fmt: str,
    tags: ColorTags,
    blank: Callable[[int, int, str], av.VideoFrame] = av.VideoFrame,
) -> av.VideoFrame:
    """A frame of `pix_fmt` (planar 8 to 16 bit, or p010le) with these samples, tagged.

    Args:
        blank: makes the frame to fill, by width, height and format.
    """
    height, width = planes[0].shape
    frame = blank(width, height, "yuv420p10le" if pix_fmt == "p010le" else pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        _view(plane, samples.dtype.type)[:] = samples
    if pix_fmt == "p010le":
        frame = frame.reformat(format=pix_fmt)
    frame.colorspace, frame.color_primaries = tags.matrix, tags.primaries
    frame.color_trc, frame.color_range = tags.transfer, tags.range
    return frame


def _view(plane: VideoPlane, dtype: type[np.unsignedinteger[Any]]) -> Plane:
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)  # type: ignore[call-overload]
    return rows[:, : plane.width]
