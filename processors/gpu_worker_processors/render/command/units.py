"""FFmpeg's notation of numbers, times, sizes and rates, as far as a command may use it."""

from __future__ import annotations

import re

from gpu_worker_processors.base import Limits


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAX_PIXELS = Limits.max_pixels
"""Largest frame that a command may ask for; the same limit holds for its inputs."""
MAX_CELLS = 100
"""Of a mosaic."""
MAX_RATE = 240
"""Frames per second."""
MAX_SECONDS = 1e6
"""Of any time: 11 days."""

SIZE_NAMES = _names(
    "ntsc pal qntsc qpal sntsc spal film ntsc-film sqcif qcif cif 4cif 16cif qqvga qvga vga svga"
    " xga uxga qxga sxga wvga wxga wsxga wuxga woxga wqsxga wquxga cga ega hd480 hd720 hd1080"
    " quadhd 2k 2kdci 2kflat 2kscope 4k 4kdci 4kflat 4kscope uhd2160 nhd hqvga wqvga fwqvga"
    " hvga qhd"
)
"""Names that libavutil knows for sizes, none above 4096x2160."""
RATE_NAMES = _names("ntsc pal qntsc qpal sntsc spal film ntsc-film")

_NUMBER = re.compile(
    r"([+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,2})?)(dB|(?:[kKMGm]i?)?B?)"
)
_SI = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_BINARY = {"": 1.0, "m": 1.0, "k": 2.0**10, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}
_CLOCK = re.compile(r"-?(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{1,2}(?:\.[0-9]{0,9})?)")
_SECONDS = re.compile(r"(-?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))(us|ms|s)?")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_FRACTION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:/([0-9]{1,9}(?:\.[0-9]{1,9})?))?")


def number(text: str) -> float | None:
    """A literal with an SI prefix ("5M", "1.5k", "-3dB"), None for anything else. `i` makes it
    binary, `B` counts bytes."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    value, suffix = float(found[1]), found[2]
    if suffix == "dB":
        return 10 ** (min(value, 1000) / 20)
    eight = 8 if suffix.endswith("B") else 1
    prefix = suffix.removesuffix("B")
    scale = _BINARY[prefix.removesuffix("i")] if prefix.endswith("i") else _SI[prefix]
    return value * scale * eight


def seconds(text: str) -> float | None:
    """A duration ("90", "1:30", "00:01:30.5", "500ms") in seconds, None when it is none."""
    clock = _CLOCK.fullmatch(text)
    if clock:
        value = int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
        return -value if text.startswith("-") else value
    plain = _SECONDS.fullmatch(text)
    return float(plain[1]) * {"us": 1e-6, "ms": 1e-3}.get(plain[2], 1.0) if plain else None


def size(text: str) -> tuple[int, int] | None:
    """Width and height of "1280x720", None for anything else."""
    found = _SIZE.fullmatch(text)
    return (int(found[1]), int(found[2])) if found else None


def fraction(text: str) -> float | None:
    """The value of "30000/1001" or "29.97", None for anything else and for a division by zero."""
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    divisor = float(found[2] or 1)
    return float(found[1]) / divisor if divisor else None
