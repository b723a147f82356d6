"""Colour tags: what a stream with and without them means, by the numbers of ITU-T H.273."""

from __future__ import annotations

import pytest

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.color import resolve_tags

TAG_ROWS = {
    # what the stream says: (matrix, primaries, transfer, range), height, format -> matrix,
    # primaries, transfer, full
    "untagged SD": ((2, 2, 2, 0), 576, "yuv420p", (6, 6, 6, False)),
    "untagged HD": ((2, 2, 2, 0), 720, "yuv420p", (1, 1, 1, False)),
    "just below HD": ((2, 2, 2, 0), 719, "yuv420p", (6, 6, 6, False)),
    "PAL": ((5, 2, 2, 0), 576, "yuv420p", (5, 5, 6, False)),
    "709 in SD": ((1, 2, 2, 1), 240, "yuv420p", (1, 1, 1, False)),
    "601 in HD": ((6, 6, 6, 1), 1080, "yuv420p", (6, 6, 6, False)),
    "full range": ((1, 1, 1, 2), 1080, "yuv420p", (1, 1, 1, True)),
    "old full range format": ((2, 2, 2, 0), 480, "yuvj420p", (6, 6, 6, True)),
    "PQ": ((9, 9, 16, 1), 2160, "yuv420p10le", (9, 9, 16, False)),
    "HLG without a matrix": ((2, 9, 18, 0), 480, "yuv420p10le", (9, 9, 18, False)),
    "sRGB transfer is kept": ((1, 1, 13, 1), 1080, "yuv420p", (1, 1, 13, False)),
    "RGB": ((0, 2, 2, 2), 480, "gbrp", (1, 1, 1, False)),
    "palette": ((2, 2, 2, 0), 480, "pal8", (1, 1, 1, False)),
}


@pytest.mark.parametrize("row", TAG_ROWS)
def test_missing_tags_are_filled_in_as_players_do(row: str) -> None:
    (matrix, primaries, transfer, range_), height, pix_fmt, expected = TAG_ROWS[row]
    tags = resolve_tags(matrix, primaries, transfer, range_, height=height, pix_fmt=pix_fmt)
    assert (tags.matrix, tags.primaries, tags.transfer, tags.full_range) == expected


@pytest.mark.parametrize("matrix", [8, 10, 11, 14])
def test_a_matrix_that_is_not_linear_is_refused(matrix: int) -> None:
    with pytest.raises(TaskError) as caught:
        resolve_tags(matrix, 9, 16, 1, height=2160, pix_fmt="yuv420p10le")
    assert caught.value.code == ErrorCode.unsupported_media
