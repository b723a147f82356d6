"""Tracks as columns of bytes, gzipped: what `BoxColumns` holds, losslessly.

Accepts boxes track by track, frames rising inside a track. Guarantees that writing and reading hold
one block of boxes beside what the caller keeps, and that bytes from a stranger end in `ValueError`
or in boxes within the limits below. Standard library only. The layout, all of it inside one gzip
member, numbers little-endian:

    "GWT" 1 · u16 classes · each: u8 bytes, UTF-8 name · u32 tracks · u32 boxes
    tracks, each a column over all of them: id, class, shot, boxes
    blocks of 65,536 boxes (the last is shorter), over all tracks in a row:
        frame, x1, y1, x2, y2, confidence, interpolated

A column holds, for each value, its distance from a prediction, as zigzag (0, -1, 1, -2 -> 0, 1, 2,
3), one plane after another for the lowest, second, third and highest byte: confidence has two
planes, interpolated one (0 or 1, as it is), each other column four. The prediction is the value
before (0 before the first); for a frame one more than that; for a coordinate, from the third box of
a track on, the value before plus half of its last step, rounded down. Half suits smooth paths as
well as noisy detections: on SportsMOT's training boxes with 0.5 to 3 px of noise the entropy of
the coordinates is 1.5 to 6 % lower than with no step, and 2 to 3 % lower than with three quarters
of it. The same boxes with 3 px take 5.3 bytes each.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from typing import BinaryIO, NamedTuple

from gpu_worker_client.protocol.boxes import CONFIDENCE, MAX_FRAME, MAX_PX, PX, BoxColumns

MAX_BOXES = 10_000_000
"""Nine hours of ten people at 30 frames/s; in memory 220 MB."""
MAX_TRACKS = 250_000
"""Eight new ones every second for the same nine hours."""
MAX_ID = 2**31 - 1
MAX_CLASSES = 1000
MAX_CLASS_BYTES = 255

BLOCK = 65_536
"""Boxes of one block. Smaller ones cost more, of 16,384 boxes 0.5 %, of 4,096 boxes 2.5 %."""
_MAGIC = b"GWT\x01"
_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 65_536
"""Compressed bytes handed to zlib at once: it copies what it did not consume."""


class TrackHead(NamedTuple):
    """What the boxes of one track have in common."""

    track_id: int
    class_name: str
    shot: int
    boxes: int
    """How many boxes follow."""


def write_columnar(out: BinaryIO, heads: Sequence[TrackHead], boxes: Iterable[BoxColumns]) -> None:
    """Writes tracks to an open file: `boxes` in the order of the heads, a track's in as many parts
    as they come in. Raises ValueError: more tracks or boxes than a reader takes, a head out of
    range, or other boxes than the heads announce."""
    total = sum(head.boxes for head in heads)
    _check_counts(len(heads), total)
    target = _Deflated(out)
    names = {name: n for n, name in enumerate(dict.fromkeys(h.class_name for h in heads))}
    target.put(_MAGIC + _packed_names(list(names)) + struct.pack("<II", len(heads), total))
    rows = [(head.track_id, names[head.class_name], head.shot, head.boxes) for head in heads]
    for values in zip(*rows, strict=True):
        target.column(_Column(), values)
    plan, columns = list(_plan_blocks(heads)), _columns()
    blocks = _cut(boxes, [count for count, _ in plan])
    for block, (_, starts) in zip(blocks, plan, strict=True):
        sides = [block.corners[side::4] for side in range(4)]
        every = (block.frames, *sides, block.confidences)
        for column, values in zip(columns, every, strict=True):
            target.column(column, values, starts)
        target.put(block.flags.tobytes())
    target.end()


def read_columnar(data: bytes) -> Iterator[tuple[TrackHead, BoxColumns]]:
    """The tracks in what `write_columnar` wrote, one after the other. Raises ValueError: the bytes
    are anything else, however cleverly made; at the latest when the last track was read."""
    source = _Inflated(data)
    heads = _read_heads(source, *_read_sizes(source))
    tracks = _cut(_read_blocks(source, heads), [head.boxes for head in heads])
    for head, boxes in zip(heads, tracks, strict=True):
        if any(after <= before for before, after in pairwise(boxes.frames)):
            raise ValueError("the frames of a track do not rise")
        yield head, boxes
    source.end()


def announced(data: bytes) -> tuple[int, int]:
    """How many tracks and boxes `read_columnar` would give: its first bytes say so, and it gives no
    more.

    Raises:
        ValueError: as `read_columnar`.
    """
    _, tracks, boxes = _read_sizes(_Inflated(data))
    return tracks, boxes


def _cut(parts: Iterable[BoxColumns], lengths: Iterable[int]) -> Iterator[BoxColumns]:
    """The same boxes in pieces of these lengths. Raises ValueError: they are fewer, or more."""
    source, part, at = iter(parts), BoxColumns(), 0
    for length in lengths:
        piece = BoxColumns()
        while len(piece) < length:
            if at == len(part):
                fresh = next(source, None)
                if fresh is None:
                    raise ValueError("fewer boxes than announced")
                part, at = fresh, 0
            count = min(length - len(piece), len(part) - at)
            piece.extend(part.part(at, at + count))
            at += count
        yield piece
    if at < len(part) or any(len(more) for more in source):
        raise ValueError("more boxes than announced")


def _plan_blocks(heads: Sequence[TrackHead]) -> Iterator[tuple[int, list[int]]]:
    """How many boxes each block has, and the indices in it where a track begins, rising."""
    starts = [0, *accumulate(head.boxes for head in heads if head.boxes)]
    total = starts.pop()
    for done in range(0, total, BLOCK):
        count = min(BLOCK, total - done)
        inside = starts[bisect_left(starts, done) : bisect_left(starts, done + count)]
        yield count, [start - done for start in inside]


def _check_counts(tracks: int, boxes: int) -> None:
    if tracks > MAX_TRACKS or boxes > MAX_BOXES:
        raise ValueError(f"more than {MAX_TRACKS} tracks or {MAX_BOXES} boxes")


def _packed_names(names: Sequence[str]) -> bytes:
    encoded = [name.encode() for name in names]
    if len(encoded) > MAX_CLASSES or max(map(len, encoded), default=0) > MAX_CLASS_BYTES:
        limits = f"{MAX_CLASSES} classes, or a name of more than {MAX_CLASS_BYTES} bytes"
        raise ValueError(f"more than {limits}")
    return struct.pack("<H", len(encoded)) + b"".join(bytes([len(name)]) + name for name in encoded)


def _read_sizes(source: _Inflated) -> tuple[list[str], int, int]:
    """Names of the classes, tracks, boxes."""
    if source.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("not columns of tracks, or of a newer version than this one reads")
    (classes,) = struct.unpack("<H", source.take(2))
    if classes > MAX_CLASSES:
        raise ValueError("too many classes")
    # A UnicodeDecodeError is a ValueError.
    names = [source.take(source.take(1)[0]).decode() for _ in range(classes)]
    tracks, boxes = struct.unpack("<II", source.take(8))
    _check_counts(tracks, boxes)
    return names, tracks, boxes


def _read_heads(
    source: _Inflated, names: Sequence[str], tracks: int, boxes: int
) -> list[TrackHead]:
    ids, classes_of, shots, counts = (source.column(_Column(), tracks) for _ in range(4))
    if max(classes_of, default=0) >= max(len(names), 1):
        raise ValueError("a track of no class")
    if sum(counts) != boxes:
        raise ValueError("the tracks' boxes do not add up")
    return list(map(TrackHead, ids, (names[name] for name in classes_of), shots, counts))


def _read_blocks(source: _Inflated, heads: Sequence[TrackHead]) -> Iterator[BoxColumns]:
    columns = _columns()
    for count, starts in _plan_blocks(heads):
        frames, *sides, confidences = (source.column(one, count, starts) for one in columns)
        corners = array("i", chain.from_iterable(zip(*sides, strict=True)))
        flags = array("B", source.take(count))
        if max(flags) > 1:
            raise ValueError("a flag is neither 0 nor 1")
        yield BoxColumns(array("i", frames), corners, array("H", confidences), flags)


class _Column:
    """Numbers from 0 to `highest`: each predicted to be the one before and `stride` more."""

    lowest = 0

    def __init__(self, highest: int = MAX_ID, *, planes: int = 4, stride: int = 0) -> None:
        self.highest, self.planes, self._stride, self._last = highest, planes, stride, -stride

    def steps(self, values: Sequence[int], starts: Sequence[int]) -> list[int]:  # noqa: ARG002
        """Distances of the values from their predictions, behind what was given before; `starts`
        are the indices where a track begins. Raises ValueError: a value out of range."""
        self._check(values)
        before = chain((self._last,), values)
        self._last = values[-1]
        return [value - last - self._stride for value, last in zip(values, before, strict=False)]

    def values(self, steps: Sequence[int], starts: Sequence[int]) -> list[int]:  # noqa: ARG002
        """The inverse of `steps`."""
        stride = self._stride
        values = list(
            accumulate(steps, lambda last, step: last + step + stride, initial=self._last)
        )[1:]
        self._check(values)
        self._last = values[-1]
        return values

    def _check(self, values: Sequence[int]) -> None:
        if not self.lowest <= min(values) <= max(values) <= self.highest:
            raise ValueError(f"a value is not between {self.lowest} and {self.highest}")


class _Side(_Column):
    """One coordinate over the frames: predicted to go on by half of its last step, of which none
    leads into a track and none over from another."""

    lowest = -MAX_PX * PX

    def __init__(self) -> None:
        super().__init__(MAX_PX * PX)
        self._move = 0

    def steps(self, values: Sequence[int], starts: Sequence[int]) -> list[int]:
        moves = super().steps(values, starts)
        before = [self._move, *moves]
        for start in starts:
            before[start] = before[start + 1] = 0
        self._move = before.pop()
        return [move - (last >> 1) for move, last in zip(moves, before, strict=True)]

    def values(self, steps: Sequence[int], starts: Sequence[int]) -> list[int]:
        moves, move, first = list[int](), self._move, set(starts)
        for position, step in enumerate(steps):
            is_first = position in first
            move = step if is_first else step + (move >> 1)
            moves.append(move)
            move = 0 if is_first else move
        self._move = move
        return super().values(moves, starts)


def _columns() -> list[_Column]:
    """The columns of a block but the last, `interpolated`."""
    sides = [_Side() for _ in range(4)]
    return [_Column(MAX_FRAME - 1, stride=1), *sides, _Column(CONFIDENCE, planes=2)]


class _Deflated:
    """Writes a gzip member to a file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        # Level 9 and "filtered" take 1 % off level 6.
        self._gzip = zlib.compressobj(9, zlib.DEFLATED, _GZIP, 9, zlib.Z_FILTERED)

    def put(self, data: bytes) -> None:
        # A new deflate block for each plane: its bytes are distributed like no other's. Takes 3 %
        # off.
        self._out.write(self._gzip.compress(data) + self._gzip.flush(zlib.Z_BLOCK))

    def column(self, column: _Column, values: Sequence[int], starts: Sequence[int] = ()) -> None:
        steps = column.steps(values, starts)
        zigzag = array("I", [step << 1 if step >= 0 else ~(step << 1) for step in steps])
        data = _little(zigzag).tobytes()
        for plane in range(column.planes):
            self.put(data[plane::4])

    def end(self) -> None:
        self._out.write(self._gzip.flush())


class _Inflated:
    """Reads a gzip member by exact counts. Holds no more of it than was asked for."""

    def __init__(self, data: bytes) -> None:
        view = memoryview(data)
        self._pieces = iter([view[at : at + _PIECE] for at in range(0, len(view), _PIECE)])
        self._gzip = zlib.decompressobj(_GZIP)

    def take(self, count: int) -> bytes:
        """Raises ValueError: fewer bytes are there, or they are no gzip."""
        pieces: list[bytes] = []
        while count:
            piece = self._more(count)
            if not piece:
                raise ValueError("the columns end too soon")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def column(self, column: _Column, count: int, starts: Sequence[int] = ()) -> list[int]:
        """The next `count` values."""
        data = bytearray(4 * count)
        for plane in range(column.planes):
            data[plane::4] = self.take(count)
        zigzag: array[int] = array("I")
        zigzag.frombytes(data)
        steps = [step >> 1 ^ -(step & 1) for step in _little(zigzag)]
        return column.values(steps, starts) if steps else []

    def end(self) -> None:
        """Raises ValueError: something follows, or the checksum is missing or wrong."""
        follows = self._more(1) or self._gzip.unused_data or next(self._pieces, None) is not None
        if follows or not self._gzip.eof:
            raise ValueError("something follows the columns, or they are cut off")

    def _more(self, limit: int) -> bytes:
        """At least one and at most `limit` bytes; none at the end."""
        try:
            while not self._gzip.eof:
                fresh = self._gzip.unconsumed_tail or next(self._pieces, b"")
                piece = self._gzip.decompress(fresh, limit)
                if piece or not fresh:
                    return piece
        except zlib.error:
            raise ValueError("the columns are no intact gzip") from None
        return b""


def _little(values: array[int]) -> array[int]:
    """The same numbers between this machine's byte order and little-endian."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
