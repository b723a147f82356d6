"""The GPU section of docs/benchmarks.md: what `gpu.py` measured, and what a minute of video costs
on each card.

A figure that was measured stands beside the limit of the card it was measured on. The cost table is
arithmetic: operations per pixel of a network, pixels per minute, a card's peak rate and the share
of it that was reached; each cell says which it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_worker_client.estimate import CARDS, NETWORKS, Card

RESULTS = Path(__file__).with_name("gpu.json")
"""What `gpu.py` found on the last card; not there as long as none was at hand."""
MODELS = (
    "RealESRGAN_x4plus",
    "RealESRGAN_x4plus_anime_6B",
    "SwinIR_4x_GAN",
    "realesr-general-x4v3",
    "realesr-animevideov3",
)
"""Rows of the cost table."""
ASSUMED_SHARE = 0.3
"""Of a card's peak, where none was measured: published TensorRT figures of these networks are 20 to
47 % of an RTX 4090's."""
FRAMES_PER_MINUTE = 30 * 60
WIDTH, HEIGHT = 720, 480
NOT_MEASURED = """Not measured yet: no figure of this project on a GPU exists, so none is
given here. One call of `python benchmarks/gpu.py` measures them all; `tests/gpu` holds the tests
for a machine that has a GPU; docs/gpu.md says what is expected, and why."""
NO_GPU = "none"
"""How the name of the "card" of a trial on a CPU begins."""


def section(results: Mapping[str, Any] | None = None) -> str:
    """The section as Markdown; from `RESULTS` when nothing is given."""
    if results is None and RESULTS.is_file():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return "\n".join(
        [
            "## GPU",
            "",
            *(_measured(results) if results else [NOT_MEASURED]),
            "",
            *_costs(results),
            "",
        ]
    )


def _measured(results: Mapping[str, Any]) -> Iterator[str]:
    facts = results["machine"]
    if facts["gpu"].startswith(NO_GPU):
        yield (
            "**A trial with tiny sizes on a CPU: it shows that the benchmark runs. Its figures and"
            " bars mean nothing.**\n"
        )
    yield (
        "Measured by `python benchmarks/gpu.py`: "
        + "; ".join(f"{key} {value}" for key, value in facts.items())
        + "."
    )
    yield ""
    yield from table([row for part in results["sections"].values() for row in part["rows"]])
    for name, part in results["sections"].items():
        if part.get("problem"):
            yield f"\n`{name}`: {part['problem']}"


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Rows of a `gpu_*` module as a Markdown table."""
    yield "| what | measured | limit | bar | aim | peer | ratio | |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for row in rows:
        unit = row.get("unit", "")
        cells = [_figure(row.get(key), unit) for key in ("value", "limit", "bar", "aim", "peer")]
        ratio = f"{row['ratio']:.2f} x" if row.get("ratio") else ""
        wanted = f" (bar {row['bar_ratio']:.1f} x)" if row.get("bar_ratio") else ""
        yield (
            f"| {row['name']} | {' | '.join(cells)} | {ratio}{wanted} |"
            f" {verdict(row)}{row.get('note', '')} |"
        )


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the bars of a row are reached; nothing for a row without any."""
    met = [row["ratio"] >= row["bar_ratio"]] if row.get("bar_ratio") and row.get("ratio") else []
    if row.get("bar") is not None:
        met.append(
            row["value"] <= row["bar"] if row.get("lower_is_better") else row["value"] >= row["bar"]
        )
    return "" if not met else "**bar met**; " if all(met) else "**bar missed**; "


def _figure(value: float | None, unit: str) -> str:
    return (
        ""
        if value is None
        else f"{value:.3g} {unit}"
        if abs(value) < 1000
        else f"{value:.0f} {unit}"
    )


def _costs(results: Mapping[str, Any] | None) -> Iterator[str]:
    """What a minute of 720x480 at 30 frames/s takes, only the network."""
    shares = measured_shares(results) if results else {}
    yield (
        f"Seconds and US dollars for a minute of {WIDTH}x{HEIGHT} at 30 frames/s, the network"
        " alone. **Bold**: measured on"
    )
    yield (
        "that card. Plain: computed from the network's operations and the card's peak, at the share"
        " of its peak that another"
    )
    yield (
        f"card reached. *Italics*: computed, and the share assumed, {100 * ASSUMED_SHARE:.0f} %: an"
        " estimate, no measurement."
    )
    yield ""
    cards = sorted(
        (card for card in CARDS.values() if card.usd_per_second is not None),
        key=lambda card: card.usd_per_second or 0,
    )
    heads = [f"{card.short_name} (${card.usd_per_second:.5f}/s)" for card in cards]
    yield f"| model | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(cards)
    for model in MODELS:
        cells = [_cost(model, card, shares.get(model)) for card in cards]
        yield f"| {model} | {' | '.join(cells)} |"


@dataclass(frozen=True)
class Share:
    """How fast a network was on a card."""

    card: str
    fps: float
    of_peak: float


def measured_shares(results: Mapping[str, Any]) -> dict[str, Share]:
    """The best way of running each network, on the card of the results; nothing of a trial on a
    CPU."""
    found: dict[str, Share] = {}
    if results["machine"]["gpu"].startswith(NO_GPU):
        return found
    for row in (
        row
        for part in results["sections"].values()
        for row in part["rows"]
        if "flops_per_pixel" in row
    ):
        share = Share(results["machine"]["gpu"], row["value"], row["value"] / row["limit"])
        if row["model"] not in found or found[row["model"]].fps < share.fps:
            found[row["model"]] = share
    return found


def _cost(model: str, card: Card, share: Share | None) -> str:
    if share is not None and card.short_name in share.card:
        return f"**{_seconds_and_dollars(FRAMES_PER_MINUTE / share.fps, card)}**"
    fps = card.flops / (NETWORKS[model].flops * WIDTH * HEIGHT)
    text = _seconds_and_dollars(
        FRAMES_PER_MINUTE / (fps * (share.of_peak if share else ASSUMED_SHARE)), card
    )
    return text if share else f"*{text}*"


def _seconds_and_dollars(seconds: float, card: Card) -> str:
    assert card.usd_per_second is not None
    return f"{seconds:.3g} s, ${seconds * card.usd_per_second:.2g}"
