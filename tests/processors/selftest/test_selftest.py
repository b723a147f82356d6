"""The selftest task: real tiny runs, judged by the known content of its clip; honest about what it
answers from memory."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from gpu_worker_client.protocol import (
    DetectScenesResult,
    DetectScenesStats,
    Scene,
    SelftestParams,
    SelftestResult,
    UpscaleResult,
    UpscaleStats,
)
from gpu_worker_processors import registry, samples
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.selftest import processor as selftest
from gpu_worker_processors.upscale import sample as upscale_sample


def run(
    work_dir: Path, engine: selftest.SelftestProcessor | None = None, **settings: Any
) -> SelftestResult:
    """One selftest; the same `engine` twice is a warm engine."""
    work_dir.mkdir(exist_ok=True)
    job = LocalJob(
        id="t",
        params=SelftestParams(),
        work_dir=work_dir,
        settings=ProcessorSettings(device="cpu", **settings),
    )
    return (engine or selftest.SelftestProcessor()).run(job)


def try_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The selftest knows this one processor, so that the others cost no time."""
    for other in set(registry.PROCESSORS) - {name}:
        monkeypatch.delitem(registry.PROCESSORS, other)


def test_the_clip_is_what_the_truth_says(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(samples.clip())
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
        size = container.streams.video[0].width, container.streams.video[0].height
    assert size == (64, 48)
    assert len(pictures) == 24
    assert int(np.argmax(np.abs(np.diff(pictures)))) + 1 == samples.CUT_FRAME


@pytest.mark.slow
def test_every_other_processor_is_tried_with_what_ships(tmp_path: Path) -> None:
    result = run(tmp_path / "job")
    assert result.status == "completed"
    assert set(result.processors) == set(registry.PROCESSORS) - {"selftest"}
    assert result.processors["detect_scenes"].ok, result.processors["detect_scenes"].detail
    assert result.processors["upscale"].ok
    assert result.processors["upscale"].detail == "ran with model lite"
    assert result.encoders["libx264"]
    assert result.device == "cpu"
    assert result.versions["av"] == av.__version__
    assert {name for name, there in result.weights.items() if there} == {"lite", "lite_x2"}
    assert SelftestResult.model_validate_json(result.model_dump_json()) == result


def test_a_warm_engine_says_that_it_answers_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_only("detect_scenes", monkeypatch)
    engine = selftest.SelftestProcessor()
    first, second = run(tmp_path / "1", engine), run(tmp_path / "2", engine)
    assert selftest.FROM_MEMORY not in first.processors["detect_scenes"].detail
    assert selftest.FROM_MEMORY in second.processors["detect_scenes"].detail
    assert not (tmp_path / "2" / "selftest-detect_scenes").exists()


def test_missing_weights_are_an_answer_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_only("upscale", monkeypatch)
    needy = replace(upscale_sample.SAMPLE, variants=({"model": "ESRGAN_4x"},))
    monkeypatch.setattr(upscale_sample, "SAMPLE", needy)
    engine = selftest.SelftestProcessor()
    for number in range(2):
        check = run(tmp_path / str(number), engine).processors["upscale"]
        assert not check.ok
        assert check.detail.startswith("weights_missing: ")


def test_a_network_really_runs_when_its_weights_are_there(
    tmp_path: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_only("upscale", monkeypatch)
    result = run(tmp_path / "job", weights_dir=weights_dir)
    assert result.processors["upscale"].detail == "ran with model realesr-animevideov3"
    with av.open(str(tmp_path / "job" / "selftest-upscale" / "output.mp4")) as container:
        assert container.streams.video[0].width == 256
        assert sum(1 for _ in container.decode(video=0)) == 24
    assert result.weights["realesr-animevideov3"]


def test_weights_of_the_wrong_size_are_not_present(tmp_path: Path) -> None:
    (tmp_path / "RealESRGAN_x4plus.pth").write_bytes(b"short")
    assert selftest.weights(WeightStore(tmp_path))["RealESRGAN_x4plus"] is False


def test_a_broken_processor_is_reported_without_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "detect_scenes"

        def required_weights(self, params: Any, inputs: Any = ()) -> tuple[str, ...]:
            return ()

        def prepare(self, job: LocalJob) -> None:
            raise ZeroDivisionError("/secret/path")

    try_only("detect_scenes", monkeypatch)
    module = ModuleType("broken_processor")
    module.__dict__["PROCESSOR"] = Broken()
    monkeypatch.setitem(sys.modules, "broken_processor", module)
    monkeypatch.setitem(registry.PROCESSORS, "detect_scenes", "broken_processor")
    check = run(tmp_path / "job").processors["detect_scenes"]
    assert not check.ok
    assert check.detail == "internal: ZeroDivisionError; the worker's log has the traceback"


def test_a_processor_that_is_not_installed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_only("detect_scenes", monkeypatch)
    monkeypatch.setitem(registry.PROCESSORS, "detect_scenes", "gpu_worker_processors.not_there")
    assert (
        run(tmp_path / "job")
        .processors["detect_scenes"]
        .detail.startswith("internal: ModuleNotFoundError")
    )


@pytest.mark.parametrize(
    ("starts", "right"), [([0, 12], True), ([0], False), ([0, 11], False), ([0, 6, 12], False)]
)
def test_scenes_are_judged(starts: list[int], right: bool) -> None:
    scenes = [
        Scene(start_frame=s, end_frame=s + 1, start_time=s / 12, end_time=s / 12) for s in starts
    ]
    stats = DetectScenesStats(processing_time_sec=0, total_scenes=len(scenes), avg_scene_length=1)
    wrong = samples.sample_of("detect_scenes").judge(DetectScenesResult(scenes=scenes, stats=stats))
    assert (wrong is None) == right


@pytest.mark.parametrize(
    ("frames", "size", "right"),
    [(24, "256x192", True), (23, "256x192", False), (24, "64x48", False)],
)
def test_upscales_are_judged(frames: int, size: str, right: bool) -> None:
    stats = UpscaleStats(
        processing_time_sec=0,
        input_resolution="64x48",
        output_resolution=size,
        frames_processed=frames,
        fps=1,
        denoise="none",
        tiles=1,
    )
    assert (upscale_sample.SAMPLE.judge(UpscaleResult(stats=stats)) is None) == right


def test_every_sample_names_models_of_the_wire() -> None:
    """A model that is added to the wire and not to the sample would never be tried when it is the
    only one present."""
    from typing import get_args

    from gpu_worker_client.protocol.upscale import SrModel

    assert {variant["model"] for variant in upscale_sample.SAMPLE.variants} == set(
        get_args(SrModel)
    )


def test_outside_a_sandbox_it_says_that_the_walls_are_open() -> None:
    found = selftest.sandbox()
    assert SimpleNamespace(**found).files_closed is False
    assert found["network_closed"] is False
