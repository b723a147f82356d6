"""The wire of beat: what a task may say, and the file that montage tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gpu_worker_client.protocol.beat import (
    BeatParams,
    BeatResult,
    BeatStats,
    BeatTask,
    Energy,
    save_analysis,
)

URL = "https://host.example/in.mp3"


def task(**fields: Any) -> BeatTask:
    return BeatTask.model_validate_json(json.dumps({"task": "beat", "input_url": URL, **fields}))


def test_defaults() -> None:
    params = task().params
    assert (params.hop_length, params.energy_hz, params.engine, params.audio_stream) == (
        512,
        10.0,
        "librosa",
        None,
    )
    assert (params.bpm, params.onsets) == (None, False)
    assert not task().makes_a_file
    assert task(output_url="https://host.example/mix.wav").makes_a_file


@pytest.mark.parametrize(
    "params",
    [
        {"hop_length": 0},
        {"hop_length": 512.0},
        {"energy_hz": 0},
        {"energy_hz": 1000},
        {"engine": "madmom"},
        {"audio_stream": -1},
        {"bpm": 10},
        {"bpm": 200, "max_bpm": 150},
        {"min_bpm": 100, "max_bpm": 120},
        {"onsets": 1},
        {"tempo": 120},
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        task(params=params)


def test_the_output_is_not_the_input() -> None:
    with pytest.raises(ValidationError, match="key of its own"):
        task(output_url=f"{URL}?X-Amz-Signature=1")


def test_a_result_survives_the_wire() -> None:
    result = BeatResult(
        tempo=120.0,
        beat_times=[0.5, 1.0],
        confidence=[1.0, 0.9],
        duration=2.0,
        stats=BeatStats(beats=2),
    )
    again = BeatResult.model_validate_json(result.model_dump_json())
    assert again == result
    assert (again.downbeats, again.onsets) == (None, None), "None says: not known, not asked for"


def test_analysis_json(tmp_path: Path) -> None:
    result = BeatResult(
        tempo=120.5,
        beat_times=[0.5, 1.0],
        confidence=[1.0, 0.9],
        energy=Energy(times=[0.05], rms=[0.25]),
        duration=2.0,
        stats=BeatStats(beats=2),
    )
    written = json.loads(save_analysis(result, tmp_path / "analysis.json").read_text())
    assert written == {
        "tempo": 120.5,
        "beat_times": [0.5, 1.0],
        "energy": {"times": [0.05], "rms": [0.25]},
        "duration": 2.0,
        "sample_rate": 22050,
    }
    assert list(BeatParams.model_fields)[0] == "hop_length"
