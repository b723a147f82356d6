"""Where a job's boxes go while it runs: to disk, in any number, and from there into columns or back
into the order of frames.

Accepts boxes in any mixture of tracks, the frames of each track rising. Holds at most
`BUFFERED_BOXES` of them in memory, 23 bytes each, plus some 300 bytes a track; reading back holds
about twice as many. Writes two files into the job's directory.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from gpu_worker_client.protocol import (
    ErrorCode,
    TaskError,
    TrackCut,
    TrackResult,
    TrackState,
    TrackStats,
    TrackVideo,
)
from gpu_worker_client.protocol.boxes import CONFIDENCE, PX, BoxColumns
from gpu_worker_client.protocol.columnar import (
    MAX_BOXES,
    MAX_TRACKS,
    TrackHead,
    write_columnar,
)

BUFFERED_BOXES = 65_536
"""1.5 MB. With ten players in the frame a track's part on disk is then some 6,500 boxes long."""

RAW_NAME, COLUMNS_NAME = "track-boxes.raw", "tracks.gz"
BOX_BYTES = 23


class PlacedBox(NamedTuple):
    """One box of a frame."""

    track_id: int
    class_name: str
    shot: int
    bbox: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright frame, to 0.1 px."""
    confidence: float
    interpolated: bool


class _Part(NamedTuple):
    """Boxes of one track that lie together on disk."""

    first_frame: int
    track_id: int
    offset: int
    boxes: int


@dataclass
class _Entry:
    class_name: str
    shot: int
    boxes: int = 0
    last_frame: int = -1
    buffer: BoxColumns = field(default_factory=BoxColumns)
    parts: list[_Part] = field(default_factory=list[_Part])


class TrackStore:
    """All boxes of one job."""

    def __init__(self, work_dir: Path) -> None:
        self._folder = work_dir
        self._raw: BinaryIO = (work_dir / RAW_NAME).open("w+b")
        self._entries: dict[int, _Entry] = {}
        self._buffered: set[int] = set()
        self._in_memory = 0
        self.boxes = 0
        """Boxes added."""

    def __enter__(self) -> TrackStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def tracks(self) -> int:
        """Tracks that have a box."""
        return len(self._entries)

    def add(
        self,
        track_id: int,
        class_name: str,
        shot: int,
        frame: int,
        bbox: Sequence[float],
        confidence: float,
        interpolated: bool = False,
    ) -> None:
        """Adds a box.

        Args:
            bbox: x1, y1, x2, y2 in pixels of the upright frame; rounded to 0.1 px.
            confidence: 0 to 1; rounded to 0.001.

        Raises:
            ValueError: a number out of range, a frame not after the track's last one, another class
                or shot than the track's.
            TaskError: `result_too_large`.
        """
        entry = self._entries.get(track_id)
        if entry is None:
            entry = self._entries[track_id] = _Entry(class_name, shot)
        if entry.class_name != class_name or entry.shot != shot:
            raise ValueError("a track has one class and lies in one shot")
        if frame <= entry.last_frame:
            raise ValueError("the frames of a track must rise")
        entry.buffer.put(frame, bbox, confidence, interpolated)
        entry.boxes += 1
        entry.last_frame = frame
        self._buffered.add(track_id)
        self.boxes += 1
        self._in_memory += 1
        if self._in_memory >= BUFFERED_BOXES:
            self._flush()

    def finish(self) -> Path:
        """Writes all tracks, by rising id, as `protocol.columnar` has them. Returns the file."""
        path = self._folder / COLUMNS_NAME
        with path.open("wb") as out:
            heads = [self._head(track_id) for track_id in sorted(self._entries)]
            write_columnar(out, heads, (boxes for _, boxes in self._parts_by_track()))
        return path

    def by_track(self) -> Iterator[tuple[TrackHead, BoxColumns]]:
        """Every track whole, by rising id."""
        whole, current = BoxColumns(), None
        for track_id, boxes in self._parts_by_track():
            if current is not None and track_id != current:
                yield self._head(current), whole
                whole = BoxColumns()
            current = track_id
            whole.extend(boxes)
        if current is not None:
            yield self._head(current), whole

    def by_frame(self) -> Iterator[tuple[int, list[PlacedBox]]]:
        """Every frame that has boxes, rising, with its boxes by rising id."""
        self._flush()
        waiting = sorted(
            (part for entry in self._entries.values() for part in entry.parts), reverse=True
        )
        open_parts: list[
            tuple[int, int, int, BoxColumns]
        ] = []  # next frame, track, position of it in the boxes
        while waiting or open_parts:
            frame = min([p.first_frame for p in waiting[-1:]] + [p[0] for p in open_parts[:1]])
            while waiting and waiting[-1].first_frame == frame:
                part = waiting.pop()
                heappush(open_parts, (frame, part.track_id, 0, self._read(part)))
            placed: list[PlacedBox] = []
            while open_parts and open_parts[0][0] == frame:
                _, track_id, position, boxes = heappop(open_parts)
                placed.append(self._placed(track_id, boxes, position))
                if position + 1 < len(boxes):
                    heappush(
                        open_parts, (boxes.frames[position + 1], track_id, position + 1, boxes)
                    )
            yield frame, placed

    def close(self) -> None:
        """Removes both files."""
        self._raw.close()
        for name in (RAW_NAME, COLUMNS_NAME):
            (self._folder / name).unlink(missing_ok=True)

    def _head(self, track_id: int) -> TrackHead:
        entry = self._entries[track_id]
        return TrackHead(track_id, entry.class_name, entry.shot, entry.boxes)

    def _placed(self, track_id: int, boxes: BoxColumns, position: int) -> PlacedBox:
        entry = self._entries[track_id]
        x1, y1, x2, y2 = boxes.corners[position * 4 : position * 4 + 4]
        return PlacedBox(
            track_id,
            entry.class_name,
            entry.shot,
            (x1 / PX, y1 / PX, x2 / PX, y2 / PX),
            boxes.confidences[position] / CONFIDENCE,
            bool(boxes.flags[position]),
        )

    def _parts_by_track(self) -> Iterator[tuple[int, BoxColumns]]:
        self._flush()
        for track_id in sorted(self._entries):
            for part in self._entries[track_id].parts:
                yield track_id, self._read(part)

    def _flush(self) -> None:
        if self.boxes > MAX_BOXES or len(self._entries) > MAX_TRACKS:
            message = (
                f"more than {MAX_TRACKS} tracks or {MAX_BOXES} boxes; split the input or raise"
                " confidence_threshold"
            )
            raise TaskError(
                ErrorCode.result_too_large, message, boxes=self.boxes, tracks=len(self._entries)
            )
        self._raw.seek(0, os.SEEK_END)
        for track_id in sorted(self._buffered):
            entry = self._entries[track_id]
            boxes, entry.buffer = entry.buffer, BoxColumns()
            entry.parts.append(_Part(boxes.frames[0], track_id, self._raw.tell(), len(boxes)))
            for column in (boxes.frames, boxes.corners, boxes.confidences, boxes.flags):
                self._raw.write(column.tobytes())
        self._raw.flush()
        self._buffered.clear()
        self._in_memory = 0

    def _read(self, part: _Part) -> BoxColumns:
        count = part.boxes
        data = memoryview(os.pread(self._raw.fileno(), count * BOX_BYTES, part.offset))
        boxes = BoxColumns()
        boxes.frames = array("i", data[: 4 * count].tobytes())
        boxes.corners = array("i", data[4 * count : 20 * count].tobytes())
        boxes.confidences = array("H", data[20 * count : 22 * count].tobytes())
        boxes.flags = array("B", data[22 * count :].tobytes())
        return boxes


def packed_result(
    store: TrackStore,
    *,
    total_frames: int,
    seconds: float,
    cuts: Sequence[TrackCut],
    video: TrackVideo,
    state_out: TrackState | None = None,
) -> TrackResult:
    """The result with its tracks as columns: what leaves the engine. `TrackResult.unpacked` has
    them as `Track`.

    Args:
        total_frames: frames of the video.
        seconds: wall time of the work.
    """
    stats = TrackStats(
        processing_time_sec=round(seconds, 3),
        total_frames=total_frames,
        unique_tracks=store.tracks,
        boxes=store.boxes,
        fps=round(total_frames / seconds, 2) if seconds > 0 else 0.0,
        shots=len(cuts) + 1,
    )
    state = state_out.model_dump(mode="json") if state_out else None
    result = TrackResult(stats=stats, cuts=list(cuts), video=video, state_out=state)
    return result.with_columns(store.finish().read_bytes())
