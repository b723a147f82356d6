"""Tracks of a result as MOTChallenge text, which trackers' tools read."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from gpu_worker_client.protocol import Track, TrackResult

Row = tuple[int, int, str]
"""Frame (from 1), id, line."""


def tracks_to_mot(
    tracks: TrackResult | Iterable[Track],
    path: str | Path | None = None,
    *,
    classes: Collection[str] | None = None,
) -> str:
    """Tracks as MOTChallenge text: `frame,id,left,top,width,height,confidence,-1,-1,-1`, one line a
    box, by frame and id.

    The format counts frames from 1, so frame 0 of a track is frame 1 here; its boxes are `left,
    top, width, height`. It has no column for a class: with `classes` only tracks of these are
    written, without it all are, and nothing distinguishes them. Interpolated boxes are written like
    the rest. https://motchallenge.net/instructions/

    Args:
        tracks: a result, packed or not, or some of its tracks.
        path: a file to write the text to as well, in UTF-8.
        classes: class names to write; None writes all.

    Returns:
        The text; empty without any box.

    Raises:
        ValueError: the result is the summary of a larger one, or the columns it holds are damaged.
    """
    if isinstance(tracks, TrackResult):
        if not tracks.tracks and (tracks.model_extra or {}).get("tracks_count"):
            raise ValueError(
                "this is the summary of a large result: read the whole from its result_url with"
                " TrackResult.from_json"
            )
        tracks = tracks.unpacked().tracks
    chosen = [track for track in tracks if classes is None or track.class_name in classes]
    text = "".join(line for _, _, line in heapq.merge(*map(_rows, chosen)))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    return text


def _rows(track: Track) -> Iterator[Row]:
    columns = track.frames.columns
    corners = iter(columns.corners)
    for frame, confidence, x1, y1, x2, y2 in zip(
        columns.frames, columns.confidences, corners, corners, corners, corners, strict=False
    ):
        # In tenths, so that a width is the exact difference of two rounded sides.
        box = ",".join(f"{tenths / 10:.1f}" for tenths in (x1, y1, x2 - x1, y2 - y1))
        line = f"{frame + 1},{track.track_id},{box},{confidence / 1000:g},-1,-1,-1\n"
        yield frame + 1, track.track_id, line
