"""Files of `vidstabdetect`, text and binary: read to their end before FFmpeg gets one, because
libvidstab makes room for as many frames and vectors as the file says it has.

The forms are those of `localmotion2txt` and `serialize.c` of https://github.com/georgmartius/vid.stab
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import BinaryIO

from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.render.command.errors import Denied

_MAX_LINE = 4 * 1024**2
"""One frame in text: 60,000 vectors."""
_HEAD = struct.Struct("<3id")
"""Behind "TRF1": accuracy, shakiness, step size, contrast."""
_FRAME = struct.Struct("<2i")
"""Its number, and how many vectors follow."""
_VECTOR_BYTES = 5 * 2 + 2 * 8
_LINE = re.compile(rb"Frame ([0-9]{1,9}) \(List ([0-9]{1,9}) \[([^\[\]]*)\]\)\s*")


def check_motion(path: Path) -> None:
    """
    Raises:
        Denied: the file is none, or does not hold what it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"TRF1"):
            file.seek(4 + _HEAD.size)
            is_right = _is_right_binary(file, size)
        else:
            is_right = start == b"VID.STAB" and _is_right_text(file)
    if not is_right:
        raise Denied("the file is not what vidstabdetect writes, or it is cut off")


def _is_right_binary(file: BinaryIO, size: int) -> bool:
    frames = 0
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        number, vectors = _FRAME.unpack(head)
        frames += 1
        end = file.tell() + vectors * _VECTOR_BYTES
        if number != frames or vectors < 0 or end > size:
            return False
        file.seek(end)
    return not head


def _is_right_text(file: BinaryIO) -> bool:
    frames = 0
    file.readline(_MAX_LINE)
    while line := file.readline(_MAX_LINE):
        if line.startswith(b"#") or not line.strip():
            continue
        found = _LINE.fullmatch(line)
        frames += 1
        if found is None or parse_integer(found[1].decode()) != frames:
            return False
        if parse_integer(found[2].decode()) != found[3].count(b"(LM "):
            return False
    return True
