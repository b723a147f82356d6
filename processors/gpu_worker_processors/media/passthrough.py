"""Everything of the source but its video stream: audio, subtitles, attachments, chapters,
metadata, carried into the output.

Packets are copied bit for bit and in step with the video, so memory stays constant. The muxer
itself is asked what it takes. Audio that it refuses is re-encoded, text subtitles are converted,
anything else is left out, and `notes` says so.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.subtitles.subtitle import SubtitleSet

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.audio_convert import AudioConverter
from gpu_worker_processors.media.clock import CLOCK_STARTS_ANYWHERE, ClockJump, continuous
from gpu_worker_processors.media.container import opened
from gpu_worker_processors.media.probe import MediaInfo
from gpu_worker_processors.media.programs import foreign_ids
from gpu_worker_processors.media.retime import RisingTimes

_OWN_KEYS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration"}
    | {"alpha_mode"}
)
"""Metadata that describes the source file itself and would be wrong in the output."""
_TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "mov_text", "webvtt", "text"})
_COVERS = {"mjpeg": "jpeg", "png": "png"}
"""Codec of a cover -> its file type."""
_UNPLAYED = {"mp4": ("vorbis", "pcm_")}
"""Muxer -> beginnings of codecs that FFmpeg writes into it and hardly any player finds there:
Vorbis under a tag of FFmpeg's own, PCM by ISO/IEC 23003-5."""
_MARKS = {
    "spherical": "mark of a 360-degree video",
    "stereo3d": "mark of a 3D video",
}
"""`VideoInfo.marks` in words."""
_ENDLESS_SECONDS = 2**32 // 1000
_LEAD_IN_SECONDS = Fraction(3, 100)
"""What an edit list hides and an audio decoder needs before the first sample that is played: one
packet of AAC. Matroska has no time before 0, so all that is copied of it makes the output late."""


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
        self._limits = limits
        self._source = source
        self._covers: list[Any] = []
        """Packets to be written once the header is."""
        self._targets: dict[int, Any] = {}
        self._converters: dict[int, _TextConverter | AudioConverter] = {}
        with ExitStack() as stack:
            self._input: Any = stack.enter_context(opened(source, info.kind, limits))
            self._info = info
            video_id = self._input.streams[info.video.index].id if info.video else 0
            self._foreign = foreign_ids(source, info.kind, video_id)
            self.origin_seconds = _origin(self._input, info)
            """Seconds of the source's clock that are 0 in the output."""
            for stream in self._input.streams:
                if info.video is None or stream.index != info.video.index:
                    self._adopt(stream, muxer)
                else:
                    _describe(video, stream)
            self._note_marks(info, muxer)
            output.metadata.update(_inherited(self._input.metadata))
            if info.video and info.video.timecode:
                self._keep_timecode(video, info.video.timecode)
            self._copy_chapters()
            self._stack = stack.pop_all()
        self._packets = self._demuxed()
        self._held: Any = None
        nothing = Fraction(0), Fraction(0)
        self._audio_spans = {stream.index: nothing for stream in output.streams.audio}
        """Start and end of what was written, in seconds, by the index of the output's stream."""
        self.subtitles_end_seconds = Fraction(0)
        """End of the last subtitle that was written."""

    @property
    def audio_seconds(self) -> tuple[Fraction, ...]:
        """Length of each audio stream of the output so far."""
        return tuple(end - start for start, end in self._audio_spans.values())

    def advance(self, seconds: Fraction | None) -> None:
        """Writes all packets that belong before a time of the output; None writes the rest."""
        while self._covers:
            self._output.mux(self._covers.pop())
        while True:
            if self._held is None:
                self._held = next(self._packets, None)
            packet = self._held
            if packet is None:
                self._note_damage()
                return
            if seconds is not None and packet.dts * packet.time_base > seconds:
                return
            self._held = None
            self._measure(packet)
            self._output.mux(packet)

    def close(self) -> None:
        self._stack.close()

    def _note_marks(self, info: MediaInfo, muxer: str) -> None:
        """What the source's stream says of itself and the output's does not. Matroska takes the 3D
        mode from the metadata."""
        for mark in sorted(info.video.marks if info.video else ()):
            if (mark, muxer) != ("stereo3d", "matroska"):
                message = f"the source's {_MARKS[mark]} is not in the output; mark it there anew"
                self.notes.append(ResultWarning(code=f"{mark}_dropped", message=message))

    def _keep_timecode(self, video: Any, timecode: str) -> None:
        """What stands inside the source's stream becomes a tag or a track of the output, where the
        source's container does not say it already."""
        if "timecode" not in {key.lower() for key in (*video.metadata, *self._output.metadata)}:
            video.metadata["timecode"] = timecode

    def _note_damage(self) -> None:
        for index, converter in self._converters.items():
            if isinstance(converter, AudioConverter) and converter.damaged:
                stream = self._input.streams[index]
                what = f"has {converter.damaged} damaged packets; they are silent"
                self._note("audio_damaged", stream, what)
                converter.damaged = 0

    def _measure(self, packet: Any) -> None:
        at = packet.dts * packet.time_base
        after = at + (packet.duration or 0) * packet.time_base
        if packet.stream.index in self._audio_spans:
            start, end = self._audio_spans[packet.stream.index]
            self._audio_spans[packet.stream.index] = start if end else at, after
        else:
            self.subtitles_end_seconds = max(self.subtitles_end_seconds, after)

    def _adopt(self, stream: Any, muxer: str) -> None:
        """Adds a stream to the output, or notes why it is left out."""
        if stream.type == "attachment" and muxer == "matroska":
            self._output.add_attachment(
                stream.name or "attachment",
                stream.mimetype or "application/octet-stream",
                stream.data,
            )
            return
        if stream.type == "video" and stream.disposition & Disposition.attached_pic:
            self._add_cover(stream, muxer)
        elif stream.type == "video":
            self._leave_out(stream, "one video stream is made")
        elif stream.id in self._foreign:
            self._leave_out(stream, "it is of another programme than the video")
        elif _is_carried_as_metadata(stream):
            return
        elif stream.type == "audio" and _is_cut(stream):
            self._convert_audio(stream, muxer, "edits cut inside its packets")
        elif carries(muxer, stream):
            self._targets[stream.index] = self._output.add_stream_from_template(stream)
            _describe(self._targets[stream.index], stream)
        elif stream.type == "audio":
            self._convert_audio(stream, muxer, f"it could not be copied into {muxer}")
        else:
            self._convert_subtitle(stream, muxer)

    def _add_cover(self, stream: Any, muxer: str) -> None:
        kind = _COVERS.get(_codec_name(stream))
        if kind is None or muxer == "mov":  # FFmpeg's takes it and writes nothing
            self._leave_out(stream, f"no such cover is written into {muxer}")
            return
        with opened(self._source, self._info.kind, self._limits, decode=False) as anew:
            packet: Any = next(anew.demux(anew.streams[stream.index]))
        if muxer == "matroska":
            self._output.add_attachment(f"cover.{kind}", f"image/{kind}", bytes(packet))
            return
        packet.stream = self._output.add_stream_from_template(stream)
        _describe(packet.stream, stream)
        packet.pts = packet.dts = 0
        self._covers.append(packet)

    def _convert_audio(self, stream: Any, muxer: str, reason: str) -> None:
        try:
            converter = AudioConverter(stream, self._output, muxer)
        except ValueError as error:
            self._leave_out(stream, f"{reason}, and {error}")
            return
        self._converted(stream, converter, f"{converter.format}; {reason}")

    def _convert_subtitle(self, stream: Any, muxer: str) -> None:
        codec = "srt" if muxer == "matroska" else "mov_text"
        converter = _TextConverter.make(stream, self._output, codec)
        if converter is None:
            self._leave_out(stream, f"it could not be copied into {muxer}")
            return
        self._converted(stream, converter, f"{codec}; styling is lost")

    def _converted(
        self, stream: Any, converter: _TextConverter | AudioConverter, into: str
    ) -> None:
        self._converters[stream.index] = converter
        _describe(converter.target, stream)
        self._note(f"{stream.type}_converted", stream, f"was converted to {into}")

    def _leave_out(self, stream: Any, reason: str) -> None:
        self._note("stream_left_out", stream, f"was left out: {reason}")

    def _note(self, code: str, stream: Any, what: str) -> None:
        message = f"{stream.type} stream {stream.index} ({_codec_name(stream)}) {what}"
        self.notes.append(ResultWarning(code=code, message=message))

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
        video = self._info.video
        leader = wanted[0] if video is None else self._input.streams[video.index]
        for stream in self._input.streams:
            if stream not in (*wanted, leader):
                stream.discard = Discard.all
        jumps: list[ClockJump] = []
        muxer = self._output.format.name
        times = {
            stream.index: RisingTimes(jumps, muxer, is_audio=stream.type == "audio")
            for stream in wanted
        }
        try:
            for packet in continuous(self._input, self._info.kind, wanted, leader, jumps):
                index = packet.stream.index  # an empty one at the end has no other
                converter = self._converters.get(index)
                for made in [packet] if converter is None else converter.convert(packet):
                    if (made.dts is None and made.pts is None) or self._is_cut_off(made):
                        continue
                    if converter is None:
                        made.stream = self._targets[index]
                    if made.stream.type == "subtitle":
                        _end_with_the_next(made)
                    shift = round(self.origin_seconds / made.time_base)
                    made.dts = (made.pts if made.dts is None else made.dts) - shift
                    made.pts = None if made.pts is None else made.pts - shift
                    if times[index].take(made):
                        yield made
        except FFmpegError as error:
            if self._limits.on_damage == "conceal":
                message = "the audio and subtitles end where the file breaks off"
                self.notes.append(ResultWarning(code="damage_concealed", message=message))
                return
            raise TaskError(
                ErrorCode.corrupt_media,
                f"the file broke while its audio was copied: {error.strerror}",
            ) from error

    def _is_cut_off(self, packet: Any) -> bool:
        """Whether an edit list cuts it off, beyond what the decoder needs to start."""
        if not packet.is_discard or packet.pts is None:
            return False
        end = (packet.pts + (packet.duration or 0)) * packet.time_base
        return end < self.origin_seconds - _LEAD_IN_SECONDS


class _TextConverter:
    """Text subtitles re-encoded packet by packet."""

    def __init__(self, source: Any, target: Any) -> None:
        self.target = target
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
        return cls(source, target)

    def convert(self, packet: Any) -> Iterator[Any]:
        """The packet in the new codec with the old times; none when it holds no text."""
        decoded = self._source.codec_context.decode2(packet) if packet.size else None
        if not decoded or not decoded.rects:
            return
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
        yield result


def carries(muxer: str, stream: Any) -> bool:
    """Whether the output's container takes a copy of the stream, as its muxer says when it is asked
    for a header: only then does it judge rate, channels and strictness."""
    if _codec_name(stream).startswith(_UNPLAYED.get(muxer, "-")):
        return False
    if stream.type == "data" and not stream.container.format.name.startswith("mov"):
        return False  # FFmpeg's mov muxer takes KLV and the like and writes an empty track
    trial = av.open(io.BytesIO(), "w", format=muxer)
    try:
        trial.add_stream_from_template(stream)
        trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    finally:
        with suppress(FFmpegError):  # a trailer without packets
            trial.close()
    return True


def _end_with_the_next(subtitle: Any) -> None:
    """FFmpeg writes 2^32 - 1 ms for a bitmap that is shown until the next one: copied, the output
    would last for weeks, or MP4 not take it."""
    if (subtitle.duration or 0) * subtitle.time_base >= _ENDLESS_SECONDS:
        subtitle.duration = 0


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    if context is not None:
        return context.codec.canonical_name
    return stream.name if stream.type == "data" else "unknown"  # others have no name of their own


def _is_carried_as_metadata(stream: Any) -> bool:
    """QuickTime keeps the titles of its chapters in a stream, one packet each, and the timecode in
    another; they are carried over as chapters and as the video's metadata."""
    if stream.type != "data":
        return False
    chapters = len(stream.container.chapters())
    is_titles = stream.name == "bin_data" and 0 < chapters == stream.frames
    return is_titles or "timecode" in stream.metadata


def _describe(target: Any, source: Any) -> None:
    target.metadata.update(_inherited(source.metadata))
    target.disposition = source.disposition


def _inherited(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in _OWN_KEYS}


def _is_cut(stream: Any) -> bool:
    """Whether several edits make up an audio stream of an MP4, by its index: FFmpeg lists what lies
    between them as packets that are to be decoded and not played."""
    played = [not entry.is_discard for entry in stream.index_entries]
    begins = sum(now and not before for before, now in pairwise([False, *played]))
    return begins > 1


def _origin(container: Any, info: MediaInfo) -> Fraction:
    """As in plain FFmpeg, the first timestamp becomes 0, but for the lead-in of audio before it."""
    start = Fraction(container.start_time or 0, av.time_base)
    return start if info.kind.demuxer in CLOCK_STARTS_ANYWHERE else max(Fraction(0), start)
