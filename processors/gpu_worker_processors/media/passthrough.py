"""Everything of the source but its video stream: audio, subtitles, attachments, chapters,
metadata, carried into the output.

Packets are copied bit for bit and in step with the video, so memory stays constant. What the
container cannot hold is converted where that loses nothing but styling (text subtitles), else left
out, and `notes` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard
from av.subtitles.subtitle import SubtitleSet

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.container import opened
from gpu_worker_processors.media.probe import MediaInfo

_OWN_KEYS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration"}
)
"""Metadata that describes the source file itself and would be wrong in the output."""
_TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
_EPOCH_DEMUXERS = frozenset({"mpegts", "mpeg", "flv", "ogg"})
"""Formats whose clock starts anywhere: their first timestamp becomes 0. In all other formats 0
means 0, so a late start stays late."""


class Passthrough:
    """Copies the other streams of `source` into an output that is being written.

    Args:
        source: the input file.
        info: what `probe` said of it.
        output: opened for writing, no header written yet.
        video: the output's stream of the re-made video; takes over the metadata of the source's.
        muxer: FFmpeg's name of the output format.
    """

    def __init__(
        self,
        source: Path,
        info: MediaInfo,
        output: Any,
        video: Any,
        muxer: str,
        limits: Limits = Limits(),  # noqa: B008
    ) -> None:
        self.notes: list[ResultWarning] = []
        self._output = output
        self._targets: dict[int, Any] = {}
        self._converters: dict[int, _TextConverter] = {}
        with ExitStack() as stack:
            self._input: Any = stack.enter_context(opened(source, info.kind, limits))
            self.origin_seconds = _origin(self._input, info)
            """Seconds of the source's clock that are 0 in the output."""
            for stream in self._input.streams:
                if info.video is None or stream.index != info.video.index:
                    self._adopt(stream, muxer)
                else:
                    _describe(video, stream)
            output.metadata.update(_inherited(self._input.metadata))
            self._copy_chapters()
            self._stack = stack.pop_all()
        self._packets = self._demuxed()
        self._held: Any = None
        nothing = Fraction(0), Fraction(0)
        self._audio_spans = {stream.index: nothing for stream in output.streams.audio}
        """Start and end of what was written, in seconds, by the index of the output's stream."""

    @property
    def audio_seconds(self) -> tuple[Fraction, ...]:
        """Length of each audio stream of the output so far."""
        return tuple(end - start for start, end in self._audio_spans.values())

    def advance(self, seconds: Fraction | None) -> None:
        """Writes all packets that belong before a time of the output; None writes the rest."""
        while True:
            if self._held is None:
                self._held = next(self._packets, None)
            packet = self._held
            if packet is None:
                return
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._held = None
            self._measure(packet)
            self._output.mux(packet)

    def close(self) -> None:
        self._stack.close()

    def _measure(self, packet: Any) -> None:
        if packet.stream.index not in self._audio_spans:
            return
        at = packet.dts * packet.time_base
        start, end = self._audio_spans[packet.stream.index]
        self._audio_spans[packet.stream.index] = (
            start if end else at,
            at + (packet.duration or 0) * packet.time_base,
        )

    def _adopt(self, stream: Any, muxer: str) -> None:
        """Adds a stream to the output, or notes why it is left out."""
        if stream.type == "attachment" and muxer == "matroska":
            self._output.add_attachment(
                stream.name or "attachment",
                stream.mimetype or "application/octet-stream",
                stream.data,
            )
            return
        if stream.type not in ("audio", "subtitle"):
            if not _is_chapter_text(stream):
                self._leave_out(stream, muxer)
            return
        try:
            target = self._output.add_stream_from_template(stream)
        except (ValueError, FFmpegError):  # the container does not hold this codec
            self._convert(stream, muxer)
            return
        self._targets[stream.index] = target
        _describe(target, stream)

    def _convert(self, stream: Any, muxer: str) -> None:
        name = _codec_name(stream)
        converter = _TextConverter.make(
            stream, self._output, "srt" if muxer == "matroska" else "mov_text"
        )
        if converter is None:
            self._leave_out(stream, muxer)
            return
        self._converters[stream.index] = converter
        _describe(converter.target, stream)
        message = (
            f"subtitle stream {stream.index} ({name}) was converted to {converter.name}; styling is"
            " lost"
        )
        self.notes.append(ResultWarning(code="subtitle_converted", message=message))

    def _leave_out(self, stream: Any, muxer: str) -> None:
        message = (
            f"{stream.type} stream {stream.index} ({_codec_name(stream)}) was left out: {muxer}"
            " does not carry it"
        )
        self.notes.append(ResultWarning(code="stream_left_out", message=message))

    def _copy_chapters(self) -> None:
        chapters = self._input.chapters()
        for chapter in chapters:
            shift = round(self.origin_seconds / chapter["time_base"]) if chapter["time_base"] else 0
            chapter["start"], chapter["end"] = chapter["start"] - shift, chapter["end"] - shift
        if chapters:
            self._output.set_chapters(chapters)

    def _demuxed(self) -> Iterator[Any]:
        """Packets of the adopted streams in file order, on the output's clock."""
        wanted = [
            s
            for s in self._input.streams
            if s.index in self._targets or s.index in self._converters
        ]
        if not wanted:
            return
        for stream in self._input.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        try:
            for packet in self._input.demux(wanted):
                if packet.dts is None and packet.pts is None:
                    continue
                index = packet.stream_index
                if index in self._converters:
                    packet = self._converters[index].convert(packet)
                    if packet is None:
                        continue
                else:
                    packet.stream = self._targets[index]
                shift = round(self.origin_seconds / packet.time_base)
                packet.dts = (packet.pts if packet.dts is None else packet.dts) - shift
                packet.pts = None if packet.pts is None else packet.pts - shift
                yield packet
        except FFmpegError as error:
            raise TaskError(
                ErrorCode.corrupt_media,
                f"the file broke while its audio was copied: {error.strerror}",
            ) from error


class _TextConverter:
    """Text subtitles re-encoded packet by packet."""

    def __init__(self, source: Any, target: Any, name: str) -> None:
        self.target = target
        self.name = name
        self._source = source
        source.codec_context.open(strict=False)  # makes the header that the encoder asks for
        target.codec_context.subtitle_header = source.codec_context.subtitle_header

    @classmethod
    def make(cls, source: Any, output: Any, name: str) -> _TextConverter | None:
        """None when the stream is not text, or this PyAV cannot encode subtitles."""
        if source.type != "subtitle" or _codec_name(source) not in _TEXT_SUBTITLES:
            return None
        if not hasattr(source.codec_context, "encode_subtitle"):
            return None
        target = output.add_stream(name)
        target.time_base = source.time_base
        return cls(source, target, name)

    def convert(self, packet: Any) -> Any:
        """The packet in the new codec with the old times; None when it holds no text."""
        decoded = self._source.codec_context.decode2(packet)
        if not decoded or not decoded.rects:
            return None
        text = b"\\N".join(
            rect.ass.split(b",", 8)[-1] for rect in decoded.rects if hasattr(rect, "ass")
        )
        line = SubtitleSet.create(
            text=b"0,0,Default,,0,0,0,," + text,
            start=0,
            end=round((packet.duration or 0) * packet.time_base * 1000),
        )
        result = self.target.codec_context.encode_subtitle(line)
        result.stream, result.time_base = self.target, packet.time_base
        result.pts, result.dts, result.duration = packet.pts, packet.pts, packet.duration
        return result


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name


def _is_chapter_text(stream: Any) -> bool:
    """QuickTime keeps the titles of its chapters in a stream, one packet each; they are carried
    over as chapters."""
    chapters = stream.container.chapters()
    return (
        stream.type == "data" and stream.name == "bin_data" and 0 < len(chapters) == stream.frames
    )


def _describe(target: Any, source: Any) -> None:
    target.metadata.update(_inherited(source.metadata))
    target.disposition = source.disposition


def _inherited(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in _OWN_KEYS}


def _origin(container: Any, info: MediaInfo) -> Fraction:
    if container.start_time is None or info.kind.demuxer not in _EPOCH_DEMUXERS:
        return Fraction(0)
    return Fraction(container.start_time, av.time_base)
