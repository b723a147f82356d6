"""What measuring filters write to FFmpeg's log, as numbers.

FFmpeg runs with `LOGLEVEL`, which tags each line with its level. A `Meter` takes the lines for
information and keeps their numbers; the rest, without tags, is the log in which a failure is
searched. Only numbers and FFmpeg's own words come out, never a caller's text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

LOGLEVEL = "repeat+level+info"
"""What `Meter` reads. `repeat`: no line is summed up as "last message repeated"."""
MAX_EVENTS = 10_000
"""Of one filter; later ones are left out."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILTERS = _names(
    "loudnorm ebur128 volumedetect astats silencedetect replaygain drmeter apsnr asdr asisdr"
    " aphasemeter blackdetect blackframe freezedetect cropdetect scdet idet vfrdet blurdetect"
    " blockdetect signalstats siti entropy bbox showinfo ashowinfo metadata ametadata psnr ssim"
    " xpsnr libvmaf vmafmotion vif msad corr identity axcorrelate xcorrelate"
)
"""Filters whose numbers come back."""
PER_FRAME = frozenset({"signalstats", "entropy", "siti", "blurdetect", "blockdetect"})
"""Filters that say their numbers to each frame only: a filter `metadata` of the worker's own stands
behind each and writes them down."""
OWN = "measured"
"""Instance name of those."""

_EVENTS = _names(
    "silencedetect blackdetect freezedetect blackframe scdet showinfo ashowinfo aphasemeter bbox"
    " metadata ametadata"
)
"""Filters that report one thing after another: a list comes back."""
_LINE = re.compile(
    rb"^(?:\[([\w@]+) @ 0x[0-9a-f]+\] )*\[(info|verbose|warning|error|fatal|panic)\] "
)
_NAME = re.compile(r"(?:Parsed_([a-z0-9_]+)_[0-9]+|([a-z0-9_]+)@\w+)")
_NUMBER = r"-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf|nan)\b"
_PAIR = re.compile(rf"([A-Za-z][A-Za-z0-9_.]*(?: [A-Za-z]+)*)\"? *[:=] *\"?\+?({_NUMBER})")
_SECTION = re.compile(r"([A-Z][A-Za-z]*(?: [A-Za-z]+)*)(?:: ?([0-9]+))?:?")


class Meter:
    """Reads the log of one run, line by line."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._keys: dict[str, str] = {}
        """Label of an instance in the log -> its key in the result."""
        self._speaker = ""
        """Key of the filter that wrote the last line; "" for anybody else."""
        self._section = ""

    def rest(self, line: bytes) -> bytes:
        """Takes one line; returns what of it belongs into the log."""
        found = _LINE.match(line)
        if found is None:  # it goes on with what the line before began
            if self._speaker:
                self._read(self._speaker, line)
                return b""
            return line
        self._speaker = ""
        if found[2] not in (b"info", b"verbose"):
            return line[: found.start(2) - 1] + line[found.end() :]
        if found[1] is not None:
            self._speaker = self._key(found[1].decode())
            self._section = "" if b"Summary" in line else self._section
            if self._speaker:
                self._read(self._speaker, line[found.end() :])
        return b""

    def result(self) -> dict[str, Any]:
        """Numbers by the filter's name; a second one of that name has "_2" behind it."""
        return {key: value for key, value in self._found.items() if value}

    def _key(self, label: str) -> str:
        name = _NAME.fullmatch(label)
        filter_name = (name[1] or name[2]) if name else ""
        if filter_name not in FILTERS:
            return ""
        if label not in self._keys:
            same = sum(key.partition("#")[0] == filter_name for key in self._keys.values())
            own = label.endswith(f"@{OWN}")
            key = OWN if own else filter_name if not same else f"{filter_name}_{same + 1}"
            self._keys[label] = key
        return self._keys[label]

    def _read(self, key: str, line: bytes) -> None:
        text = line.decode("utf-8", "replace").strip()
        filter_name = re.sub(r"_[0-9]+$", "", key)
        if text.startswith("config ") or (filter_name == "ebur128" and text.startswith("t:")):
            return  # of the stream; ten times a second, and the summary has them all
        pairs = {_plain(name): _number(value) for name, value in _PAIR.findall(text)}
        if key == OWN:
            self._add_to_ranges(pairs)
        elif filter_name in _EVENTS:
            self._add_event(key, pairs, begins="pts_time" in pairs)
        else:
            self._add_values(key, filter_name, text, pairs)

    def _add_ranges_of(self, filter_name: str) -> dict[str, dict[str, float]]:
        return self._found.setdefault(filter_name, {})

    def _add_to_ranges(self, pairs: Mapping[str, float | None]) -> None:
        """Least, mean and greatest of each number over the frames."""
        for name, value in pairs.items():
            parts = name.split("_", 2)
            if parts[0] != "lavfi" or len(parts) < 2 or value is None:
                continue
            filter_name, short = _PREFIXES.get(parts[1], parts[1]), parts[-1]
            if filter_name not in PER_FRAME:
                continue
            entry = self._add_ranges_of(filter_name).setdefault(
                short, {"min": value, "max": value, "mean": 0.0, "frames": 0}
            )
            count = entry["frames"] + 1
            entry["mean"] += (value - entry["mean"]) / count
            entry["min"], entry["max"] = min(entry["min"], value), max(entry["max"], value)
            entry["frames"] = count

    def _add_event(self, key: str, pairs: Mapping[str, float | None], *, begins: bool) -> None:
        events: list[dict[str, float | None]] = self._found.setdefault(key, [])
        if not pairs:
            return
        short = {name.removeprefix("lavfi_").removeprefix("scd_"): pairs[name] for name in pairs}
        if begins or not events or not events[-1].keys().isdisjoint(short):
            if len(events) < MAX_EVENTS:
                events.append(short)
        else:
            events[-1].update(short)

    def _add_values(
        self, key: str, filter_name: str, text: str, pairs: dict[str, float | None]
    ) -> None:
        values: dict[str, Any] = self._found.setdefault(key, {})
        section = _SECTION.fullmatch(text)
        if filter_name == "astats":
            if section and (section[1] == "Overall" or section[2]):
                self._section = "overall" if section[1] == "Overall" else f"channel_{section[2]}"
                return
            values.setdefault(self._section or "overall", {}).update(pairs)
        elif filter_name in ("ebur128", "siti") and not pairs and section:
            self._section = _plain(section[1])
        elif filter_name in ("ebur128", "siti"):
            for name, value in pairs.items():
                of_section = name in ("threshold", "peak", "average", "max", "min")
                values[f"{self._section}_{name}" if of_section else name] = value
        elif filter_name == "idet" and ":" in text:
            kind = _plain(text.partition(":")[0])
            values[kind] = {name.removeprefix(f"{kind}_"): n for name, n in pairs.items()}
        else:
            values.update(pairs)
            word = re.fullmatch(r'"normalization_type" : "(\w+)",?', text)
            if word:
                values["normalization_type"] = word[1]


_PREFIXES = {"blur": "blurdetect", "block": "blockdetect"}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _number(text: str) -> float | None:
    """None for infinity and NaN, which JSON has not."""
    value = float(text)
    if not math.isfinite(value):
        return None
    return int(value) if re.fullmatch(r"-?[0-9]+", text) else value
