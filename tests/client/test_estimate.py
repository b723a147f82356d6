"""Estimates: figures worked out by hand from published ones, what is measured and what is computed,
and no invented price."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from support.paths import ROOT

from gpu_worker_client import ConfigError
from gpu_worker_client.estimate import (
    CARDS,
    MEASURED,
    NETWORKS,
    estimate,
    execution_timeout_seconds,
)
from gpu_worker_client.protocol import (
    TASKS,
    AutoCropParams,
    AutoCropTask,
    DetectScenesTask,
    UpscaleParams,
    UpscaleTask,
)

BENCHMARKS = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
HALF_MINUTE = {"width": 720, "height": 480, "fps": 30.0, "duration_seconds": 30.0}


def test_a_measured_speed_is_scaled_by_the_amount_of_video() -> None:
    """docs/benchmarks.md says how many frames of 320x180 lite takes in a second, file to file."""
    row = re.search(r"file to file, lite, 320x180 x4 \| ([\d.]+) frames/s", BENCHMARKS)
    assert row is not None
    task, fps = {"task": "upscale", "params": {"model": "lite"}}, float(row[1])
    found = estimate(task, width=320, height=180, fps=fps, duration_seconds=60)
    assert (found.seconds, found.basis) == (pytest.approx(60, rel=0.01), "measured")
    assert estimate(
        task, width=640, height=360, fps=fps, duration_seconds=60
    ).seconds == pytest.approx(4 * found.seconds)


def test_a_computed_one_follows_from_arithmetic_and_peak() -> None:
    """x4plus: 12.39 TFLOP a frame of 720x480; an RTX 4000 Ada's 107 TFLOP/s bound 900 frames to 104
    s at the very best, and the share of the peak that published runs reach makes that 360 to 410
    s. Its price is that of the table in docs/benchmarks.md."""
    found = estimate("upscale", **HALF_MINUTE, gpu="NVIDIA RTX 4000 Ada Generation")
    assert found.basis == "computed"
    assert 360 < found.seconds < 410
    assert "RTX 4000 Ada ($0.00016/s)" in BENCHMARKS
    assert found.usd == pytest.approx(found.seconds * 0.00016)


def test_a_card_is_known_by_its_short_name() -> None:
    assert estimate("upscale", **HALF_MINUTE, gpu="rtx 4090") == estimate(
        "upscale", **HALF_MINUTE, gpu="NVIDIA GeForce RTX 4090"
    )


def test_no_price_is_invented() -> None:
    assert "T4" not in BENCHMARKS
    assert estimate("upscale", **HALF_MINUTE).usd is None
    assert estimate("upscale", **HALF_MINUTE, gpu="Tesla T4").usd is None
    own = estimate("upscale", **HALF_MINUTE, gpu="T4", prices={"Tesla T4": 0.00019})
    assert own.usd == pytest.approx(own.seconds * 0.00019)
    dearer = estimate(
        "upscale", **HALF_MINUTE, gpu="RTX 4090", prices={"NVIDIA GeForce RTX 4090": 1.0}
    )
    assert dearer.usd == dearer.seconds, "the caller's table comes first"


def test_a_small_network_on_a_large_card_waits_for_the_encoder() -> None:
    small = estimate({"task": "upscale", "params": {"model": "lite"}}, **HALF_MINUTE, gpu="H200")
    assert "libx264" in small.note
    assert small.seconds == pytest.approx(900 * 2880 * 1920 / (2 * 704 * 576 / 8.7e-3))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("gpu", [None, *CARDS])
def test_every_task_has_an_estimate_on_every_card(task: str, gpu: str | None) -> None:
    found = estimate(task, **HALF_MINUTE, gpu=gpu)
    assert 0 < found.seconds < math.inf
    assert found.note.endswith("without queue, cold start and transfers")


def test_every_model_of_upscale_has_its_arithmetic() -> None:
    for model in UpscaleParams.model_json_schema()["properties"]["model"]["enum"]:
        assert model in NETWORKS


def test_no_card_tracks_faster_than_one_thread_associates() -> None:
    for gpu in ("L4", "H100"):
        found = estimate({"task": "track", "params": {"model": "yolov8n"}}, **HALF_MINUTE, gpu=gpu)
        assert found.seconds >= 2.2e-3 * HALF_MINUTE["fps"] * HALF_MINUTE["duration_seconds"]
        assert "association" in found.note


def test_tracks_that_come_along_are_not_made_again() -> None:
    urls: Any = {"input_url": "https://s/in", "output_url": "https://s/out"}
    whole = estimate(AutoCropTask(**urls), **HALF_MINUTE).seconds
    rest = estimate(AutoCropTask(**urls, tracks_url="https://s/t"), **HALF_MINUTE).seconds
    dry = estimate(
        AutoCropTask(input_url="https://s/in", params=AutoCropParams(dry_run=True)), **HALF_MINUTE
    ).seconds
    assert whole == pytest.approx(rest + dry)
    assert rest == pytest.approx(900 * 720 * 480 / MEASURED[("cpu", "auto_crop")].per_second)


def test_a_stride_saves_detection() -> None:
    every = estimate({"task": "track", "params": {}}, **HALF_MINUTE).seconds
    assert estimate(
        {"task": "track", "params": {"frame_stride": 5}}, **HALF_MINUTE
    ).seconds == pytest.approx(every / 5)


def test_a_detector_that_is_not_known_is_counted_as_the_largest() -> None:
    other = estimate({"task": "track", "params": {"model": "yolo26x"}}, **HALF_MINUTE, gpu="L4")
    largest = estimate({"task": "track", "params": {"model": "yolov8x"}}, **HALF_MINUTE, gpu="L4")
    assert other.seconds == largest.seconds
    assert "unknown cost" in other.note


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("upskale", {}, "task must be one of: upscale"),
        ({"params": {}}, {}, "task must be one of"),
        ("upscale", {"gpu": "Voodoo 2"}, "known are: NVIDIA B200, NVIDIA H200"),
        ("upscale", {"width": 0}, "width and height must be"),
        ("upscale", {"fps": 0.0}, "fps above 0"),
        ("upscale", {"fps": math.nan}, "fps above 0"),
        ("upscale", {"duration_seconds": math.inf}, "duration_seconds"),
        ({"task": "upscale", "params": {"scale": 9}}, {}, "params do not fit the task: scale"),
        (
            {"task": "upscale", "params": {"model": "secret-name"}},
            {},
            "params do not fit the task: model$",
        ),
    ],
)
def test_what_cannot_be_estimated_is_said(task: Any, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        estimate(task, **{**HALF_MINUTE, **change})


def test_a_time_limit_has_room_and_stays_inside_runpods_bounds() -> None:
    long_upscale = UpscaleTask(input_url="https://s/in", output_url="https://s/out")
    expected = estimate(long_upscale, **HALF_MINUTE, gpu="L4").seconds
    limit = execution_timeout_seconds(long_upscale, 30, width=720, height=480, fps=30, gpu="L4")
    assert limit == pytest.approx(3 * expected + 60)
    assert execution_timeout_seconds(long_upscale, 3 * 3600) == 7 * 86_400
    assert execution_timeout_seconds(DetectScenesTask(input_url="https://s/in"), 10) == 600, (
        "RunPod's default"
    )
    assert execution_timeout_seconds(long_upscale, None) is None
