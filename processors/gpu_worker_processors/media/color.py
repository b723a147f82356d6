"""Colour, pinned on both legs: what a stream's tags mean. `color_tensors` computes with them.

The tags decide matrix and range; where a stream has none they are guessed the way players guess (by
height), and the output always says what was used, so an enlarged frame is never shown with
another matrix than its source. PQ and HLG code values pass through as they are: no tone mapping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_worker_client.protocol import ErrorCode, TaskError

# Code points of ITU-T H.273, which FFmpeg's AVCOL_* values follow.
UNSPECIFIED = 2
_UNKNOWN = (0, UNSPECIFIED, 3)
"""Not given: reserved code points count as none. In a matrix, 0 is RGB instead."""
RGB, BT709, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020_NCL = 0, 1, 4, 5, 6, 7, 9
PQ, HLG = 16, 18
LIMITED, FULL = 1, 2

LUMA_WEIGHTS = {  # matrix -> (kr, kb), H.273 table 4
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    SMPTE170M: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020_NCL: (0.2627, 0.0593),
}
# matrix -> (primaries, transfer) that a stream with this matrix and nothing else most likely has
_COMPANIONS = {
    BT709: (1, 1),
    FCC: (4, 4),
    BT470BG: (5, 6),
    SMPTE170M: (6, 6),
    SMPTE240M: (7, 7),
    BT2020_NCL: (9, 14),
}
HD_HEIGHT_PX = 720
"""Untagged frames at least this high are taken as BT.709, lower ones as BT.601: what players
do."""
_RGB_FORMATS = ("rgb", "bgr", "gbr", "pal8", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr")


@dataclass(frozen=True)
class ColorTags:
    """What the numbers of a frame mean; H.273 code points, none of them "unspecified"."""

    matrix: int
    """YUV matrix, a key of `LUMA_WEIGHTS`. An RGB source is carried as BT.709."""
    primaries: int
    transfer: int
    full_range: bool
    """0..255 rather than 16..235."""

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    @property
    def range(self) -> int:
        """AVCOL_RANGE number."""
        return FULL if self.full_range else LIMITED

    def limited(self) -> ColorTags:
        """The same colours in 16..235, for a codec that cannot say otherwise."""
        return replace(self, full_range=False)


def resolve_tags(
    matrix: int, primaries: int, transfer: int, range_: int, *, height: int, pix_fmt: str
) -> ColorTags:
    """A stream's tags with every unspecified one filled in.

    Raises:
        TaskError: `unsupported_media` for a matrix that is no linear map of R'G'B' (ICtCp, constant
            luminance).
    """
    is_rgb = pix_fmt.startswith(_RGB_FORMATS)
    if is_rgb:
        matrix = BT709
    elif matrix in _UNKNOWN:
        is_wide = transfer in (PQ, HLG) or primaries == BT2020_NCL
        matrix = BT2020_NCL if is_wide else BT709 if height >= HD_HEIGHT_PX else SMPTE170M
    if matrix not in LUMA_WEIGHTS:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"colour matrix {matrix} (number of H.273) is not supported; convert the video to"
            " BT.709 or BT.2020 first",
            matrix=matrix,
        )
    likely_primaries, likely_transfer = _COMPANIONS[matrix]
    return ColorTags(
        matrix=matrix,
        primaries=likely_primaries if primaries in _UNKNOWN else primaries,
        transfer=likely_transfer if transfer in _UNKNOWN else transfer,
        full_range=not is_rgb and (range_ == FULL or pix_fmt.startswith("yuvj")),
    )


def levels(bits: int, full_range: bool) -> tuple[float, float, float, float]:
    """(black, luma span, chroma middle, chroma span) in code values; H.273 section 8.3."""
    middle = float(1 << (bits - 1))
    if full_range:
        span = float((1 << bits) - 1)
        return 0.0, span, middle, span
    unit = 1 << (bits - 8)
    return 16.0 * unit, 219.0 * unit, middle, 224.0 * unit
