"""How long a job will take and what it will cost, before it is submitted.

Every estimate says which figures it rests on: **measured** ones, scaled by the amount of video, or
**computed** ones, from a network's arithmetic and a card's peak. Both are in figures.json: `make
bench` writes the measured ones, in the run that writes docs/benchmarks.md; arithmetic, peaks and
prices are written by hand, and the file names their sources. No card has been measured yet. Only a
worker's work on the frames counts: no queue, no cold start, no loading of weights, no transfers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from gpu_worker_client.errors import ConfigError
from gpu_worker_client.protocol import TASKS, TaskBase

Unit = Literal["pixels", "frames", "seconds", "jobs"]
"""What the time of a job grows with: pixels of all frames of the input; frames, for a network that
resizes each to one size; seconds of audio; nothing, for a task without an input."""


class Speed(NamedTuple):
    """How much of its input a device gets through in a second, file to file."""

    per_second: float
    unit: Unit


class Network(NamedTuple):
    """Operations for one unit of a network's input; a multiply-add counts as two."""

    flops: float
    unit: Unit


class Card(NamedTuple):
    """A GPU that serverless endpoints offer."""

    name: str
    """Its driver's name for it, "NVIDIA RTX 4000 Ada Generation"."""
    flops: float
    """Peak of dense half-precision operations in a second."""
    usd_per_second: float | None
    """Last price known here; None where none is."""

    @property
    def short_name(self) -> str:
        return short(self.name)


def short(gpu: str) -> str:
    """A card's name without the words that sellers leave out, "RTX 4000 Ada"."""
    maker = {"nvidia", "geforce", "tesla", "generation"}
    return " ".join(word for word in gpu.split() if word.lower() not in maker)


def _speed(row: Mapping[str, Any]) -> Speed:
    """Of a row of figures.json: `frames` of a size, `audio_seconds` or `jobs` in `seconds`."""
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
NETWORKS = {name: Network(net["flops"], net["per"]) for name, net in _FIGURES["networks"].items()}
"""At scale 2 and below a smaller partner of a network may run; the larger one is counted."""
CARDS = {
    name: Card(name, card["tflops"] * 1e12, card["usd_per_second"])
    for name, card in _FIGURES["cards"].items()
}
"""Prices change: give your own as `prices`, in the shape of the worker's `GPU_WORKER_PRICES`."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take, give or take the factor that its basis deserves."""

    seconds: float
    """Seconds that one worker works."""
    usd: float | None
    """`seconds` times the device's price; None where no price is known."""
    basis: Literal["measured", "computed"]
    """"measured" when every part of it was measured; "computed" when a part follows from arithmetic
    and peak rates."""
    note: str
    """The figures it rests on and what they leave out, as a sentence."""


class _Video(NamedTuple):
    width: int
    height: int
    fps: float
    duration_seconds: float

    def amount(self, unit: Unit) -> float:
        frames = self.fps * self.duration_seconds
        pixels = frames * self.width * self.height
        amounts = {"pixels": pixels, "frames": frames, "seconds": self.duration_seconds, "jobs": 1}
        return amounts[unit]


LARGEST_DETECTOR = "yolov8x"
"""What a detector that is not in the table is counted as."""
UTILISATION = 0.26
"""Share of the peak that x4plus reaches in published TensorRT runs: 30 % on V100, 27 % on A100, 26
% on RTX 4090 (VSGAN-tensorrt-docker's tables)."""
CPU_FLOPS = 390e9
"""bfloat16 convolutions on both cores of docs/benchmarks.md's machine; without AMX a fraction."""
ENCODED_PIXELS_PER_SECOND = 2 * 704 * 576 / 8.7e-3
"""libx264 at its `medium` preset and crf 18, 8.7 ms a frame of 704x576 on each of two cores: no
job with a video to write is taken to be faster, on whatever card."""
ASSOCIATION_SECONDS = 2.2e-3
"""Of one thread for each frame that is tracked, optical flow included (docs/gpu.md): no card makes
`track` faster."""

TIMEOUT_FACTOR, TIMEOUT_EXTRA_SECONDS = 3.0, 60.0
"""A limit ends a job that hangs, not one on a slow host; transfers and loading are the extra."""
MIN_TIMEOUT_SECONDS = 600.0
"""RunPod's own default. https://docs.runpod.io/serverless/endpoints/send-requests"""
MAX_POLICY_SECONDS = 7 * 86_400
"""RunPod's longest run and longest life of a job; same page."""


def estimate(
    task: TaskBase | Mapping[str, Any] | str,
    *,
    width: int,
    height: int,
    fps: float,
    duration_seconds: float,
    gpu: str | None = None,
    prices: Mapping[str, float] | None = None,
) -> Estimate:
    """What a job takes on one worker.

    Args:
        task: a typed task, the same as a dict (its URLs may be left out), or a task's name for
            default parameters.
        width, height: pixels of the input, upright; 1 or more. `beat` ignores them.
        fps: frames per second of the input, above 0.
        duration_seconds: of the input, 0 or more.
        gpu: the card by its driver's name, with or without the maker's ("NVIDIA L4", "L4"); None is
            the processor that the benchmarks ran on.
        prices: USD per second by card; they come before the table of this module.

    Raises:
        ConfigError: a number that cannot be, a task or a card that is not known; the message lists
            the known ones.
    """
    if min(width, height) < 1 or not 0 < fps < math.inf or not 0 <= duration_seconds < math.inf:
        raise ConfigError(
            "estimate: width and height must be 1 or more, fps above 0, duration_seconds 0 or more"
        )
    cards = {card.short_name.lower(): card for card in CARDS.values()}
    card = None if gpu is None else cards.get(short(gpu).lower())
    if gpu is not None and card is None:
        raise ConfigError(f"estimate: nothing is known of this gpu; known are: {', '.join(CARDS)}")
    parts = _parts(*_read(task), card, _Video(width, height, fps, duration_seconds))
    seconds = sum(part.seconds for part in parts)
    own = {short(name).lower(): usd for name, usd in (prices or {}).items()}
    known = card.usd_per_second if card else None
    price = own.get((card.short_name if card else CPU).lower(), known)
    return Estimate(
        seconds,
        None if price is None else seconds * price,
        "measured" if all(part.basis == "measured" for part in parts) else "computed",
        "; ".join(part.note for part in parts) + "; without queue, cold start and transfers",
    )


def execution_timeout_seconds(
    task: TaskBase | Mapping[str, Any] | str,
    duration_seconds: float | None,
    *,
    width: int = 1920,
    height: int = 1080,
    fps: float = 30.0,
    gpu: str | None = None,
) -> float | None:
    """A generous limit for RunPod's `executionTimeout` in seconds: three times the estimate and a
    minute, no less than RunPod's default of 10 minutes and no more than its 7 days. None when the
    duration of the input is not known. `gpu` None counts with the slowest device of the tables, a
    processor, so that a limit fits every worker. Errors as `estimate`.
    """
    if duration_seconds is None:
        return None
    expected = estimate(
        task, width=width, height=height, fps=fps, duration_seconds=duration_seconds, gpu=gpu
    )
    wanted = TIMEOUT_FACTOR * expected.seconds + TIMEOUT_EXTRA_SECONDS
    return min(MAX_POLICY_SECONDS, max(MIN_TIMEOUT_SECONDS, wanted))


def _read(task: TaskBase | Mapping[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """A task's name, and its parameters with defaults filled in and `tracks_url` among them."""
    given: dict[str, Any] = {"task": task} if isinstance(task, str) else dict(task)
    name = given.get("task")
    if name not in TASKS:
        raise ConfigError(f"estimate: task must be one of: {', '.join(TASKS)}")
    params = given.get("params") or {}
    if not isinstance(params, BaseModel):
        model = TASKS[name].params
        try:
            params = model.model_validate(params) if params else model.model_construct()
        except ValidationError as error:
            wrong = [".".join(map(str, each["loc"])) or "as a whole" for each in error.errors()]
            raise ConfigError(f"estimate: params do not fit the task: {', '.join(wrong)}") from None
    return name, {**dict(params), "tracks_url": given.get("tracks_url")}


def _parts(
    name: str, params: Mapping[str, Any], card: Card | None, video: _Video
) -> list[Estimate]:
    """The pieces of a job's work, without a price."""
    if name == "upscale":
        return [_upscaling(params, card, video)]
    if name not in ("track", "auto_crop"):
        return [_measured(name, video)]
    given = params.get("tracks_url") or params.get("keyframes")
    parts = [] if given else [_detection(params, card, video)]
    if name == "auto_crop" and not params.get("dry_run"):
        parts.append(_measured(name, video))
    return parts


def _upscaling(params: Mapping[str, Any], card: Card | None, video: _Video) -> Estimate:
    network = _network(str(params["model"]), card, video)
    faces = ", faces not counted" if params.get("face_enhance") else ""
    encoding = video.amount("pixels") * float(params["scale"]) ** 2 / ENCODED_PIXELS_PER_SECOND
    # A measured figure is file to file: its encoder is in it.
    if network.basis == "measured" or encoding <= network.seconds:
        return replace(network, note=network.note + faces)
    note = f"upscale: {encoding:.3g} s of libx264 on two cores outlast the network{faces}"
    return Estimate(encoding, None, "computed", note)


def _detection(params: Mapping[str, Any], card: Card | None, video: _Video) -> Estimate:
    model, stride = str(params["model"]), int(params.get("frame_stride") or 1)
    read = video._replace(fps=video.fps / stride)
    association = read.amount("frames") * ASSOCIATION_SECONDS
    part = _network(model if model in NETWORKS else LARGEST_DETECTOR, card, read)
    if part.basis == "computed" and association > part.seconds:
        note = f"track: {association:.3g} s of association on one core outlast the network"
        return Estimate(association, None, "computed", note)
    if model in NETWORKS:
        return part
    note = f"{part.note} (instead of a detector of unknown cost)"
    return replace(part, basis="computed", note=note)


def _network(model: str, card: Card | None, video: _Video) -> Estimate:
    if card is None and (CPU, model) in MEASURED:
        return _measured(model, video)
    network = NETWORKS[model]
    rate = CPU_FLOPS if card is None else card.flops * UTILISATION
    note = (
        f"{model}: {network.flops / 1e6:.4g} MFLOP for each of its {network.unit} at"
        f" {rate / 1e12:.3g} TFLOP/s on {CPU if card is None else card.name}"
    )
    return Estimate(video.amount(network.unit) * network.flops / rate, None, "computed", note)


def _measured(work: str, video: _Video) -> Estimate:
    """Work of the processor of docs/benchmarks.md; no card speeds a task up that has no network."""
    speed = MEASURED[CPU, work]
    note = f"{work}: {speed.per_second:.4g} {speed.unit}/s measured on two cores"
    return Estimate(video.amount(speed.unit) / speed.per_second, None, "measured", note)
