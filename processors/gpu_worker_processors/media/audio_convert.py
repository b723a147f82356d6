"""Audio that the output's container does not carry, re-encoded packet by packet: the same channels
and rate as far as the encoder has them, gaps filled with silence, so that it stays in step.

MP4 and MOV get AAC, which everything plays; Matroska gets FLAC, which loses nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from gpu_worker_processors.media.decoders import AUDIO_DECODERS

_ENCODERS = {"mp4": "aac", "mov": "aac", "matroska": "flac"}
"""Muxer -> FFmpeg's encoder."""
_BITS_PER_CHANNEL = 128_000
"""Of AAC, per second: twice what FFmpeg's own guide to its encoder calls good
(trac.ffmpeg.org/wiki/Encode/AAC), for the source has lost something already."""
_WIDE_FORMATS = frozenset({"s32", "s32p", "s64", "s64p", "dbl", "dblp"})
"""Sample formats of decoders whose audio has more than 16 bits. What decodes to float was coded
lossily, far above the rounding to 16."""
_COMMON_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What so many channels are taken for where the file does not say, or the encoder has no such
arrangement."""
_FILL_GAPS = {"async": "1"}
"""aresample: silence where timestamps leave a gap, overlaps trimmed; never stretched."""


class AudioConverter:
    """One audio stream on its way into another codec.

    Args:
        source: the stream of the open input.
        output: opened for writing, no header written yet.
        muxer: FFmpeg's name of the output format.

    Raises:
        ValueError: no decoder of this stream is allowed here, or no encoder takes its channels.
    """

    def __init__(self, source: Any, output: Any, muxer: str) -> None:
        context = source.codec_context
        if context is None or context.name not in AUDIO_DECODERS or not context.sample_rate:
            raise ValueError("its decoder is not among those that are used here")
        self.name = _ENCODERS[muxer]
        self.damaged = 0
        """Packets that could not be decoded after the first that could: silence stands for them."""
        self._started = False
        self._end = Fraction(0)
        """Seconds of the source's clock where the frame before ended."""
        rate = _rate(self.name, context.sample_rate)
        layout = _layout(self.name, context.layout)
        self.target = output.add_stream(self.name, rate=rate)
        self.target.time_base = Fraction(1, rate)
        encoder = self.target.codec_context
        encoder.layout, encoder.time_base = layout, Fraction(1, rate)
        if self.name == "flac":
            encoder.format = "s32" if context.format.name in _WIDE_FORMATS else "s16"
        else:
            encoder.bit_rate = _BITS_PER_CHANNEL * encoder.channels
        self.format = f"{self.name}, {encoder.channels} channels, {rate} Hz"
        """For people."""
        self._shape: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None

    def convert(self, packet: Any) -> Iterator[Any]:
        """The packets that this one gives in the new codec; all that are left for the empty packet
        at the end."""
        try:
            frames = packet.decode()
        except FFmpegError:
            self.damaged += self._started
            frames = []
        for frame in frames:
            self._started = True
            self._time(frame)
            for same in self._resampled(frame):
                yield from self.target.encode(same)
        if not packet.size:
            for rest in self._flushed():
                yield from self.target.encode(rest)
            yield from self.target.encode(None)

    def _time(self, frame: AudioFrame) -> None:
        """Gives a frame that has no timestamp, as the one that a decoder held back till the end,
        the end of the one before."""
        assert frame.time_base is not None
        if frame.pts is None:
            frame.pts = round(self._end / frame.time_base)
        self._end = frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate)

    def _resampled(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._flushed()
            self._shape = shape
        encoder = self.target.codec_context
        self._resampler = self._resampler or AudioResampler(
            encoder.format, encoder.layout, encoder.sample_rate, options=_FILL_GAPS
        )
        yield from self._resampler.resample(frame)

    def _flushed(self) -> Iterator[AudioFrame]:
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            yield from resampler.resample(None)


def _rate(encoder: str, rate: int) -> int:
    """The encoder's own rate that is not below the stream's, else its highest."""
    rates = av.Codec(encoder, "w").audio_rates
    return rate if not rates else min((r for r in rates if r >= rate), default=max(rates))


def _layout(encoder: str, layout: AudioLayout) -> str:
    """
    Raises:
        ValueError: the encoder has no arrangement of so many channels.
    """
    count = layout.nb_channels
    for name in (layout.name, *_COMMON_LAYOUTS[count - 1 : count]):
        context: Any = av.CodecContext.create(encoder, "w")
        context.sample_rate, context.layout, context.time_base = 48_000, name, Fraction(1, 48_000)
        context.format = "fltp" if encoder == "aac" else "s16"
        try:
            context.open()
        except (FFmpegError, ValueError):
            continue
        return name
    raise ValueError(f"{encoder} has no arrangement of {count} channels")
