"""The result that a captured engine leaves: a large one is never parsed in the worker, and what is
no result ends the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import tracked

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import BeatResult, ErrorBody
from gpu_worker_processors import limited_child, results, runner

MEGABYTE = 1 << 20
SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "stats": {"total_scenes": 0, "avg_scene_length": 0.0, "total_frames": 1},
}


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is parsed in this process."""

    def parse(*_: object) -> None:
        raise AssertionError("parsed in the worker")

    monkeypatch.setattr(results, "_read", parse)


def ask(
    folder: Path, monkeypatch: pytest.MonkeyPatch, result: bytes, **task: Any
) -> tuple[dict[str, Any], bool]:
    """The answer, and whether the engine that left this result was replaced."""
    monkeypatch.setattr(runner, "registry", tracked.REGISTRY)
    source = folder / "in.mp4"
    source.touch()
    settings = Settings(work_root=folder / "work", allow_local_files=True)
    engine = tracked.Tracked(settings, result)
    return tracked.ask(
        engine, settings, source, **{"task": "detect_scenes"} | task
    ), engine.replaced


def code(answer: dict[str, Any]) -> str:
    body = ErrorBody.from_wire(answer["error"])
    assert body is not None
    return body.code


def scene(text: str) -> str:
    return f'{{"start_frame":{text},"end_frame":1,"start_time":0.0,"end_time":1.0}}'


def scenes(*more: str) -> str:
    return json.dumps(SCENES)[:-1] + f',"scenes":[{",".join(more)}]}}'


STRING = '"' + "a" * 55 + '"'
LARGE = {
    "integers": ("[" + ",".join(["9" * 4300] * 250) + "]", "internal"),
    "keys": ("{" + ",".join(f'"{at:056}":1' for at in range(20_000)) + "}", "internal"),
    "strings": ("[" + ",".join(['"\U0001f600"'] + [STRING] * 20_000) + "]", "internal"),
    "wide strings": ("[" + ",".join([STRING[:-1] + '\U0001f600"'] * 20_000) + "]", "internal"),
    "one string": ('["\U0001f600' + "a" * MEGABYTE + '"]', "internal"),
    "integers in scenes": (scenes(*[scene("9" * 4300)] * 100), "output_invalid"),
}


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(("result", "expected"), LARGE.values(), ids=LARGE)
def test_a_large_one_is_read_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, expected: str
) -> None:
    answer, replaced = ask(tmp_path, monkeypatch, result.encode())
    assert code(answer) == expected
    assert replaced is (expected == "internal")


@pytest.mark.slow
@pytest.mark.usefixtures("unread")
def test_one_that_takes_too_much_memory_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = scenes(*[scene("0")] * 20_000)
    padded = many[:-1] + ',"x":[' + "{}," * 42_000_000 + "{}]}"
    assert len(padded) < 128 * MEGABYTE
    answer, _ = ask(tmp_path, monkeypatch, padded.encode())
    assert code(answer) == "result_too_large"


@pytest.mark.parametrize(
    "result",
    ["", "hello", "[" * 100_000, '{"tracks": [NaN', "[]", "{}"],
    ids=["empty", "text", "deep", "cut", "list", "no result"],
)
def test_one_that_is_none_ends_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str
) -> None:
    answer, replaced = ask(tmp_path, monkeypatch, result.encode())
    assert code(answer) == "internal" and replaced


@pytest.mark.usefixtures("unread")
def test_the_platform_is_not_the_engines_to_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = scenes(*[scene("0")] * 5000)[:-1] + ',"refresh_worker":true,"error":"x"}'
    assert len(forged) > limited_child.SMALL_BYTES
    answer, replaced = ask(tmp_path, monkeypatch, forged.encode())
    assert not {"refresh_worker", "error"} & set(answer) and not replaced
    assert len(answer["scenes"]) == 5000 and answer["worker"]["package"] == "gpu-worker"


@pytest.mark.slow
@pytest.mark.usefixtures("unread")
def test_the_loudness_of_twelve_hours_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 12 * 3600 * 10
    energy = {
        "times": [round(0.05 + at / 10, 2) for at in range(count)],
        "rms": [at % 1000 / 10_000 for at in range(count)],
    }
    made = BeatResult.model_validate({"energy": energy, "duration": 43_200.0, "stats": {}})
    answer, _ = ask(tmp_path, monkeypatch, made.model_dump_json().encode(), task="beat")
    assert answer["energy"] == energy
