"""What render accepts and refuses before a worker looks at the command itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gpu_worker_client.protocol import (
    ErrorCode,
    OutputTask,
    RenderResult,
    RenderStats,
    RenderTask,
    TaskError,
)
from gpu_worker_client.protocol.parse import parse_task

IN = "https://account.r2.example/bucket/in.mp4?X-Amz-Signature=CANARY"
OUT = "https://account.r2.example/bucket/out.mp4?X-Amz-Signature=CANARY"
COMMAND = ["-i", "in.mp4", "-vf", "scale=1280:-2", "out.mp4"]
CLIPS = {"clips": [{"input": "in.mp4"}]}


def parsed(params: dict[str, Any] | None = None, **fields: Any) -> RenderTask:
    task = {
        "task": "render",
        "inputs": {"in.mp4": IN},
        "output_url": OUT,
        "params": params or {"command_args": COMMAND},
    }
    return RenderTask.model_validate_json(json.dumps({**task, **fields}))


def refusal(params: dict[str, Any] | None = None, **fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(params, **fields)
    assert "CANARY" not in str(caught.value)
    return str(caught.value)


def test_the_documented_defaults() -> None:
    task = parsed()
    assert task.params.command_args == COMMAND
    assert (task.params.output_filename, task.params.require_hardware, task.params.timeline) == (
        None,
        False,
        None,
    )
    assert isinstance(task, OutputTask)
    assert task.makes_a_file
    assert task.written_object == OUT


def test_a_command_or_a_timeline_and_not_both() -> None:
    assert parsed({"timeline": CLIPS}).params.timeline is not None
    assert "exactly one" in refusal({"timeline": CLIPS, "command_args": COMMAND})
    assert "exactly one" in refusal({"require_hardware": True})
    assert "output_filename" in refusal({"timeline": CLIPS, "output_filename": "out.mp4"})


def test_a_timeline_names_inputs_of_the_task() -> None:
    message = refusal({"timeline": {"clips": [{"input": "in.mp4"}, {"input": "other.mp4"}]}})
    assert "params.timeline.clips.1.input" in message and "there are: in.mp4" in message


@pytest.mark.parametrize(
    "name",
    [
        "../in.mp4",
        "/etc/passwd",
        ".hidden",
        "-y",
        "a:b.mp4",
        " a.mp4",
        "a\u202eb.mp4",
        "a\n",
        "%03d.png",
        "",
        "x" * 129,
        "ä" * 128,
    ],
)
def test_a_name_is_no_path_and_no_option(name: str) -> None:
    refusal(inputs={name: IN})
    refusal({"command_args": COMMAND, "output_filename": name})


@pytest.mark.parametrize("name", ["a b.mp4", "ä.mp4", "Дёма (1).mp4", "it's [one], = & #.mp4"])
def test_a_name_is_what_a_file_is_called(name: str) -> None:
    assert parsed(inputs={name: IN}).inputs == {name: IN}


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="no word"),
        pytest.param([""], id="an empty word"),
        pytest.param(["-i", "in.mp4", "out\x00.mp4"], id="F21 NUL in a word"),
        pytest.param(["-i", "in.mp4", "\x1b[2J"], id="an escape sequence"),
        pytest.param(["-i"] * 513, id="F21 too many words"),
        pytest.param(["x" * 8193], id="a long word"),
        pytest.param(["x" * 8192] * 5, id="F21 too many characters in all"),
        pytest.param("-i in.mp4 out.mp4", id="a line for a shell"),
        pytest.param(["-ss", 5, "out.mp4"], id="a number for a word"),
    ],
)
def test_words_that_no_command_has(args: object) -> None:
    refusal({"command_args": args})


def test_a_graph_may_stand_on_several_lines() -> None:
    assert parsed({"command_args": ["-i", "in.mp4", "-vf", "scale=640:-2,\n\tfps=30", "out.mp4"]})


def test_a_hundred_thousand_words_are_an_invalid_task() -> None:
    task = {
        "task": "render",
        "inputs": {"in.mp4": IN},
        "output_url": OUT,
        "params": {"command_args": ["-y"] * 100_000},
    }
    with pytest.raises(TaskError) as caught:
        parse_task(json.dumps(task).encode())
    assert caught.value.code is ErrorCode.invalid_task


def test_objects_are_told_apart() -> None:
    assert "inputs.in.mp4" in refusal(inputs={"in.mp4": OUT.replace("CANARY", "OTHER")})
    assert "inputs.in.mp4" in refusal(result_url=IN)
    assert "same object" in refusal(result_url=OUT)
    assert "name of an input" in refusal({"command_args": COMMAND, "output_filename": "in.mp4"})


def test_a_place_for_the_output_is_needed() -> None:
    assert "exactly one of output_url" in refusal(output_url=None)


def test_a_command_may_only_generate() -> None:
    assert (
        parsed({"command_args": ["-f", "lavfi", "-i", "testsrc2=d=1", "out.mp4"]}, inputs={}).inputs
        == {}
    )


def test_an_older_client_reads_a_newer_answer() -> None:
    stats = RenderStats(
        encoder_used="libx264", fallback_reason="no NVENC here", duration=2.0, frames=50
    )
    text = RenderResult(stats=stats).model_dump_json()
    newer = json.loads(text) | {"chapters": 3}
    read = RenderResult.from_json(json.dumps(newer))
    assert (read.stats.encoder_used, read.stats.frames, read.thumbnails_vtt) == (
        "libx264",
        50,
        None,
    )
