"""Packets moved as they are, nothing re-encoded: a video cut into segments, and the segments that
came back joined and checked.

The same plan of the same file cuts the same bytes, so a segment's name in storage can be the hash
of its content. A frame's time in the joined file is not read from its segment but from the source,
by counting: so nothing drifts, whatever rounding a segment's container did.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from gpu_worker_client.protocol.base import CONTAINERS, INDEXED
from gpu_worker_client.split.plan import Segment, SplitPlan
from gpu_worker_client.split.source import (
    SourceVideo,
    SplitError,
    decode_times,
    ffmpeg_errors_as,
    packets_of,
    picked_video,
)
from gpu_worker_client.split.streams import Copied, OtherStreams

FINE_TICKS = 48_000
"""Least ticks per second of an mp4's movie clock, on which the starts of its streams lie; FFmpeg's
own 1000 would move them."""
MOST_LATE_SECONDS = 1
"""By which a whole file may be moved; the lead-in of an audio codec is under a tenth of this."""
_SHAPE = ["width", "height", "pix_fmt", "color_range", "colorspace", "color_primaries", "color_trc"]
"""PyAV's names of what must be the same in all segments, besides codec and pixel shape."""
_IN_BAND = {"h264": ("avc3", "h264_mp4toannexb"), "hevc": ("hev1", "hevc_mp4toannexb")}
"""Codec -> sample entry that allows parameter sets inside the stream (ISO/IEC 14496-15, 5.4.2 and
8.4.1), FFmpeg's filter that writes them before key frames."""


def cut_segments(plan: SplitPlan, folder: Path) -> Iterator[tuple[Segment, Path]]:
    """Writes `segment-00000.mp4` and so on, in one pass over the source, their times beginning at
    zero; a file is complete when it is handed out. Raises SplitError: `source_changed` when the
    source is not what was planned, `unreadable`."""
    source = plan.source
    if source.path.stat().st_size != source.size_bytes:
        raise _changed(source)
    # A container that keeps the source's clock; Matroska for the rest, as it holds any codec.
    muxer = CONTAINERS.get(source.path.suffix.lower())
    suffix = f".{muxer}" if muxer in INDEXED else ".mkv"
    with (
        ffmpeg_errors_as("unreadable", f"{source.path.name} cannot be cut"),
        av.open(str(source.path)) as container,
    ):
        stream = container.streams[source.stream_index]
        packets = packets_of(container, stream)
        for segment in plan.segments:
            path = folder / f"segment-{segment.index:05d}{suffix}"
            _cut(path, source, segment, stream, packets)
            yield segment, path


def _cut(
    path: Path, source: SourceVideo, segment: Segment, stream: Any, packets: Iterator[Any]
) -> None:
    """Moves the next packets of the source, as many as the segment has frames, into a file."""
    coded = source.coded[segment.first_frame : segment.end_frame]
    first = coded[0]  # a cut is shown before all that follow it
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        target = output.add_stream_from_template(stream, opaque=True)
        target.time_base = source.time_base
        for pts, decode_time in zip(coded, decode_times(coded), strict=True):
            packet = next(packets, None)
            if packet is None or packet.pts != pts:
                raise _changed(source)
            packet.pts, packet.dts = pts - first, decode_time - first
            packet.time_base, packet.stream = source.time_base, target
            output.mux(packet)


def _changed(source: SourceVideo) -> SplitError:
    message = f"{source.path.name} has changed since it was planned; plan it again"
    return SplitError("source_changed", message)


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
    """Number in the order of showing of each frame, in the order of the file."""


def read_piece(segment: Segment, path: Path) -> Piece:
    """Reads a segment that came back. Raises SplitError `frames_differ`, `output_invalid`."""
    with (
        ffmpeg_errors_as("output_invalid", f"segment {segment.index} came back unreadable"),
        av.open(str(path)) as container,
    ):
        stream = picked_video(container)
        context = stream.codec_context
        coded = [packet.pts for packet in packets_of(container, stream)]
        # Asked for after the packets: the decoder's own description is complete then.
        codec, extradata = context.codec.canonical_name, bytes(context.extradata or b"")
        shape = (codec, stream.sample_aspect_ratio, *(getattr(context, part) for part in _SHAPE))
    if len(coded) != segment.frames:
        problem = f"{segment.frames} frames and came back with {len(coded)}; please report it"
        raise SplitError("frames_differ", f"segment {segment.index} has {problem}")
    if None in coded or len(set(coded)) != len(coded):
        problem = f"segment {segment.index} came back with a frame without a time of its own"
        raise SplitError("output_invalid", problem)
    number_of = {pts: number for number, pts in enumerate(sorted(coded))}
    order = array("q", (number_of[pts] for pts in coded))
    return Piece(segment, path, codec, extradata, shape, order)


def join(
    plan: SplitPlan, pieces: Sequence[Piece], path: Path
) -> tuple[Mapping[int, Copied], list[str]]:
    """Writes one file of all segments, one piece for each, in order, and the source's own audio
    beside them. The path's suffix, of `CONTAINERS` or none, chooses the container.

    Returns:
        What was copied of the source's other streams, by the stream's index in the output; and what
            was left out, as sentences.

    Raises:
        SplitError: `segments_differ`, `container`.
    """
    source, codec = plan.source, pieces[0].codec
    in_band = _needs_parameter_sets(pieces)
    muxer, options = CONTAINERS[path.suffix.lower() or ".mp4"], dict[str, str]()
    if muxer in INDEXED:  # a movie clock that is a multiple of the video's
        ticks = source.time_base.denominator * -(-FINE_TICKS // source.time_base.denominator)
        options = {"movflags": "+faststart", "movie_timescale": str(ticks)}
    with (
        ffmpeg_errors_as("container", f"{muxer} does not take the joined video"),
        av.open(str(path), "w", format=muxer, options=options) as output,
        av.open(str(pieces[0].path)) as first,
        av.open(str(source.path)) as opened,
    ):
        target = output.add_stream_from_template(picked_video(first), opaque=True)
        target.time_base = source.time_base
        if in_band:
            tag, writes_them = _IN_BAND[codec]
            BitStreamFilterContext(writes_them, picked_video(first), target)
            if muxer in INDEXED:
                target.codec_context.codec_tag = tag
        other_streams = OtherStreams(source, opened, output, target)
        video = _placed(source, pieces, target, in_band=in_band)
        in_order = merge(other_streams.packets(), video, key=lambda each: each.dts * each.time_base)
        for packet in in_order:
            output.mux(packet)
    return other_streams.copied, other_streams.warnings


def _needs_parameter_sets(pieces: Sequence[Piece]) -> bool:
    """Whether the header of the first segment does not do for all. AV1 repeats its own at every key
    frame."""
    first = pieces[0]
    advice = "give all workers the same version and the same encoder"
    for piece in pieces:
        if piece.shape != first.shape:
            numbers = f"{first.segment.index} and {piece.segment.index}"
            problem = f"segments {numbers} came back in different formats; {advice}"
            raise SplitError("segments_differ", problem)
    if first.codec == "av1" or all(piece.extradata == first.extradata for piece in pieces):
        return False
    if first.codec not in _IN_BAND:
        problem = f"the segments' {first.codec} headers differ; {advice}"
        raise SplitError("segments_differ", problem)
    return True


def _placed(
    source: SourceVideo, pieces: Sequence[Piece], target: Any, *, in_band: bool
) -> Iterator[Any]:
    """The packets of all pieces on the source's clock."""
    shift = round(source.origin_seconds / source.time_base)
    shown = [pts - shift for pts in source.pts]
    ends = [*shown[1:], source.end - shift]
    numbers = [piece.segment.first_frame + number for piece in pieces for number in piece.order]
    coded = [shown[number] for number in numbers]
    decoded = decode_times(coded)
    durations = [ends[number] - shown[number] for number in numbers]
    # The last packet in the file ends an mp4's track, though another frame may be shown last.
    durations[-1] = ends[-1] - shown[0] + decoded[0] - decoded[-1]
    times = zip(coded, decoded, durations, strict=True)
    for piece in pieces:
        with av.open(str(piece.path)) as container:
            stream = picked_video(container)
            packets = packets_of(container, stream)
            if in_band:
                led = BitStreamFilterContext(_IN_BAND[piece.codec][1], stream)
                packets = (whole for packet in packets for whole in led.filter(packet))
            for packet in packets:
                packet.pts, packet.dts, packet.duration = next(times)
                packet.time_base, packet.stream = source.time_base, target
                yield packet


def check_output(plan: SplitPlan, path: Path, copied: Mapping[int, Copied]) -> None:
    """Reads the joined file again, before anyone may see it: every frame there and at its time, the
    other streams byte for byte as `join` copied them. Raises SplitError `output_invalid`, naming
    what is wrong."""
    starts = {segment.first_frame for segment in plan.segments}
    found = {index: Copied(stream.kind, stream.is_aac) for index, stream in copied.items()}
    times: array[int] = array("q")
    with (
        ffmpeg_errors_as("output_invalid", "the joined file does not read; please report it"),
        av.open(str(path)) as container,
    ):
        video = picked_video(container)
        for packet in packets_of(container):
            if packet.stream_index in found:
                found[packet.stream_index].see(packet)
            if packet.stream_index == video.index:
                if len(times) in starts and not _decodes(video.codec_context, packet):
                    number = len(times)
                    raise _invalid(f"frame {number} of the joined file does not decode by itself")
                times.append(packet.pts)
        late = _check_times(plan.source, times, video)
        for index, expected in copied.items():
            tolerance = video.time_base + container.streams[index].time_base
            if not found[index].is_same(expected, late, tolerance):
                stream = f"{expected.kind} stream {index}"
                raise _invalid(f"{stream} of the joined file is not the source's")


def _invalid(message: str) -> SplitError:
    return SplitError("output_invalid", f"{message}; please report it")


def _decodes(context: Any, packet: Any) -> bool:
    """Whether a segment's first packet makes a frame by itself."""
    context.flush_buffers()
    frames = [*context.decode(packet), *context.decode(None)]
    context.flush_buffers()
    return bool(frames)


def _check_times(source: SourceVideo, times: array[int], video: Any) -> Fraction:
    """Every frame's time to the tick, and what the file says of its length, to a frame. Returns the
    seconds by which all are late: Matroska has no times before 0, so what begins earlier (the
    lead-in of AAC for one) moves the whole file."""
    if len(times) != source.frames:
        raise _invalid(f"the joined file has {len(times)} frames of {source.frames}")
    base = video.time_base
    wanted = (pts * source.time_base - source.origin_seconds for pts in source.pts)
    late = [pts * base - seconds for pts, seconds in zip(sorted(times), wanted, strict=True)]
    if not -base <= late[0] <= MOST_LATE_SECONDS or max(late) - min(late) > base:
        raise _invalid("the frames of the joined file are not at their times")
    length = float((video.duration or 0) * base)
    seconds = source.duration_seconds
    if length and abs(length - seconds) > 1 / source.fps:
        raise _invalid(f"the joined file says it lasts {length:.3f} s instead of {seconds:.3f} s")
    return late[0]
