"""Just enough of H.264 and H.265 to cut and join them: where decoding can start anew, and parameter
sets that travel inside.

Both codecs come in two wrappings: each NAL unit behind its length (MP4, Matroska; the extradata
then is a configuration record that begins with 1), or behind a start code (transport streams).
Sections and tables are those of ITU-T H.264, H.265 and of ISO/IEC 14496-15 for the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

H264_IDR = 5
"""Table 7-1: slice of an instantaneous decoding refresh (IDR) frame. Frames after it never refer to
frames before it; no other I frame promises that."""
H265_RANDOM_ACCESS = range(16, 22)
"""Table 7-1: BLA, IDR and CRA frames. Leading frames of a CRA, which may refer back, are known by
their timestamps."""
_START_CODE = re.compile(rb"\x00\x00\x01")


def starts_anew(codec: str, extradata: bytes, packet: bytes) -> bool:
    """Whether a packet that the container calls a key frame lets decoding start without anything
    before it.

    Args:
        codec: FFmpeg's name; every codec but h264 and hevc is believed.
        extradata: of the stream.
        packet: one access unit.
    """
    if codec == "h264":
        return any(unit[0] & 0x1F == H264_IDR for unit in units(codec, extradata, packet) if unit)
    if codec == "hevc":
        return any(
            (unit[0] >> 1) & 0x3F in H265_RANDOM_ACCESS
            for unit in units(codec, extradata, packet)
            if unit
        )
    return True


def units(codec: str, extradata: bytes, packet: bytes) -> Iterator[bytes]:
    """The NAL units of an access unit, without their wrapping."""
    size = _length_bytes(codec, extradata)
    if size is None:
        starts = [match.end() for match in _START_CODE.finditer(packet)]
        for start, end in zip(
            starts, [*(start - 3 for start in starts[1:]), len(packet)], strict=True
        ):
            yield packet[start:end].rstrip(b"\x00")
        return
    offset = 0
    while offset + size < len(packet):
        length = int.from_bytes(packet[offset : offset + size], "big")
        yield packet[offset + size : offset + size + length]
        offset += size + length


def with_parameter_sets(codec: str, extradata: bytes, packet: bytes) -> bytes:
    """An access unit led by the parameter sets of its extradata, in its own wrapping."""
    size = _length_bytes(codec, extradata)
    if size is None:
        return extradata + packet
    sets = avc_parameter_sets(extradata) if codec == "h264" else hevc_parameter_sets(extradata)
    return b"".join(len(unit).to_bytes(size, "big") + unit for unit in sets) + packet


def avc_parameter_sets(record: bytes) -> list[bytes]:
    """SPS and PPS of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1.2)."""
    offset, found = 5, list[bytes]()
    for mask in (0x1F, 0xFF):
        count, offset = record[offset] & mask, offset + 1
        for _ in range(count):
            length = int.from_bytes(record[offset : offset + 2], "big")
            found.append(record[offset + 2 : offset + 2 + length])
            offset += 2 + length
    return found


def hevc_parameter_sets(record: bytes) -> list[bytes]:
    """VPS, SPS and PPS of an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1.2)."""
    offset, found = 23, list[bytes]()
    for _ in range(record[22]):
        count = int.from_bytes(record[offset + 1 : offset + 3], "big")
        offset += 3
        for _ in range(count):
            length = int.from_bytes(record[offset : offset + 2], "big")
            found.append(record[offset + 2 : offset + 2 + length])
            offset += 2 + length
    return found


def _length_bytes(codec: str, extradata: bytes) -> int | None:
    """How many bytes hold the length of a NAL unit; None with start codes."""
    if not extradata or extradata[0] != 1:
        return None
    return (extradata[4 if codec == "h264" else 21] & 3) + 1
