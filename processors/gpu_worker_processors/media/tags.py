"""Tags that stand before or behind the audio of a file: ID3, APE, Lyrics3.

They are no part of the audio, may be megabytes of cover art, and stand around formats that know
nothing of them.
"""

from __future__ import annotations

from typing import BinaryIO

from gpu_worker_client.protocol.foreign import parse_integer

_ID3_BYTES, _APE_BYTES = 10, 32
"""Of the head of a tag: ID3v2.4, 3.1; APEv2."""
_ID3V1_BYTES = 128
_MOST_TAGS = 8
"""Around one file; more is no file that anybody has tagged."""


def end_of_leading_tags(file: BinaryIO) -> int:
    """Where the tags at the start of a file end; 0 without any."""
    at = 0
    for _ in range(_MOST_TAGS):
        file.seek(at)
        head = file.read(_APE_BYTES)
        if head[:3] == b"ID3" and len(head) == _APE_BYTES and max(head[6:_ID3_BYTES]) < 0x80:
            size = 0
            for byte in head[6:_ID3_BYTES]:
                size = size << 7 | byte
            at += _ID3_BYTES + size + (_ID3_BYTES if head[5] & 0x10 else 0)
        elif head[:8] == b"APETAGEX":
            at += _APE_BYTES + int.from_bytes(head[12:16], "little")
        else:
            break
    return at


def start_of_trailing_tags(file: BinaryIO) -> int:
    """Where the tags at the end of a file start; the file's size without any."""
    end = file.seek(0, 2)
    for _ in range(_MOST_TAGS):
        size = _trailing_bytes(file, end)
        if not 0 < size < end:
            break
        end -= size
    return end


def _trailing_bytes(file: BinaryIO, end: int) -> int:
    """Size of the tag that ends there; 0 for none."""
    file.seek(max(0, end - _ID3V1_BYTES))
    tail = file.read(end - file.tell())
    if tail[-_APE_BYTES:-24] == b"APETAGEX":
        has_head = tail[-9] & 0x80
        return int.from_bytes(tail[-20:-16], "little") + (_APE_BYTES if has_head else 0)
    if tail.endswith(b"LYRICS200"):
        return (parse_integer(tail[-15:-9].decode("latin-1")) or 0) + 15
    if tail[:3] == b"TAG" and len(tail) == _ID3V1_BYTES:
        return _ID3V1_BYTES
    return 0
