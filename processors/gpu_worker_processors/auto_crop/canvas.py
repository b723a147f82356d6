"""One frame through its window: the planes of a decoded image in, the planes of the output out.

The window is measured in the upright image with square pixels; from there it goes straight to the
decoder's own samples: rotation, mirroring, the shape of the source's pixels and the position of its
chroma samples are all part of one sampling, of Y, Cb and Cr each for itself. There is no trip
through RGB, but for a source that is RGB. Chroma is taken, and made, co-sited with the left luma
sample and centred between rows, as everywhere in this project (`media.color_tensors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from gpu_worker_client.protocol.auto_crop import Layout
from gpu_worker_processors.auto_crop.resample import Axis, Floats, Samples, resampled
from gpu_worker_processors.auto_crop.windows import SAME_ASPECT
from gpu_worker_processors.media.color import LUMA_WEIGHTS, ColorTags, levels
from gpu_worker_processors.media.frame import Frame, Plane
from gpu_worker_processors.media.probe import VideoInfo

_BLUR_PARTS = 24
"""Samples of the blurred background across the output's shorter side: what is narrower than that
cannot be made out."""
_BLUR_SIGMA = 1.0
"""The standard deviation of the Gaussian blur, in those samples."""
_BACKGROUND_LIGHT = 0.6
"""The background beside the image is dimmed to this share, so that the eye stays on the image."""

Window = tuple[float, float, float, float]
"""x, y, width, height in square pixels of the upright source."""


@dataclass(frozen=True)
class Canvas:
    """The image to make."""

    width: int
    """Even."""
    height: int
    tags: ColorTags
    """What its numbers mean."""
    bits: int
    half_height: bool
    """4:2:0 when true, 4:2:2 otherwise."""

    def axes(self, *, chroma: bool) -> tuple[Axis, Axis]:
        """Rows and columns of a plane."""
        if not chroma:
            return Axis(self.height, 0.5, 1), Axis(self.width, 0.5, 1)
        rows = Axis(self.height // 2, 1, 2) if self.half_height else Axis(self.height, 0.5, 1)
        return rows, Axis(self.width // 2, 0.5, 2)


def square_size(video: VideoInfo) -> tuple[int, int]:
    """Width and height of the upright image in square pixels: the height stays."""
    return max(1, round(video.width * video.sar)), video.height


class Placing(NamedTuple):
    """How a window lies on the output along one axis."""

    start: float
    """The source's position at the output's near edge; it may lie outside the window."""
    scale: float
    """Source pixels per output pixel."""
    margin: float
    """Output pixels on each side that are left for the background."""


def placed(window: Window, size: tuple[int, int], layout: Layout) -> tuple[Placing, Placing]:
    """Across and down, on an output of `size`, width and height."""
    x, y, width, height = window
    across, down = width / size[0], height / size[1]
    if abs(across / down - 1) > SAME_ASPECT:
        across = down = min(across, down) if layout == "crop" else max(across, down)
    return _axis(x, width, across, size[0]), _axis(y, height, down, size[1])


def _axis(start: float, length: float, scale: float, size: int) -> Placing:
    free = size - length / scale
    return Placing(start - free / 2 * scale, scale, max(0.0, free / 2))


class FrameCropper:
    """Makes the output's frames of one video.

    Args:
        video: the stream the images are of.
        tags: what its numbers mean.
        canvas: what to make.
    """

    def __init__(self, video: VideoInfo, tags: ColorTags, canvas: Canvas) -> None:
        self._video = video
        self._canvas = canvas
        self._source_tags = tags
        self._upright_scale = video.width / square_size(video)[0]

    def __call__(self, frame: Frame, window: Window, layout: Layout) -> list[Plane]:
        """Y, Cb, Cr as the encoder wants them.

        Args:
            window: what to show. One that has the output's aspect ratio fills it, whatever the
                layout.
            layout: of any other: `crop` its middle, else the whole of it over a background.
        """
        canvas = self._canvas
        source = self._planes(frame)
        (left, across, side), (top, down, above) = placed(
            window, (canvas.width, canvas.height), layout
        )
        # The image's own edges come to lie on whole pairs of pixels; what is in it stays where it
        # belongs.
        columns, rows = (2 * round(margin / 2) for margin in (side, above))
        inner = (rows, canvas.height - rows), (columns, canvas.width - columns)
        planes: list[Plane] = []
        for index in range(3):
            wanted_rows, wanted_columns = canvas.axes(chroma=index > 0)
            part_rows, part_columns = wanted_rows.part(*inner[0]), wanted_columns.part(*inner[1])
            sample = source[index]
            values = self._sampled(
                sample, part_rows.mapped(top, down), part_columns.mapped(left, across)
            )
            coded = self._coded(values, index, frame)
            if rows or columns:
                whole = self._background(source, index, frame, window, layout)
                at_row, at_column = (
                    round(rows / wanted_rows.step),
                    round(columns / wanted_columns.step),
                )
                whole[at_row : at_row + len(coded), at_column : at_column + coded.shape[1]] = coded
                coded = whole
            planes.append(coded)
        return planes

    def _planes(self, frame: Frame) -> list[_Plane]:
        """Three planes, each with its position in the coded image."""
        video = self._video
        samples: Sequence[Samples] = frame.planes
        if frame.is_rgb:
            samples = _ycbcr(samples, frame.bits, self._source_tags)
        if len(samples) == 1:
            middle = np.full(
                (1, 1), levels(frame.bits, self._source_tags.full_range)[2], np.float32
            )
            samples = [samples[0], middle, middle]
        return [_Plane.of(plane, video.coded_width, video.coded_height) for plane in samples]

    def _sampled(self, plane: _Plane, rows: Axis, columns: Axis) -> Samples:
        """Values at positions in the upright image in square pixels."""
        video = self._video
        upright = plane.upright(video)
        return resampled(
            upright.samples,
            upright.rows,
            upright.columns,
            rows,
            columns.mapped(0, self._upright_scale),
        )

    def _coded(self, values: Samples, index: int, frame: Frame) -> Plane:
        """Rounded to the output's code values."""
        canvas = self._canvas
        dtype = np.uint8 if canvas.bits == 8 else np.uint16
        gain, offset = _change(
            index, frame.bits, self._source_tags.full_range, canvas.bits, canvas.tags.full_range
        )
        if values.dtype == dtype and gain == 1 and offset == 0:
            return values
        if canvas.bits == 8 and values.dtype == np.float32:  # rounds and saturates in one pass
            return cv2.addWeighted(values, gain, values, 0, offset, dtype=cv2.CV_8U)  # pyright: ignore[reportReturnType]
        scaled = values if gain == 1 else values * np.float32(gain)
        scaled = np.add(
            scaled, offset + 0.5, dtype=np.float32
        )  # a new array: the values may be the source's own
        np.clip(scaled, 0, (1 << canvas.bits) - 1 + 0.5, out=scaled)
        return scaled.astype(dtype)

    def _background(
        self, source: Sequence[_Plane], index: int, frame: Frame, window: Window, layout: Layout
    ) -> Plane:
        """The whole canvas behind an image that does not fill it."""
        canvas = self._canvas
        rows, columns = canvas.axes(chroma=index > 0)
        black, _, middle, _ = levels(canvas.bits, canvas.tags.full_range)
        base = black if index == 0 else middle
        dtype = np.uint8 if canvas.bits == 8 else np.uint16
        if layout == "pad":
            return np.full((rows.count, columns.count), round(base), dtype)
        (left, across, _), (top, down, _) = placed(window, (canvas.width, canvas.height), "crop")
        unit = min(canvas.width, canvas.height) / _BLUR_PARTS
        small_rows, small_columns = (_coarse(size, unit) for size in (canvas.height, canvas.width))
        small = self._sampled(
            source[index], small_rows.mapped(top, down), small_columns.mapped(left, across)
        )
        coded: Floats = self._coded(small, index, frame).astype(np.float32)
        soft = cv2.GaussianBlur(coded, (0, 0), _BLUR_SIGMA, borderType=cv2.BORDER_REPLICATE)
        large = cv2.resize(soft, (columns.count, rows.count), interpolation=cv2.INTER_CUBIC)
        dimmed = base + (large - np.float32(base)) * np.float32(_BACKGROUND_LIGHT)
        return np.clip(dimmed + 0.5, 0, (1 << canvas.bits) - 1 + 0.5).astype(dtype)


def _coarse(size: int, unit: float) -> Axis:
    count = max(2, round(size / unit))
    return Axis(count, size / count / 2, size / count)


@dataclass(frozen=True)
class _Plane:
    """Samples and where they lie in the frame."""

    samples: Samples
    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, samples: Samples, width: int, height: int) -> _Plane:
        """A plane of a coded image of that size; fewer samples than pixels are chroma."""
        down, across = (
            _step(length, count)
            for length, count in zip((height, width), samples.shape, strict=True)
        )
        return cls(
            samples, Axis(samples.shape[0], down / 2, down), Axis(samples.shape[1], 0.5, across)
        )

    def upright(self, video: VideoInfo) -> _Plane:
        """Turned and mirrored as the stream says: views."""
        samples, rows, columns = self.samples, self.rows, self.columns
        width, height = video.coded_width, video.coded_height
        for _ in range(
            video.rotation // 90
        ):  # a quarter clockwise: the last row becomes the first column
            samples, rows, columns = np.rot90(samples, -1), columns, rows.flipped(height)
            width, height = height, width
        if video.mirrored:
            samples, columns = samples[:, ::-1], columns.flipped(width)
        return _Plane(samples, rows, columns)


def _step(length: int, count: int) -> int:
    return -(-length // count)


def _change(
    index: int, bits: int, full: bool, new_bits: int, new_full: bool
) -> tuple[float, float]:
    """Factor and addend from code values of one depth and range to those of another."""
    if (bits, full) == (new_bits, new_full):
        return 1.0, 0.0
    black, luma, middle, chroma = levels(bits, full)
    new_black, new_luma, new_middle, new_chroma = levels(new_bits, new_full)
    if index == 0:
        return new_luma / luma, new_black - black * new_luma / luma
    return new_chroma / chroma, new_middle - middle * new_chroma / chroma


def _ycbcr(rgb: Sequence[Samples], bits: int, tags: ColorTags) -> list[Samples]:
    """R, G, B of full range as Y, Cb, Cr float32 in the code values of `tags` at that depth."""
    red, green, blue = (plane.astype(np.float32) / np.float32((1 << bits) - 1) for plane in rgb)
    kr, kb = LUMA_WEIGHTS[tags.matrix]
    black, luma, middle, chroma = levels(bits, tags.full_range)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    return [black + luma * y, middle + chroma * cb, middle + chroma * cr]
