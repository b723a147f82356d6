"""Which streams of a transport stream belong together.

A broadcast may carry several programmes side by side; the video of one must not get the audio of
another. FFmpeg knows, but PyAV does not pass it on: the tables at the start of the file say it
(ISO/IEC 13818-1, 2.4.4).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gpu_worker_processors.media.sniff import Kind, transport_packet_bytes

_SEARCHED_BYTES = 4 << 20
"""The tables come every half second at least (ETSI TR 101 290): 4 MiB at 64 Mbit/s."""
_PACKET_BYTES = 188
_PAT, _PMT = 0, 2
"""Table ids."""


def foreign_ids(path: Path, kind: Kind, stream_id: int) -> frozenset[int]:
    """Ids of streams that are of other programmes than one stream, and not of its own as well.
    Empty for any file but a transport stream of several programmes."""
    if kind.demuxer != "mpegts":
        return frozenset()
    found = _programs(path, kind.start)
    own = frozenset[int]().union(*(ids for ids in found if stream_id in ids))
    return frozenset[int]().union(*found) - own if own else frozenset()


def _programs(path: Path, start: int) -> list[frozenset[int]]:
    """Of each programme, the ids (PIDs) of its streams."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(_SEARCHED_BYTES)
    maps: dict[int, frozenset[int]] = {}
    wanted = {_PAT}
    for pid, section in _sections(data, wanted):
        if pid == _PAT and section[0] == _PAT:
            entries = [section[at : at + 4] for at in range(8, len(section) - 4, 4)]
            wanted |= {_pid(entry[2:]) for entry in entries if entry[:2] != b"\0\0"}
        elif section[0] == _PMT and len(section) > 12:
            maps[pid] = frozenset(_streams(section))
        if len(wanted) > 1 and len(maps) == len(wanted) - 1:
            break
    return list(maps.values())


def _sections(data: bytes, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """(PID, section) of those PIDs; more may be wanted on the way."""
    size = transport_packet_bytes(data[:4096])
    first = {192: 4}.get(size, 0)
    parts: dict[int, bytes] = {}
    for at in range(first, len(data) - _PACKET_BYTES + 1, size or len(data)):
        packet = data[at : at + _PACKET_BYTES]
        pid = _pid(packet[1:])
        if pid not in wanted or not packet[3] & 0x10:
            continue
        payload = packet[4 + (1 + packet[4] if packet[3] & 0x20 else 0) :]
        if packet[1] & 0x40 and payload:
            parts[pid] = payload[1 + payload[0] :]
        elif pid in parts:
            parts[pid] += payload
        section = parts.get(pid, b"")
        length = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
        if 3 < length <= len(section):
            yield pid, section[:length]
            del parts[pid]


def _streams(section: bytes) -> Iterator[int]:
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    while at + 5 <= len(section) - 4:
        yield _pid(section[at + 1 :])
        at += 5 + (int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF)


def _pid(two: bytes) -> int:
    return int.from_bytes(two[:2], "big") & 0x1FFF
