"""The decoding of one video stream, from an open container to its first frame.

`probe` needs that frame and a reader needs all of them: what the first took out of the file, the
second can go on from, so that a short clip is not opened and started twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.clock import ClockJump, DisplayOrder, EndToEnd, continuous
from gpu_worker_processors.media.container import check_decoder, corrupt
from gpu_worker_processors.media.sniff import Kind

ELEMENTARY = frozenset({"h264", "hevc", "m4v", "mpegvideo", "obu", "vc1"})
"""Demuxers of video without a container: what FFmpeg says of rate and length is its own default or
a guess by the bit rate, not the stream's word."""
_COUNTED = frozenset({"h264", "hevc", "mpegvideo", "vc1"})
"""Those for which it knows how long each frame is shown and not when."""
_NO_FOURCC = "\0\0\0\0"
_LATE_TO_SAY = frozenset({"h264", "hevc"})
"""Codecs whose header may leave open whether frames are reordered."""
_MOST_REORDERED = 16
"""ITU-T H.264 A.3.1, H.265 A.4.1 (max_dec_frame_buffering)."""
_FALLBACK_FPS = Fraction(25)
"""For a stream that states no usable rate: FFmpeg's own default."""
_MIN_FPS = Fraction(1, 86_400)
"""A frame a day: whatever is slower is a clock that was set wrongly."""
_MAX_FPS = 1000
"""A header that claims more is wrong: high-speed cameras store 1000 frames/s at most in playable
files."""
_MAX_PACKETS_TO_FIRST_FRAME = 600
"""A recording cut in mid-stream may start up to ten seconds (at 60/s) before its first key
frame."""


@dataclass
class DecodeState:
    """How far the decoding of one video stream has come."""

    stream: VideoStream
    untaken: Iterator[Packet[VideoStream]]
    """The packets that are left."""
    packets: int = 0
    """Packets read so far; empty ones are not counted."""
    frames: list[av.VideoFrame] = field(default_factory=list[av.VideoFrame])
    """Frames decoded from those packets."""
    is_intact: bool = True
    """No packet read so far was corrupt or failed to decode."""
    coded_ticks: int = 0
    """Sum of the durations of the packets read so far: in an MP4 the length of the track, while
    each duration by itself is that of the decoding order."""
    jumps: list[ClockJump] = field(default_factory=list[ClockJump])
    """What the packets read so far jumped over."""
    order: DisplayOrder | None = None
    """For a container without presentation times: the frames carry numbers instead of times."""
    end_to_end: EndToEnd | None = None
    """For a stream without a container."""

    @property
    def has_times(self) -> bool:
        """The packets say themselves when their frames are shown."""
        return self.order is None and self.end_to_end is None

    def pts_of(self, frame: av.VideoFrame) -> int | None:
        """The timestamp of the next frame, of each just once."""
        if self.end_to_end is not None:
            return self.end_to_end.time_of(frame.duration)
        return frame.pts if self.order is None else self.order.time_of(frame.pts)


def start_decoding(
    container: InputContainer,
    kind: Kind,
    stream: VideoStream,
    limits: Limits,
    threads: int | None,
) -> DecodeState:
    """Makes one stream ready to be decoded; all other streams of the container are skipped.

    Args:
        container: just opened, and open while the stream is decoded.
        threads: decoder threads, 0 is one per core. None gives the first frame soonest: threads
            that decode whole frames ask for several packets first.
    """
    check_decoder(stream)
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.options = {"max_pixels": str(limits.decoder_max_pixels)}
    stream.thread_type = "SLICE" if threads is None else "AUTO"
    stream.codec_context.thread_count = threads or 0
    state = DecodeState(stream, iter(()))
    if _has_only_dts(kind, stream):
        state.order = DisplayOrder(_most_reordered(stream))
    elif kind.demuxer in _COUNTED:
        step = 1 / (frame_rate(kind, stream) * (stream.time_base or Fraction(1)))
        state.end_to_end = EndToEnd(max(1, round(step)))
    state.untaken = _counted(state, continuous(container, kind, [stream], stream, state.jumps))
    return state


def _counted(
    state: DecodeState, packets: Iterator[Packet[VideoStream]]
) -> Iterator[Packet[VideoStream]]:
    for packet in packets:
        if packet.size and not packet.is_discard:
            state.coded_ticks += packet.duration or 0
        if packet.size and state.order is not None:
            state.order.number(packet)
        yield packet


def frame_rate(kind: Kind, stream: VideoStream) -> Fraction:
    """Average frames per second, as the header has it; 25 when it has nothing usable."""
    average = stream.average_rate, stream.guessed_rate, stream.base_rate
    if kind.demuxer not in ELEMENTARY:
        return choose_fps(*average)
    # MPEG-4 names the ticks of a second there
    own = None if kind.demuxer == "m4v" else stream.codec_context.framerate
    return choose_fps(own, stream.guessed_rate)


def choose_fps(*candidates: Fraction | None) -> Fraction:
    """The first rate that can be one: a header may say 0/0 or a billion."""
    return next(
        (rate for rate in candidates if rate and _MIN_FPS <= rate <= _MAX_FPS), _FALLBACK_FPS
    )


def _has_only_dts(kind: Kind, stream: VideoStream) -> bool:
    """Whether the container says when a packet is decoded and leaves it to the reader when it is
    shown: AVI, and Matroska's tracks made of it (V_MS/VFW/FOURCC). Other tracks that have a FourCC
    there are coded in the order in which they are shown."""
    has_fourcc = stream.codec_context.codec_tag != _NO_FOURCC
    return kind.demuxer == "avi" or (kind.demuxer == "matroska" and has_fourcc)


def _most_reordered(stream: VideoStream) -> int:
    """Packets that may come before one whose frame is shown earlier."""
    context = stream.codec_context
    in_order = context.name not in _LATE_TO_SAY and not context.has_b_frames
    return 0 if in_order else _MOST_REORDERED


def first_frame(state: DecodeState) -> av.VideoFrame:
    """Decodes until one frame comes out.

    Raises:
        TaskError: `no_frames`, `corrupt_media`, `unsupported_media` (encrypted).
    """
    broken: FFmpegError | None = None
    try:
        for packet in state.untaken:
            state.packets += packet.size > 0
            if packet.has_sidedata("encryption_info") or packet.has_sidedata(
                "encryption_init_info"
            ):
                raise TaskError(
                    ErrorCode.unsupported_media,
                    "the video track is encrypted (DRM); send it decrypted",
                )
            state.is_intact = state.is_intact and not packet.is_corrupt
            try:
                state.frames += packet.decode()
            except FFmpegError as error:
                broken = error
                state.is_intact = False
            if state.frames:
                return state.frames[0]
            if state.packets >= _MAX_PACKETS_TO_FIRST_FRAME:
                break
    except FFmpegError as error:
        raise corrupt("no frame of it can be read") from error
    if state.packets == 0:
        raise TaskError(ErrorCode.no_frames, "the video stream holds no frame")
    raise corrupt(f"none of its first {state.packets} packets gives a frame") from broken
