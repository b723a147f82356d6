"""What estimates rest on: the figures in figures.json beside this file, typed.

`make bench` writes the measured ones, in the run that writes docs/benchmarks.md. A network's
arithmetic and a card's peak and price are written by hand; the file names their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Unit = Literal["pixels", "frames", "seconds", "jobs"]
"""What the time of a job grows with: pixels of all frames of the input; frames, for a network that
resizes each to one size; seconds of audio; nothing, for a task without an input."""


@dataclass(frozen=True)
class Speed:
    """How much of its input a device gets through in a second, file to file."""

    per_second: float
    unit: Unit


@dataclass(frozen=True)
class Network:
    """Arithmetic of a network."""

    flops: float
    """Operations for one unit of its input; a multiply-add counts as two."""
    unit: Unit


@dataclass(frozen=True)
class Card:
    """A GPU that serverless endpoints offer."""

    name: str
    """Its driver's name for it, "NVIDIA RTX 4000 Ada Generation"."""
    flops: float
    """Peak of dense half-precision operations in a second."""
    usd_per_second: float | None
    """Last price known here; None where none is."""

    @property
    def short_name(self) -> str:
        """Without the words that sellers leave out, "RTX 4000 Ada"."""
        return short(self.name)


def short(gpu: str) -> str:
    """A card's name without its maker's."""
    maker = {"nvidia", "geforce", "tesla", "generation"}
    return " ".join(word for word in gpu.split() if word.lower() not in maker)


def _speed(row: Mapping[str, Any]) -> Speed:
    """What a row of figures.json gives: `frames` of a size, `audio_seconds` or `jobs` in
    `seconds`."""
    if "frames" not in row:
        amount, unit = (row["jobs"], "jobs") if "jobs" in row else (row["audio_seconds"], "seconds")
    elif row["task"] == "track":
        amount, unit = row["frames"], "frames"
    else:
        amount, unit = row["frames"] * row["width"] * row["height"], "pixels"
    return Speed(amount / row["seconds"], unit)


_FIGURES = json.loads(Path(__file__).with_name("figures.json").read_text(encoding="utf-8"))
CPU: str = _FIGURES["measured"]["device"]
"""The machine that docs/benchmarks.md names."""
MEASURED: dict[tuple[str, str], Speed] = {
    (CPU, row.get("model", row["task"])): _speed(row) for row in _FIGURES["measured"]["rows"]
}
"""(device, model or task) -> speed."""
NETWORKS: dict[str, Network] = {
    name: Network(network["flops"], network["per"])
    for name, network in _FIGURES["networks"].items()
}
"""Network -> its arithmetic. At scale 2 and below a smaller partner may run; the larger one is
counted."""
CARDS: dict[str, Card] = {
    name: Card(name, card["tflops"] * 1e12, card["usd_per_second"])
    for name, card in _FIGURES["cards"].items()
}
"""Prices change: give your own as `prices`, in the shape of the worker's `GPU_WORKER_PRICES`."""
