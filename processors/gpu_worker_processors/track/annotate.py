"""The annotated video: every frame of the source with what was followed drawn on it, the rest of
the file carried over.

A second pass over the source with the same decode, draw, encode pipe as any other task. What is not
drawn on is what the source had: the decoder's own planes go to the encoder, and only an RGB source,
or one finer than 4:2:0, is converted on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from pathlib import Path

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError, Track
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.color import ColorTags, resolve_tags
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.deinterlace import WholeFrames
from gpu_worker_processors.media.encode import VideoSpec, VideoWriter
from gpu_worker_processors.media.encoders import (
    EncoderChoice,
    check_container,
    choose_encoder,
    working_encoders,
)
from gpu_worker_processors.media.frame import Plane
from gpu_worker_processors.media.probe import VideoInfo, probe, require_video
from gpu_worker_processors.media.threads import drained, prefetched
from gpu_worker_processors.media.verify import verify_output
from gpu_worker_processors.media.warnings import encoding_warnings
from gpu_worker_processors.track.draw import Annotator, Box
from gpu_worker_processors.track.store import PlacedBox

CRF = 20
"""A little below the best: the video is for viewing, not for editing."""
_AHEAD, _BEHIND = 4, 3
_MIN_EDGE_PX = 16
"""Shortest edge of a frame that every encoder takes."""


@dataclass(frozen=True)
class Annotated:
    """What was written."""

    encoder: EncoderChoice
    notes: tuple[ResultWarning, ...]
    """What the caller should know about what was left out of the file."""


@dataclass(frozen=True)
class _Target:
    """How the annotated video is written, decided before the first frame."""

    width: int
    height: int
    tags: ColorTags
    encoder: EncoderChoice


def draw_tracks(
    source: Path,
    output: Path,
    boxes: Iterable[tuple[int, Sequence[Box]]],
    *,
    cuts: Collection[int] = (),
    hold_frames: int = 1,
    device: str = "auto",
    limits: Limits = Limits(),  # noqa: B008 - frozen dataclass
    progress: Callable[[int, int | None], object] = lambda _done, _total: None,
) -> Annotated:
    """Writes `source` with boxes, ids and trails to `output`, whose suffix chooses the container.

    Args:
        boxes: (frame, what to draw on it), frames rising: `TrackStore.by_frame`, or
            `boxes_by_frame` of a result's tracks.
        cuts: first frames of shots; no trail goes across.
        hold_frames: how long an entry is shown when no other follows: the stride that the tracks
            were made with.
        device: "cpu", or another where a hardware encoder may be used.
        progress: called with the frames written, and how many there are where that is known.

    Raises:
        TaskError: as `probe`, `FrameReader` and `VideoWriter` do; `output_invalid` when the file is
            not what it should be.
    """
    info = probe(source, limits)
    video = require_video(info)
    target = _plan(video, output.suffix, device)
    spec = VideoSpec(
        target.width,
        target.height,
        target.encoder,
        target.tags,
        video.sar,
        video.fps,
        video.time_base,
        in_order=video.is_uneven,
    )
    to_planes = EvenPlanes(video, target)
    draw = Annotator(
        target.tags,
        target.encoder.bits,
        target.height,
        (target.width / video.width, target.height / video.height),
    )
    shown = _Shown(boxes, hold_frames)
    decoded = WholeFrames(FrameReader(source, info, limits=limits))

    def write(frame: tuple[Sequence[Plane], int, int]) -> None:
        writer.write(*frame)

    with (
        VideoWriter(
            output, spec, source=(source, info), captions=decoded.captions, limits=limits
        ) as writer,
        prefetched(decoded, _AHEAD) as frames,
        drained(write, _BEHIND) as put,
    ):
        for item in frames:
            planes = to_planes(item.frame)
            if item.index in cuts:
                draw.forget()
            draw(planes, shown.at(item.index), item.time_seconds)
            put((planes, item.pts, item.duration))
            progress(item.index + 1, video.expected_frames)
    verify_output(output, writer.promise)
    lost = [
        warning
        for warning in encoding_warnings(video, target.tags, target.encoder)
        if warning.code == "alpha_dropped"  # the codec is not the caller's to choose
    ]
    return Annotated(target.encoder, (*writer.notes, *decoded.changes, *lost))


def boxes_by_frame(tracks: Sequence[Track]) -> Iterator[tuple[int, list[PlacedBox]]]:
    """What `draw_tracks` takes, of a result's tracks: every frame that has boxes, rising."""
    for frame, group in groupby(
        merge(*(_placed(track) for track in tracks), key=_frame_of), key=_frame_of
    ):
        yield frame, [box for _, box in group]


def _placed(track: Track) -> Iterator[tuple[int, PlacedBox]]:
    for box in track.frames:
        placed = PlacedBox(
            track.track_id, track.class_name, track.shot, box.bbox, box.confidence, box.interpolated
        )
        yield box.frame, placed


def _frame_of(entry: tuple[int, PlacedBox]) -> int:
    return entry[0]


def _plan(video: VideoInfo, suffix: str, device: str) -> _Target:
    """H.264, or 10-bit HEVC for HDR, which 8 bits cannot hold.

    Raises:
        TaskError: `media_limit`, `unsupported_media`.
    """
    tags = resolve_tags(
        video.colorspace,
        video.primaries,
        video.transfer,
        video.color_range,
        height=video.height,
        pix_fmt=video.pix_fmt,
    )
    codec = "hevc" if tags.is_hdr else "h264"
    check_container(suffix, codec)
    width, height = (max(_MIN_EDGE_PX, edge + edge % 2) for edge in (video.width, video.height))
    with_gpu = device != "cpu" and _has_gpu()
    bits = 10 if tags.is_hdr else 8
    encoder = choose_encoder(
        codec, width, height, working_encoders(with_gpu), crf=CRF, bits=bits, with_gpu=with_gpu
    )
    if encoder.bits != bits:
        raise TaskError(
            ErrorCode.unsupported_media,
            "no encoder on this worker keeps the HDR of this video; leave output_url out",
        )
    return _Target(width, height, tags, encoder)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


class _Shown:
    """What is to be seen on each frame, from a stream of entries."""

    def __init__(self, entries: Iterable[tuple[int, Sequence[Box]]], stride: int) -> None:
        self._entries = iter(entries)
        self._stride = stride
        self._next: tuple[int, Sequence[Box]] | None = next(self._entries, None)
        self._frame = -stride
        self._boxes: Sequence[Box] = ()

    def at(self, frame: int) -> Sequence[Box]:
        """The boxes of a frame; frames are asked for in order."""
        while self._next is not None and self._next[0] <= frame:
            self._frame, self._boxes = self._next
            self._next = next(self._entries, None)
        return self._boxes if frame - self._frame < self._stride else ()


class EvenPlanes:
    """Decoded frames as upright, writable 4:2:0 planes of an even size. One per stream: it keeps
    its scaler."""

    def __init__(self, video: VideoInfo, target: _Target) -> None:
        turned = video.rotation in (90, 270)
        self._coded = (target.height, target.width) if turned else (target.width, target.height)
        self._quarters = video.rotation // 90
        self._mirrored = video.mirrored
        self._tags = target.tags
        self._format = "yuv420p10le" if target.encoder.bits == 10 else "yuv420p"
        self._dtype = np.uint16 if target.encoder.bits == 10 else np.uint8
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> list[Plane]:
        """Y, Cb, Cr of shape (height, width) and half of it; the frame's own memory is not
        touched."""
        if (
            frame.format.name.replace("yuvj", "yuv") != self._format
            or (frame.width, frame.height) != self._coded
        ):
            frame = self._converted(frame)
        return [self._upright(plane) for plane in frame.planes]

    def _converted(self, frame: av.VideoFrame) -> av.VideoFrame:
        if not frame.format.is_rgb and not frame.format.has_palette:
            range_ = self._tags.range
            return self._reformatter.reformat(
                frame, *self._coded, self._format, src_color_range=range_, dst_color_range=range_
            )
        return self._reformatter.reformat(  # `resolve_tags` carries an RGB source as BT.709
            frame,
            *self._coded,
            self._format,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=self._tags.range,
        )

    def _upright(self, plane: VideoPlane) -> Plane:
        rows = np.frombuffer(plane, self._dtype).reshape(plane.height, -1)[:, : plane.width]  # type: ignore[call-overload]
        turned = np.rot90(rows, -self._quarters)
        return np.array(turned[:, ::-1] if self._mirrored else turned, order="C")
