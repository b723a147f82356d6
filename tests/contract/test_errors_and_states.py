"""Codes, states and shapes as the contract has them, written down a second time: a change of a
meaning must be a decision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from gpu_worker_client import InvalidTask
from gpu_worker_client.protocol import (
    TASKS,
    DetectScenesResult,
    DetectScenesStats,
    DetectScenesTask,
    ErrorBody,
    ErrorCode,
    Progress,
    RenderParams,
    RenderTask,
    RequestModel,
    ResponseModel,
    State,
    TaskBase,
    TaskError,
    TaskKind,
    TaskResult,
    parse_task,
)
from gpu_worker_processors.results import SUMMARY_LISTS

NOT_RETRYABLE = [
    "invalid_task",
    "unsupported_task",
    "url_not_allowed",
    "address_not_allowed",
    "redirect_not_allowed",
    "url_expired",
    "url_denied",
    "input_not_found",
    "tls_error",
    "clock_skew",
    "length_required",
    "input_changed",
    "output_exists",
    "input_too_large",
    "media_limit",
    "time_limit",
    "output_too_large",
    "result_too_large",
    "not_media",
    "corrupt_media",
    "unsupported_media",
    "no_video_stream",
    "no_audio_stream",
    "no_frames",
    "weights_missing",
    "weights_rejected",
    "ffmpeg_arg_denied",
    "sandbox_unavailable",
    "hardware_encoder_unavailable",
    "webhook_unavailable",
    "output_invalid",
    "nan_output",
    "cancelled",
]
RETRYABLE = [
    "download_failed",
    "download_timeout",
    "download_truncated",
    "upload_failed",
    "storage_unavailable",
    "gpu_oom",
    "resource_exhausted",
    "disk_full",
    "internal",
]


def test_the_codes_and_which_of_them_a_second_try_can_help() -> None:
    assert {code.value for code in ErrorCode if code.retryable} == set(RETRYABLE)
    assert {code.value for code in ErrorCode if not code.retryable} == set(NOT_RETRYABLE)
    assert all(code.name == code.value for code in ErrorCode)


def test_an_error_travels_as_one_line_of_json() -> None:
    wire = (
        TaskError(ErrorCode.gpu_oom, "no tile fits", stage="process", tile_px=64).body().to_wire()
    )
    assert "\n" not in wire
    assert json.loads(wire) == {
        "code": "gpu_oom",
        "message": "no tile fits",
        "retryable": True,
        "stage": "process",
        "details": {"tile_px": 64},
    }


@pytest.mark.parametrize(
    "text",
    ["", "null", "{}", "[]", '{"code": 1, "message": "m"}', '{"error_message": "x"}', "\ud800"],
)
def test_what_is_not_our_error(text: str) -> None:
    assert ErrorBody.from_wire(text) is None


@pytest.mark.parametrize(
    ("runpod", "state", "final"),
    [
        ("IN_QUEUE", "queued", False),
        ("IN_PROGRESS", "running", False),
        ("RUNNING", "running", False),
        ("COMPLETED", "completed", True),
        ("FAILED", "failed", True),
        ("CANCELLED", "cancelled", True),
        ("TIMED_OUT", "timed_out", True),
        ("SOMETHING_NEW", "running", False),
    ],
)
def test_states_from_runpod(runpod: str, state: str, final: bool) -> None:
    assert State.from_runpod(runpod).value == state
    assert State(state).is_final is final


def test_the_states_there_are() -> None:
    ends = {"completed", "failed", "cancelled", "timed_out", "expired", "imported"}
    assert {state.value for state in State if not state.is_final} == {"queued", "running"}
    assert {state.value for state in State if state.is_final} == ends


# --- the models of every task ---


def models_within(annotation: Any, seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    for inner in get_args(annotation):
        yield from models_within(inner, seen)
    if (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and annotation not in seen
    ):
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_within(field.annotation, seen)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kind(task: str) -> TaskKind:
    return TASKS[task]


def test_a_task_is_named_alike_in_table_request_and_result(task: str, kind: TaskKind) -> None:
    assert kind.request.model_fields["task"].default == task
    assert kind.result.model_fields["task"].default == task


def test_all_parameters_have_defaults(kind: TaskKind) -> None:
    params = kind.request.model_fields["params"]
    if kind.request is RenderTask:  # what to render has no default
        assert params.is_required()
        return
    assert not params.is_required()
    assert isinstance(params.default, RequestModel)


def test_requests_are_strict_through_and_through(kind: TaskKind) -> None:
    found = list(models_within(kind.request, set()))
    assert kind.request in found and len(found) >= 2
    for model in found:
        assert issubclass(model, RequestModel), model
        config = model.model_config
        assert (config.get("strict"), config.get("extra"), config.get("frozen")) == (
            True,
            "forbid",
            True,
        ), model
        assert (config.get("allow_inf_nan"), config.get("hide_input_in_errors")) == (False, True), (
            model
        )


def test_results_can_be_read_by_an_older_client(kind: TaskKind) -> None:
    for model in models_within(kind.result, set()):
        assert issubclass(model, ResponseModel), model
        assert model.model_config.get("extra") == "allow", model


def test_a_summary_of_a_large_result_is_still_a_result(kind: TaskKind) -> None:
    """Above the inline limit the worker leaves the long lists out of its answer; the rest must
    still make a typed result."""
    lists = [
        name
        for name, field in kind.result.model_fields.items()
        if get_origin(field.annotation) is list
    ]
    left_out = [name for name in lists if name not in SUMMARY_LISTS]
    assert all(not kind.result.model_fields[name].is_required() for name in left_out)


def test_a_summary_of_scenes_is_read() -> None:
    stats = DetectScenesStats(total_scenes=20_000, avg_scene_length=0.5)
    summary = {
        "task": "detect_scenes",
        "stats": stats.model_dump(),
        "result_url": "https://h/r.json",
        "scenes_count": 20_000,
    }
    result = DetectScenesResult.model_validate(summary)
    assert (result.scenes, result.stats.total_scenes, result.model_extra) == (
        [],
        20_000,
        {"scenes_count": 20_000},
    )


def test_json_schema_can_be_made(kind: TaskKind) -> None:
    request, result = (
        kind.request.model_json_schema(),
        kind.result.model_json_schema(mode="serialization"),
    )
    assert request["additionalProperties"] is False
    assert (
        json.loads(json.dumps(request))["properties"]["task"]["const"]
        == request["properties"]["task"]["default"]
    )
    assert "stats" in result["properties"]


def test_a_task_survives_the_wire(kind: TaskKind) -> None:
    given: dict[str, Any] = {"input_url": "https://h/i", "output_url": "https://h/o"}
    if kind.request is RenderTask:
        given["params"] = RenderParams(
            command_args=["-f", "lavfi", "-i", "sine=duration=1", "out.wav"]
        )
    fields = {name: value for name, value in given.items() if name in kind.request.model_fields}
    first = kind.request(**fields)
    again = parse_task(first.model_dump_json().encode())
    assert again == first
    assert parse_task(first.model_dump(mode="json")) == first


def test_tasks_cannot_be_changed_after_they_were_checked() -> None:
    task = DetectScenesTask(input_url="https://h/i")
    with pytest.raises(ValidationError, match="frozen"):
        task.input_url = "https://h/other"  # type: ignore[misc]


def test_a_wire_models_own_error_repeats_nothing() -> None:
    with pytest.raises(InvalidTask) as caught:
        DetectScenesTask(input_url="https://h/i?CANARY", params="CANARY")  # type: ignore[arg-type]
    assert "CANARY" not in f"{caught.value!r} {caught.value.details}"


def test_what_every_request_and_every_answer_has() -> None:
    common = {
        "task",
        "schema_version",
        "result_url",
        "result_get_url",
        "idempotency_key",
        "webhook_url",
        "headers",
        "params",
    }
    assert set(TaskBase.model_fields) == common
    answer = (
        "status task output_url output_parts result_url deduplicated idempotency_key timings cost"
        " worker warnings"
    )
    assert set(TaskResult.model_fields) == set(answer.split())
    assert set(Progress.model_fields) == {
        "seq",
        "stage",
        "fraction",
        "done",
        "total",
        "unit",
        "fps",
        "eta_sec",
    }
