"""What a file holds besides its video: audio, subtitles, attachments, chapters, metadata, copied
packet for packet.

Nothing is decoded, so audio stays the same to the sample. What the output's container cannot hold
is left out, and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard

from gpu_worker_client.split.source import SourceVideo, packets_of

_OWN_KEYS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration"}
)
"""Metadata that describes the source file itself and would be wrong in the output."""


@dataclass
class Copied:
    """What went through of one stream: enough to know the same packets again in another file."""

    kind: str
    """audio or subtitle."""
    is_aac: bool = False
    packets: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    """Of all payloads, in order."""
    first_seconds: Fraction = Fraction(0)
    last_seconds: Fraction = Fraction(0)

    def see(self, packet: Any) -> None:
        seconds = Fraction(packet.pts) * packet.time_base
        self.first_seconds = seconds if self.packets == 0 else self.first_seconds
        self.last_seconds = seconds
        self.packets += 1
        self.digest.update(without_adts(bytes(packet)) if self.is_aac else bytes(packet))


class OtherStreams:
    """Copies the other streams of a source into an output that is being written.

    Args:
        source: what `read_source` said of the file.
        output: opened for writing, no header written yet.
        video: the output's video stream; it takes over the description of the source's.
    """

    def __init__(self, source: SourceVideo, output: Any, video: Any) -> None:
        self.copied: dict[int, Copied] = {}
        """By the stream's index in the output."""
        self.warnings: list[str] = []
        self._origin_seconds = source.origin_seconds
        self._output = output
        self._targets: dict[int, Any] = {}
        self._input: Any = av.open(str(source.path))
        try:
            for stream in self._input.streams:
                if stream.index == source.stream_index:
                    describe(video, stream)
                else:
                    self._adopt(stream)
            output.metadata.update(_carried_over(self._input.metadata))
            self._copy_chapters()
        except BaseException:
            self._input.close()
            raise
        self._packets = self._demuxed()
        self._held: Any = None

    def advance(self, seconds: Fraction | None) -> None:
        """Writes the packets that belong before a time of the output; None writes the rest."""
        while True:
            self._held = self._held or next(self._packets, None)
            if self._held is None or (
                seconds is not None and self._held.dts * self._held.time_base > seconds
            ):
                return
            packet, self._held = self._held, None
            self._output.mux(packet)

    def close(self) -> None:
        self._input.close()

    def _adopt(self, stream: Any) -> None:
        """Adds a stream to the output, or notes why it has none."""
        if stream.type == "attachment" and self._output.format.name == "matroska":
            self._output.add_attachment(
                stream.name or "attachment",
                stream.mimetype or "application/octet-stream",
                stream.data,
            )
            return
        if stream.type in ("audio", "subtitle"):
            try:
                target = self._output.add_stream_from_template(stream, opaque=True)
            except (ValueError, FFmpegError):  # the container does not hold this codec
                pass
            else:
                self._targets[stream.index] = target
                self.copied[target.index] = Copied(
                    stream.type, stream.codec_context.codec.canonical_name == "aac"
                )
                describe(target, stream)
                return
        if not self._is_chapter_text(stream):
            name = self._output.format.name
            self.warnings.append(
                f"{stream.type} stream {stream.index} was left out: {name} does not carry it"
            )

    def _is_chapter_text(self, stream: Any) -> bool:
        """QuickTime keeps the titles of its chapters in a stream, one packet each; they are carried
        over as chapters."""
        return stream.type == "data" and 0 < len(self._input.chapters()) == stream.frames

    def _copy_chapters(self) -> None:
        chapters = self._input.chapters()
        for chapter in chapters:
            shift = (
                round(self._origin_seconds / chapter["time_base"]) if chapter["time_base"] else 0
            )
            chapter["start"], chapter["end"] = chapter["start"] - shift, chapter["end"] - shift
        if chapters:
            self._output.set_chapters(chapters)

    def _demuxed(self) -> Iterator[Any]:
        """Packets of the adopted streams in the file's order, on the output's clock."""
        wanted = [stream for stream in self._input.streams if stream.index in self._targets]
        if not wanted:
            return
        for stream in self._input.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        for packet in packets_of(self._input, wanted):
            if packet.dts is None and packet.pts is None:
                continue
            shift = round(self._origin_seconds / packet.time_base)
            packet.dts = (packet.pts if packet.dts is None else packet.dts) - shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = target = self._targets[packet.stream_index]
            self.copied[target.index].see(packet)
            yield packet


def without_adts(packet: bytes) -> bytes:
    """An AAC packet without the header that transport streams put before it and other containers
    take off: 7 bytes, 9 with a checksum (ISO/IEC 14496-3, 1.A.2.2)."""
    if len(packet) < 7 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return packet
    return packet[7 if packet[1] & 1 else 9 :]


def describe(target: Any, source: Any) -> None:
    """Language, title and role of a stream."""
    target.metadata.update(_carried_over(source.metadata))
    target.disposition = source.disposition


def _carried_over(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in _OWN_KEYS}
