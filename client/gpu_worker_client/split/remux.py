"""Segments that came back, joined: their packets as they are, every frame at the time that the
source gave it, and the source's own audio beside them.

A frame's time is not read from its segment but from the source, by counting: so nothing drifts,
whatever rounding a segment's container did. The file appears at its path only after it was read
again and found right.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from gpu_worker_client.protocol.base import CONTAINERS
from gpu_worker_client.split.errors import SplitError
from gpu_worker_client.split.keyframes import with_parameter_sets
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.split.source import SourceVideo, packets_of, picked_video
from gpu_worker_client.split.streams import Copied, OtherStreams
from gpu_worker_client.split.timestamps import decode_times, reorder_delay

FINE_TICKS = 48_000
"""Least ticks per second of an mp4's movie clock, on which the starts of its streams lie; FFmpeg's
own 1000 would move them."""
_IN_BAND_TAGS = {"h264": "avc3", "hevc": "hev1"}
"""Sample entries that allow parameter sets inside the stream: ISO/IEC 14496-15, 5.4.2 and 8.4.1."""


@dataclass(frozen=True)
class Piece:
    """A segment as it came back."""

    segment: Segment
    path: Path
    codec: str
    """FFmpeg's name."""
    extradata: bytes
    shape: tuple[object, ...]
    """What must be the same in all pieces: codec, size, pixel format, pixel shape, colours."""
    order: Sequence[int] = field(repr=False)
    """Position in the order of showing of each frame, in the order of the file."""


def read_piece(segment: Segment, path: Path) -> Piece:
    """Reads a segment that came back.

    Raises:
        SplitError: `frames_differ`, `output_invalid`.
    """
    try:
        with av.open(str(path)) as container:
            stream = picked_video(container)
            context = stream.codec_context
            coded = array("q", (packet.pts for packet in packets_of(container, stream)))
            # Asked for after the packets: the decoder's own description is complete then.
            shape = (
                context.codec.canonical_name,
                context.width,
                context.height,
                context.pix_fmt,
                stream.sample_aspect_ratio,
                context.color_range,
                context.colorspace,
                context.color_primaries,
                context.color_trc,
            )
            extradata = bytes(context.extradata or b"")
    except (FFmpegError, OSError, ValueError, TypeError) as error:
        raise SplitError(
            "output_invalid",
            f"segment {segment.index} came back unreadable ({type(error).__name__})",
        ) from error
    if len(coded) != segment.frames:
        raise SplitError(
            "frames_differ",
            f"segment {segment.index} has {segment.frames} frames and came back with {len(coded)};"
            " please report it",
        )
    number_of = {pts: number for number, pts in enumerate(sorted(coded))}
    if len(number_of) != len(coded):
        raise SplitError(
            "output_invalid", f"segment {segment.index} came back with two frames at one time"
        )
    return Piece(
        segment,
        path,
        str(shape[0]),
        extradata,
        shape,
        array("q", (number_of[pts] for pts in coded)),
    )


def join(
    plan: SplitPlan, pieces: Sequence[Piece], path: Path
) -> tuple[Mapping[int, Copied], list[str]]:
    """Writes one file of all segments.

    Args:
        pieces: one for each segment of the plan, in order.
        path: where to; its suffix chooses the container.

    Returns:
        What was copied of the source's other streams, by the stream's index in the output; and what
            was left out, as sentences.

    Raises:
        SplitError: `segments_differ`, `container`, `output_invalid`.
    """
    muxer = container_of(path)
    _check_alike(pieces)
    options = {} if muxer == "matroska" else _mp4_options(plan.source.time_base)
    try:
        with (
            av.open(str(path), "w", format=muxer, options=options) as output,
            av.open(str(pieces[0].path)) as template,
        ):
            target = output.add_stream_from_template(picked_video(template), opaque=True)
            target.time_base = plan.source.time_base
            in_band = _needs_parameter_sets(pieces)
            if in_band and muxer != "matroska":
                target.codec_context.codec_tag = _IN_BAND_TAGS[pieces[0].codec]
            other_streams = OtherStreams(plan.source, output, target)
            try:
                for packet in _placed(plan.source, pieces, target, in_band=in_band):
                    other_streams.advance(Fraction(packet.dts) * packet.time_base)
                    output.mux(packet)
                other_streams.advance(None)
            finally:
                other_streams.close()
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SplitError(
            "container", f"{muxer} does not take the joined video: {reason}"
        ) from error
    return other_streams.copied, other_streams.warnings


def _mp4_options(time_base: Fraction) -> dict[str, str]:
    """A movie clock that is a multiple of the video's."""
    ticks = time_base.denominator * -(-FINE_TICKS // time_base.denominator)
    return {"movflags": "+faststart", "movie_timescale": str(ticks)}


def container_of(path: Path) -> str:
    """FFmpeg's muxer for an output.

    Raises:
        SplitError: `container`.
    """
    muxer = CONTAINERS.get(path.suffix.lower() or ".mp4")
    if muxer is None:
        raise SplitError(
            "container",
            f"the output's suffix must be one of: {', '.join(CONTAINERS)}",
        )
    return muxer


def _check_alike(pieces: Sequence[Piece]) -> None:
    first = pieces[0]
    for piece in pieces:
        if piece.shape != first.shape:
            raise SplitError(
                "segments_differ",
                f"segments {first.segment.index} and {piece.segment.index} came back in different"
                " formats; give all workers the same version and the same encoder",
            )
    if (
        first.codec not in _IN_BAND_TAGS
        and len({piece.extradata for piece in pieces}) > 1
        and first.codec != "av1"
    ):
        raise SplitError(
            "segments_differ",
            f"the segments' {first.codec} headers differ; give all workers the same version",
        )


def _needs_parameter_sets(pieces: Sequence[Piece]) -> bool:
    """Whether the header of the first segment does not do for all. AV1 repeats its own at every key
    frame."""
    return pieces[0].codec in _IN_BAND_TAGS and len({piece.extradata for piece in pieces}) > 1


def _placed(
    source: SourceVideo, pieces: Iterable[Piece], target: Any, *, in_band: bool
) -> Iterator[Any]:
    """The packets of all pieces on the source's clock."""
    pieces = list(pieces)
    delay = max(reorder_delay(piece.order) for piece in pieces)
    shift = round(source.origin_seconds / source.time_base)
    shown = array("q", (pts - shift for pts in source.pts))
    end = source.end - shift
    for piece in pieces:
        first = piece.segment.first_frame
        with av.open(str(piece.path)) as container:
            for index, packet in enumerate(packets_of(container, picked_video(container))):
                number = first + piece.order[index]
                if in_band and index == 0:
                    packet = _led(packet, piece)
                packet.pts = shown[number]
                packet.dts = decode_times(shown, delay, first + index)
                packet.duration = (shown[number + 1] if number + 1 < len(shown) else end) - shown[
                    number
                ]
                if first + index == len(shown) - 1:
                    # The last packet in the file ends an mp4's track, though another frame may be
                    # shown last.
                    packet.duration = max(
                        packet.duration,
                        end - shown[0] - (packet.dts - decode_times(shown, delay, 0)),
                    )
                packet.time_base, packet.stream = source.time_base, target
                yield packet


def _led(packet: Any, piece: Piece) -> Any:
    """The packet with its segment's own parameter sets before it."""
    led = av.Packet(with_parameter_sets(piece.codec, piece.extradata, bytes(packet)))
    led.is_keyframe = True
    return led
