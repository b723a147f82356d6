"""The decoding of one video stream, from an open container to its first frame.

`probe` needs that frame and a reader needs all of them: what the first took out of the file, the
second can go on from, so that a short clip is not opened and begun twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.container import check_decoder, corrupt

_MAX_PACKETS_TO_FIRST_FRAME = 600
"""A recording cut in mid-stream may start up to ten seconds (at 60/s) before its first key
frame."""


@dataclass
class Begun:
    """A video stream that is being decoded, and how far."""

    stream: VideoStream
    untaken: Iterator[Packet[VideoStream]]
    """The packets that are left."""
    packets: int = 0
    """How many were taken, empty ones not counted."""
    frames: list[av.VideoFrame] = field(default_factory=list[av.VideoFrame])
    """All that came out of them."""
    sound: bool = True
    """Every packet taken was whole and could be decoded."""


def begin(
    container: InputContainer, stream: VideoStream, limits: Limits, threads: int | None
) -> Begun:
    """Makes one stream ready to be decoded; the container's others are passed over.

    Args:
        container: just opened, and open while the stream is decoded.
        threads: that decode, 0 is one per core; None for the first frame soonest: frame threads ask
            for several packets before.
    """
    check_decoder(stream)
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
    stream.thread_type = "SLICE" if threads is None else "AUTO"
    stream.codec_context.thread_count = threads or 0
    return Begun(stream, container.demux(stream))


def first_frame(begun: Begun) -> av.VideoFrame:
    """Decodes until one frame comes out.

    Raises:
        TaskError: `no_frames`, `corrupt_media`, `unsupported_media` (encrypted).
    """
    broken: FFmpegError | None = None
    try:
        for packet in begun.untaken:
            begun.packets += packet.size > 0
            if packet.has_sidedata("encryption_info") or packet.has_sidedata(
                "encryption_init_info"
            ):
                raise TaskError(
                    ErrorCode.unsupported_media,
                    "the video track is encrypted (DRM); send it decrypted",
                )
            begun.sound = begun.sound and not packet.is_corrupt
            try:
                begun.frames += packet.decode()
            except FFmpegError as error:
                broken = error
                begun.sound = False
            if begun.frames:
                return begun.frames[0]
            if begun.packets >= _MAX_PACKETS_TO_FIRST_FRAME:
                break
    except FFmpegError as error:
        raise corrupt("no frame of it can be read") from error
    if begun.packets == 0:
        raise TaskError(ErrorCode.no_frames, "the video stream holds no frame")
    raise corrupt(f"none of its first {begun.packets} packets gives a frame") from broken
