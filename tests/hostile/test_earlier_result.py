"""The object behind `result_get_url` is the caller's to write; its answer may not be too large nor
command the worker."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from gpu_worker import earlier_result
from gpu_worker.answer import reused_answer
from gpu_worker.earlier_result import earlier_answer
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.results import answer_bytes

RESULT: dict[str, Any] = {
    "status": "completed",
    "task": "detect_scenes",
    "idempotency_key": "k",
    "result_url": "https://h/result.json",
    "scenes": [],
    "stats": {
        "total_scenes": 0,
        "avg_scene_length": 0.0,
        "total_frames": 1,
        "processing_time_sec": 1.0,
    },
}
SCENE = {"start_frame": 0, "end_frame": 1, "start_time": 0.0, "end_time": 1.0}


def reuse(payload: bytes) -> dict[str, Any] | None:
    return reused_answer(payload, "detect_scenes", "k", Settings())


def test_it_is_answered_again() -> None:
    answer = reuse(json.dumps(RESULT).encode())
    assert answer is not None
    assert answer["deduplicated"] is True and answer["stats"]["total_frames"] == 1


def test_a_large_one_is_answered_by_its_summary() -> None:
    answer = reuse(json.dumps(RESULT | {"scenes": [SCENE] * 200_000}).encode())
    assert answer is not None
    assert answer_bytes(answer) < Settings().inline_result_bytes
    assert answer["scenes_count"] == 200_000 and answer["result_url"] == RESULT["result_url"]


def test_it_cannot_end_the_worker_or_fail_the_job() -> None:
    answer = reuse(json.dumps(RESULT | {"refresh_worker": True, "error": "x"}).encode())
    assert answer is not None
    assert not {"refresh_worker", "error"} & set(answer)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"[" * 200_000, b'{"status": "completed"}', b"\xff", b'{"status": NaN}'],
    ids=["empty", "list", "nested", "without the rest", "not UTF-8", "NaN"],
)
def test_what_is_no_result_means_that_the_work_is_done(payload: bytes) -> None:
    assert reuse(payload) is None


def read(
    payload: bytes, stop: threading.Event | None = None, settings: Settings | None = None
) -> dict[str, Any] | None:
    settings, stop = settings or Settings(), stop or threading.Event()
    return earlier_answer(payload, "detect_scenes", "k", settings, stop)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is parsed in this process."""

    def parse(*_: object) -> None:
        raise AssertionError("parsed in the worker")

    monkeypatch.setattr(earlier_result, "reused_answer", parse)


@pytest.mark.usefixtures("unread")
def test_a_large_one_is_read_by_another_process() -> None:
    answer = read(json.dumps(RESULT | {"scenes": [SCENE] * 20_000}).encode())
    assert answer is not None and answer["scenes_count"] == 20_000


@pytest.mark.slow
@pytest.mark.usefixtures("unread")
def test_an_error_of_that_process_is_the_jobs() -> None:
    too_large = RESULT | {"scenes": [SCENE] * 20_000, "result_url": None}
    small = Settings(inline_result_bytes=1000, max_answer_bytes=1000)
    with pytest.raises(TaskError) as caught:
        read(json.dumps(too_large).encode(), settings=small)
    assert caught.value.code is ErrorCode.result_too_large


@pytest.mark.slow
@pytest.mark.usefixtures("unread")
def test_one_that_takes_too_much_memory_means_that_the_work_is_done() -> None:
    assert read(b'{"scenes": [' + b"{}," * 60_000_000 + b"{}]}") is None


@pytest.mark.usefixtures("unread")
def test_a_cancel_ends_the_reading() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(TaskError) as caught:
        read(b"[" * 300_000, stop)
    assert caught.value.code is ErrorCode.cancelled


def test_a_small_one_is_read_at_once() -> None:
    answer = read(json.dumps(RESULT).encode())
    assert answer is not None and answer["deduplicated"] is True
