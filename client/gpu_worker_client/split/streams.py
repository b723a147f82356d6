"""What a file holds besides its video: audio, subtitles, attachments, chapters, metadata, copied
packet for packet.

Nothing is decoded, so audio stays the same to the sample. What the output's container cannot hold
is left out, and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av.error import FFmpegError
from av.stream import Discard

from gpu_worker_client.split.source import SourceVideo, packets_of

_OWN_KEYS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration"}
)
"""Metadata that describes the source file itself and would be wrong in the output."""


@dataclass
class Copied:
    """What was seen of one stream: enough to know the same packets again in another file."""

    kind: str
    """audio or subtitle."""
    is_aac: bool = False
    packets: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    """Hash of all payloads, in order."""
    first_seconds: Fraction = Fraction(0)
    last_seconds: Fraction = Fraction(0)

    def see(self, packet: Any) -> None:
        self.last_seconds = packet.pts * packet.time_base
        if self.packets == 0:
            self.first_seconds = self.last_seconds
        self.packets += 1
        self.digest.update(without_adts(bytes(packet)) if self.is_aac else bytes(packet))

    def is_same(self, other: Copied, late: Fraction, tolerance: Fraction) -> bool:
        """Whether these are the packets of another one, all of them `late` by so many seconds."""
        first = self.first_seconds - other.first_seconds - late
        last = self.last_seconds - other.last_seconds - late
        in_time = not self.packets or max(abs(first), abs(last)) <= tolerance
        same = self.packets == other.packets and self.digest.digest() == other.digest.digest()
        return same and in_time


class OtherStreams:
    """Copies the other streams of a source, which is `opened`, into an output that is being written
    and has no header yet. The output's video stream takes over the description of the source's."""

    def __init__(self, source: SourceVideo, opened: Any, output: Any, video: Any) -> None:
        self.copied: dict[int, Copied] = {}
        """Stream's index in the output -> what was copied."""
        self.warnings: list[str] = []
        self._origin_seconds, self._input, self._output = source.origin_seconds, opened, output
        self._targets: dict[int, Any] = {}
        for stream in opened.streams:
            if stream.index == source.stream_index:
                _describe(video, stream)
            else:
                self._adopt(stream)
        output.metadata.update(_carried_over(opened.metadata))
        self._copy_chapters()

    def packets(self) -> Iterator[Any]:
        """The packets of the copied streams in the file's order, on the output's clock."""
        wanted = [stream for stream in self._input.streams if stream.index in self._targets]
        for stream in self._input.streams:
            if stream not in wanted:
                stream.discard = Discard.all
        for packet in packets_of(self._input, wanted) if wanted else ():
            if packet.dts is None and packet.pts is None:
                continue
            shift = round(self._origin_seconds / packet.time_base)
            packet.dts = (packet.pts if packet.dts is None else packet.dts) - shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = target = self._targets[packet.stream_index]
            self.copied[target.index].see(packet)
            yield packet

    def _adopt(self, stream: Any) -> None:
        """Adds a stream to the output, or notes why it has none."""
        container = self._output.format.name
        if stream.type == "attachment" and container == "matroska":
            self._output.add_attachment(
                stream.name or "attachment",
                stream.mimetype or "application/octet-stream",
                stream.data,
            )
            return
        if stream.type in ("audio", "subtitle"):
            with suppress(ValueError, FFmpegError):  # the container does not hold this codec
                target = self._output.add_stream_from_template(stream, opaque=True)
                is_aac = stream.codec_context.codec.canonical_name == "aac"
                self._targets[stream.index] = target
                self.copied[target.index] = Copied(stream.type, is_aac)
                _describe(target, stream)
                return
        # QuickTime keeps the titles of its chapters in a stream, one packet each; they are carried
        # over as chapters.
        if stream.type != "data" or not 0 < len(self._input.chapters()) == stream.frames:
            self.warnings.append(
                f"{stream.type} stream {stream.index} was left out: {container} does not carry it"
            )

    def _copy_chapters(self) -> None:
        chapters = self._input.chapters()
        for chapter in chapters:
            if chapter["time_base"]:
                shift = round(self._origin_seconds / chapter["time_base"])
                chapter["start"], chapter["end"] = chapter["start"] - shift, chapter["end"] - shift
        if chapters:
            self._output.set_chapters(chapters)


def without_adts(packet: bytes) -> bytes:
    """An AAC packet without the header that transport streams put before it and other containers
    take off: 7 bytes, 9 with a checksum (ISO/IEC 14496-3, 1.A.2.2)."""
    if len(packet) < 7 or packet[0] != 0xFF or packet[1] & 0xF6 != 0xF0:
        return packet
    return packet[7 if packet[1] & 1 else 9 :]


def _describe(target: Any, source: Any) -> None:
    """Copies language, title and role of a stream."""
    target.metadata.update(_carried_over(source.metadata))
    target.disposition = source.disposition


def _carried_over(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in _OWN_KEYS}
