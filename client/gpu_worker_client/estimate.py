"""How long a job will take and what it will cost, before it is submitted. Pure arithmetic over the
tables below.

Two kinds of figures, and every estimate says which it rests on: **measured** by this project's
benchmarks (docs/benchmarks.md; so far on a processor only) and scaled by the amount of video; or
**computed** from a network's arithmetic and a card's peak. The tables are data: a figure measured
on a card goes into `MEASURED` and replaces what was computed. Counted is a worker's work on the
frames; queue, cold start, loading of weights and transfers are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from gpu_worker_client.exceptions import ConfigError
from gpu_worker_client.protocol import TASKS, TaskBase

Unit = Literal["pixels", "frames", "seconds"]
Basis = Literal["measured", "computed"]

CPU = "cpu"
"""The machine of docs/benchmarks.md: two cores of a Xeon with AMX."""


@dataclass(frozen=True)
class Estimate:
    """What a job will take, give or take the factor that its basis deserves."""

    seconds: float
    """Of one worker's work."""
    usd: float | None
    """`seconds` times the device's price; None where no price is known."""
    basis: Basis
    """"measured" when every part of it was; "computed" when a part follows from arithmetic and peak
    rates."""
    note: str
    """The figures it rests on and what they leave out, as a sentence."""


@dataclass(frozen=True)
class Price:
    usd_per_second: float
    as_of: str | None
    """Month of the source, "2026-05"; None where the source gives no date."""
    source: str


@dataclass(frozen=True)
class Speed:
    """How much of its input a device gets through in a second, file to file."""

    per_second: float
    unit: Unit
    """Of the input: pixels of all frames; frames, for a network that sees every picture at one
    size; seconds of sound."""


@dataclass(frozen=True)
class Network:
    """Arithmetic of a network on one unit of its input; a multiply-add counts as two."""

    flops: float
    unit: Unit


MEASURED: dict[tuple[str, str], Speed] = {
    (CPU, "realesr-animevideov3"): Speed(19.3 * 176 * 144, "pixels"),
    (CPU, "lite"): Speed(15.3 * 320 * 180, "pixels"),
    (CPU, "yolov8n"): Speed(33.6, "frames"),
    (CPU, "yolov8m"): Speed(8.36, "frames"),
    (CPU, "auto_crop"): Speed(32.2 * 1920 * 1080, "pixels"),
    (CPU, "detect_scenes"): Speed(500 / 0.556 * 1280 * 720, "pixels"),
    (CPU, "render"): Speed(50 / 0.281 * 1280 * 720, "pixels"),
    (CPU, "beat"): Speed(30 / 0.205, "seconds"),
}
"""(device, work) -> speed, from docs/benchmarks.md of 2026-11-21. No card has been measured yet."""

_LETTERBOXED = 0.6
"""Share of a square 640x640 input that a 16:9 picture fills: 384x640."""

NETWORKS: dict[str, Network] = {
    # Multiply-adds of the convolutions per input pixel, times two, from the layers' shapes; the
    # same shapes give the published numbers of parameters (16,697,987; 4,467,779; 1,213,296;
    # 621,424) and, for SwinIR, its authors' count within 0.2 %.
    "RealESRGAN_x4plus": Network(35.85e6, "pixels"),
    "ESRGAN_4x": Network(35.85e6, "pixels"),
    "RealESRGAN_x4plus_anime_6B": Network(11.41e6, "pixels"),
    "SwinIR_4x_GAN": Network(27.33e6, "pixels"),
    "realesr-general-x4v3": Network(2.418e6, "pixels"),
    "realesr-animevideov3": Network(1.238e6, "pixels"),
    "lite": Network(2 * 107_600, "pixels"),
    # Ultralytics' published GFLOP at 640x640.
    "yolov8n": Network(8.7e9 * _LETTERBOXED, "frames"),
    "yolov8m": Network(78.9e9 * _LETTERBOXED, "frames"),
    "yolov8x": Network(257.8e9 * _LETTERBOXED, "frames"),
}
"""Network -> its arithmetic. At scale 2 and below a smaller partner may run; the larger one is
counted."""
LARGEST_DETECTOR = "yolov8x"
"""What a detector that is not in the table is counted as."""

PEAK_FLOPS: dict[str, float] = {
    "NVIDIA H200": 790e12,
    "NVIDIA GeForce RTX 4090": 330e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA RTX 4000 Ada Generation": 107e12,
    "Tesla T4": 65e12,
}
"""Card -> dense half-precision peak by its data sheet (H200: the highest rate of a large matrix
product that was measured)."""
UTILISATION = 0.26
"""Share of the peak that x4plus reaches in published TensorRT runs: 30 % on V100, 27 % on A100, 26
% on RTX 4090 (VSGAN-tensorrt-docker's tables)."""
CPU_FLOPS = 390e9
"""Convolutions in bfloat16 on the machine of docs/benchmarks.md, both cores; a machine without AMX
reaches a fraction."""

ENCODED_PIXELS_PER_SECOND = 2 * 704 * 576 / 8.7e-3
"""libx264 at its `medium` preset and crf 18, 8.7 ms a picture of 704x576 on each of two cores: no
job with a video to write is taken to be faster, on whatever card."""

PRICES: dict[str, Price] = {
    "NVIDIA GeForce RTX 4090": Price(
        0.00031, "2026-05", "ls-ads/real-esrgan-serve, docs/BENCHMARKS.md: $0.000191 for 0.615 s"
    ),
    "NVIDIA RTX 4000 Ada Generation": Price(
        0.00031, None, "an operator's notes on RunPod Serverless"
    ),
}
"""Card -> last price known here. Prices change: give your own as `prices`, in the shape of the
worker's `GPU_WORKER_PRICES`."""

TIMEOUT_FACTOR, TIMEOUT_EXTRA_SECONDS = 3.0, 60.0
"""A limit is there to end a job that hangs, not one on a slow host; transfers and loading are in
the extra."""
MIN_TIMEOUT_SECONDS = 600.0
"""RunPod's own default. https://docs.runpod.io/serverless/endpoints/send-requests"""
MAX_TIMEOUT_SECONDS = 7 * 86_400.0
"""RunPod's longest; same page."""


@dataclass(frozen=True)
class _Video:
    width: int
    height: int
    fps: float
    duration_seconds: float

    def amount(self, unit: Unit) -> float:
        if unit == "seconds":
            return self.duration_seconds
        frames = self.fps * self.duration_seconds
        return frames * self.width * self.height if unit == "pixels" else frames


@dataclass(frozen=True)
class _Part:
    """One piece of a job's work."""

    seconds: float
    basis: Basis
    note: str


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
        width, height: pixels of the input, upright; 1 or more. `beat` does not look at them.
        fps: frames per second of the input, above 0.
        duration_seconds: of the input, 0 or more.
        gpu: the card by its driver's name, with or without the maker's ("NVIDIA L4", "L4"); None is
            the processor that the benchmarks ran on.
        prices: USD per second by card; before the table of this module.

    Raises:
        ConfigError: a number that cannot be, a task or a card that is not known; the message lists
            the known ones.
    """
    if (
        width < 1
        or height < 1
        or not fps > 0
        or not 0 <= duration_seconds < math.inf
        or fps == math.inf
    ):
        raise ConfigError(
            "estimate: width and height must be 1 or more, fps above 0, duration_seconds 0 or more"
        )
    name, params = _read(task)
    device = CPU if gpu is None else _card(gpu)
    parts = _parts(name, params, device, _Video(width, height, fps, duration_seconds))
    seconds = sum(part.seconds for part in parts)
    price = _price(device, prices or {})
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
    """A generous limit for RunPod's `executionTimeout`: three times the estimate and a minute, no
    less than RunPod's default of 10 minutes and no more than its 7 days.

    Args:
        duration_seconds: of the input; None when it is not known.
        gpu: None counts with the slowest device of the tables, a processor, so that a limit fits
            every worker.

    Returns:
        Seconds; None when the duration is not known, which leaves the endpoint's own limit.

    Raises:
        ConfigError: as `estimate`.
    """
    if duration_seconds is None:
        return None
    expected = estimate(
        task, width=width, height=height, fps=fps, duration_seconds=duration_seconds, gpu=gpu
    )
    wanted = TIMEOUT_FACTOR * expected.seconds + TIMEOUT_EXTRA_SECONDS
    return min(MAX_TIMEOUT_SECONDS, max(MIN_TIMEOUT_SECONDS, wanted))


def _read(task: TaskBase | Mapping[str, Any] | str) -> tuple[str, dict[str, Any]]:
    """Name of a task, and its parameters with the defaults filled in; `tracks_url` stands among
    them."""
    given: Mapping[str, Any] = {"task": task} if isinstance(task, str) else dict(task)
    name = task.task if isinstance(task, TaskBase) else given.get("task")
    if name not in TASKS:
        raise ConfigError(f"estimate: task must be one of: {', '.join(TASKS)}")
    params = given.get("params") or {}
    if not isinstance(params, BaseModel):
        try:
            kind = TASKS[name].params
            params = kind.model_validate(params) if params else kind.model_construct()
        except ValidationError as error:
            places = ", ".join(
                ".".join(map(str, problem["loc"])) or "as a whole"
                for problem in error.errors(include_input=False)
            )
            raise ConfigError(f"estimate: params do not fit the task: {places}") from None
    return name, {**dict(params), "tracks_url": given.get("tracks_url")}


def _card(gpu: str) -> str:
    """The tables' name of a card."""
    plain = _plain(gpu)
    found = next((name for name in {**PEAK_FLOPS, **PRICES} if _plain(name) == plain), None)
    if found is None:
        raise ConfigError(
            f"estimate: nothing is known of this gpu; known are: {', '.join(PEAK_FLOPS)}"
        )
    return found


_NOT_TELLING = frozenset({"nvidia", "geforce", "tesla", "generation"})


def _plain(gpu: str) -> str:
    """A card's name without the words that sellers leave out."""
    return " ".join(word for word in gpu.lower().split() if word not in _NOT_TELLING)


def _price(device: str, own: Mapping[str, float]) -> float | None:
    given = next((usd for name, usd in own.items() if _plain(name) == _plain(device)), None)
    known = PRICES.get(device)
    return given if given is not None else None if known is None else known.usd_per_second


def _parts(name: str, params: Mapping[str, Any], device: str, video: _Video) -> Sequence[_Part]:
    if name == "selftest":
        return [_Part(0.0062, "measured", "selftest: 6.2 ms")]
    if name == "upscale":
        return [_upscaled(params, device, video)]
    if name == "track":
        return [_detected(params, device, video)]
    if name == "auto_crop":
        brought = params.get("tracks_url") or params.get("keyframes")
        own = [] if brought else [_detected(params, device, video)]
        return own if params.get("dry_run") else [*own, _on_processor(name, video)]
    return [_on_processor(name, video)]


def _upscaled(params: Mapping[str, Any], device: str, video: _Video) -> _Part:
    network = _by_network(str(params["model"]), device, video)
    faces = ", faces not counted" if params.get("face_enhance") else ""
    encoding = video.amount("pixels") * float(params["scale"]) ** 2 / ENCODED_PIXELS_PER_SECOND
    if (
        network.basis == "measured" or encoding <= network.seconds
    ):  # a measured figure is file to file: its encoder is in it
        return _Part(network.seconds, network.basis, network.note + faces)
    return _Part(
        encoding,
        "computed",
        f"upscale: {encoding:.3g} s of libx264 on two cores outlast the network{faces}",
    )


def _detected(params: Mapping[str, Any], device: str, video: _Video) -> _Part:
    model = str(params["model"])
    stride = int(params.get("frame_stride") or 1)
    looked = _Video(video.width, video.height, video.fps / stride, video.duration_seconds)
    if model in NETWORKS:
        return _by_network(model, device, looked)
    part = _by_network(LARGEST_DETECTOR, device, looked)
    return _Part(part.seconds, "computed", f"{part.note} (in place of a detector of unknown cost)")


def _by_network(model: str, device: str, video: _Video) -> _Part:
    measured = MEASURED.get((device, model))
    if measured is not None:
        seconds = video.amount(measured.unit) / measured.per_second
        return _Part(
            seconds,
            "measured",
            f"{model}: {measured.per_second:.4g} {measured.unit}/s measured on {device}",
        )
    network = NETWORKS[model]
    rate = CPU_FLOPS if device == CPU else PEAK_FLOPS[device] * UTILISATION
    note = (
        f"{model}: {network.flops / 1e6:.4g} MFLOP for each of its {network.unit} at"
        f" {rate / 1e12:.3g} TFLOP/s on {device}"
    )
    return _Part(video.amount(network.unit) * network.flops / rate, "computed", note)


def _on_processor(name: str, video: _Video) -> _Part:
    """Work that no card speeds up."""
    speed = MEASURED[(CPU, name)]
    note = f"{name}: {speed.per_second:.4g} {speed.unit}/s measured on two cores"
    return _Part(video.amount(speed.unit) / speed.per_second, "measured", note)
