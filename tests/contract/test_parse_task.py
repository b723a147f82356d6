"""From bytes to a typed task: what is refused, how it is called, and that no message repeats what
it was given."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_worker_client.protocol import (
    MAX_TASK_BYTES,
    TASKS,
    DetectScenesParams,
    DetectScenesTask,
    ErrorCode,
    TaskError,
    TaskResult,
    UpscaleParams,
    UpscaleTask,
    parse_task,
    same_object,
)

CANARY = "CANARYsignature0123456789abcdef"
IN = f"https://account.r2.example/bucket/in.mp4?X-Amz-Signature={CANARY}"
OUT = f"https://account.r2.example/bucket/out.mp4?X-Amz-Signature={CANARY}"
UPSCALE: dict[str, Any] = {"task": "upscale", "input_url": IN, "output_url": OUT}
SCENES: dict[str, Any] = {"task": "detect_scenes", "input_url": IN}
PART = 5 * 1024 * 1024


def test_what_is_shown_of_a_task_or_a_result_holds_no_signature() -> None:
    task = parse_task(
        UPSCALE
        | {"result_url": IN.replace("in.mp4", "r.json"), "headers": {"output": {"x": CANARY}}}
    )
    render = parse_task(
        {
            "task": "render",
            "inputs": {"in.mp4": IN},
            "output_url": OUT,
            "params": {"command_args": ["-i", "in.mp4", "out.mp4"]},
        }
    )
    result = TaskResult(task="upscale", output_url=OUT, result_url=OUT)
    for model in (task, render, result):
        for shown in (repr(model), str(model), f"{[model]}"):
            assert "account.r2.example/bucket/out.mp4" in shown
            assert CANARY not in shown
    assert task.input_url == IN


def parts(*urls: str, **more: Any) -> dict[str, Any]:
    listed = [{"n": n, "url": url} for n, url in enumerate(urls, start=1)]
    return {"output_url": None, "output_multipart": {"part_size": PART, "parts": listed, **more}}


def refused(payload: Any) -> TaskError:
    """The error of a payload, after making sure that it repeats nothing."""
    with pytest.raises(TaskError) as caught:
        parse_task(payload)
    error = caught.value
    shown = f"{error} {error!r} {error.message} {error.body().to_wire()}"
    assert CANARY not in shown
    assert len(shown) < 20_000
    assert error.__suppress_context__ or error.__cause__ is None
    return error


def test_the_smallest_tasks() -> None:
    assert isinstance(parse_task(UPSCALE), UpscaleTask)
    assert isinstance(parse_task(json.dumps(SCENES).encode()), DetectScenesTask)
    assert parse_task({"task": "selftest"}).task == "selftest"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="J01 empty"),
        pytest.param(b"null", id="J01 null"),
        pytest.param(None, id="J01 None"),
        pytest.param(b"[]", id="J01 list"),
        pytest.param([], id="J01 a list object"),
        pytest.param("selftest", id="J01 a string object"),
        pytest.param(json.dumps({**SCENES, "pad": "x" * 300_000}).encode(), id="J01 300 KB"),
        pytest.param({**SCENES, "pad": "x" * 300_000}, id="J01 300 KB object"),
        pytest.param(b"[" * 200_000, id="J02 brackets"),
        pytest.param(
            b'{"task":"selftest","params":' + b'{"a":' * 200 + b"1" + b"}" * 201,
            id="J02 closed nesting",
        ),
        pytest.param(
            b'{"task":"selftest","input_url":"' + b"[" * 200_000,
            id="J02 brackets after an open quote",
        ),
        pytest.param(b'"' * 200_001, id="J02 quotes"),
        pytest.param(b"\\" * 200_001, id="J02 backslashes"),
        pytest.param(
            b'{"task":"detect_scenes","input_url":"x","params":{"threshold":NaN}}', id="J03 NaN"
        ),
        pytest.param(
            b'{"task":"detect_scenes","input_url":"x","params":{"threshold":-Infinity}}',
            id="J03 Infinity",
        ),
        pytest.param(
            b'{"task":"detect_scenes","input_url":"x","params":{"threshold":1e999}}', id="J03 1e999"
        ),
        pytest.param({**SCENES, "params": {"threshold": float("nan")}}, id="J03 a NaN object"),
        pytest.param(
            b'{"task":"upscale","params":{"crf":' + b"9" * 5000 + b"}}", id="J03 5000 digits"
        ),
        pytest.param({**UPSCALE, "params": {"crf": 10**5000}}, id="J03 5000 digits object"),
        pytest.param(b'{"task":"selftest","task":"selftest"}', id="J04 a key twice"),
        pytest.param(b'{"task":"selftest","params":{"a":1,"a":1}}', id="J04 a key twice, deeper"),
        pytest.param({**SCENES, "frobnicate": CANARY}, id="J06 extra key"),
        pytest.param({**SCENES, "__proto__": {CANARY: 1}}, id="J06 __proto__"),
        pytest.param({**SCENES, "params": {"__class__": CANARY}}, id="J06 __class__"),
        pytest.param({**UPSCALE, "params": {"crf": True}}, id="J07 bool for int"),
        pytest.param({**UPSCALE, "params": {"crf": "18"}}, id="J07 str for int"),
        pytest.param({**UPSCALE, "params": {"crf": 18.0}}, id="J07 float for int"),
        pytest.param({**UPSCALE, "params": {"face_enhance": 1}}, id="J07 int for bool"),
        pytest.param({**UPSCALE, "params": {"scale": True}}, id="J07 bool for float"),
        pytest.param({**UPSCALE, "input_url": [IN]}, id="J07 list for str"),
        pytest.param({**UPSCALE, "params": {"scale": 0}}, id="J08 0"),
        pytest.param({**UPSCALE, "params": {"scale": -1}}, id="J08 -1"),
        pytest.param({**UPSCALE, "params": {"scale": 1}}, id="J08 1 would be no upscale"),
        pytest.param({**UPSCALE, "params": {"scale": 2**63}}, id="J08 2**63"),
        pytest.param({**SCENES, "input_url": "https://h/\ud800"}, id="J09 lone surrogate object"),
        pytest.param(
            b'{"task":"detect_scenes","input_url":"https://h/\\ud800"}', id="J09 lone surrogate"
        ),
        pytest.param({**SCENES, "idempotency_key": "a\x00"}, id="J09 NUL"),
        pytest.param({**SCENES, "idempotency_key": "a\u202eb"}, id="J09 RTL override"),
        pytest.param({**SCENES, "input_url": "x" * 8193}, id="U18 8 KB URL"),
        pytest.param({**SCENES, "input_url": ""}, id="U18 empty URL"),
        *[
            pytest.param({**SCENES, "idempotency_key": key}, id=f"J10 {key[:6]}")
            for key in ("../x", "a/b", "ü", "x" * 300, ".", "_w")
        ],
        pytest.param(
            {**UPSCALE, "output_url": IN.replace("Signature", "Other")},
            id="J13 output is the input",
        ),
        pytest.param(
            {
                **UPSCALE,
                "output_url": IN.replace("account.", "ACCOUNT.").replace(
                    ".example", ".example:443"
                ),
            },
            id="J13 spelt",
        ),
        pytest.param({**UPSCALE, "output_url": IN.replace("in.mp4", "%69n.mp4")}, id="J13 encoded"),
        pytest.param({**SCENES, "result_url": IN}, id="J13 result is the input"),
        pytest.param({**UPSCALE, "result_url": OUT}, id="J14 result is the output"),
        pytest.param({**UPSCALE, **parts(OUT, OUT)}, id="J14 two parts to one URL"),
        pytest.param({**UPSCALE, **parts(OUT, "https://h/other")}, id="J14 parts of two objects"),
        pytest.param(
            {**UPSCALE, **parts(OUT, complete={"url": "https://h/other"})},
            id="J14 completes another object",
        ),
        pytest.param(
            {**UPSCALE, "output_multipart": parts(OUT)["output_multipart"]}, id="both outputs"
        ),
        pytest.param({**UPSCALE, "output_url": None}, id="no output"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(SCENES).encode(), id="J15 BOM"),
        pytest.param(json.dumps(SCENES).encode("utf-16"), id="J15 UTF-16"),
        pytest.param(bytes.fromhex("1f8b0800") + b"x", id="J15 gzip"),
        pytest.param(json.dumps(SCENES).encode() + b"\n{}", id="two values"),
        pytest.param({**SCENES, "result_get_url": "https://h/r"}, id="deduplication by halves"),
        pytest.param(
            {
                **SCENES,
                "result_get_url": "https://h/r",
                "result_url": "https://h/q",
                "idempotency_key": "k",
            },
            id="deduplication from another object",
        ),
        *[
            pytest.param({**SCENES, "headers": {"input": headers}}, id=f"headers {name}")
            for name, headers in {
                "smuggled": {"a": f"x\r\nb: {CANARY}"},
                "name with a value": {f"Authorization: {CANARY}": "x"},
                "Host": {"Host": CANARY},
                "framing": {"transfer-Encoding": "chunked"},
                "twice": {"a-b": "1", "A-B": "2"},
                "many": {f"h{n}": "" for n in range(33)},
            }.items()
        ],
    ],
)
def test_refused_as_invalid(payload: Any) -> None:
    assert refused(payload).code is ErrorCode.invalid_task


@pytest.mark.parametrize(
    "task",
    [
        "upscal",
        "Upscale",
        "UPSCALE ",
        "",
        CANARY,
        None,
        1,
        True,
        ["upscale"],
        {"a": CANARY},
        "ü" * 1000,
    ],
)
def test_j05_an_unknown_task_lists_the_known_ones(task: Any) -> None:
    error = refused({**SCENES, "task": task})
    assert error.code is ErrorCode.unsupported_task
    assert error.details["tasks"] == list(TASKS)
    assert all(name in error.message for name in TASKS)


def test_j05_a_missing_task_and_a_misspelt_one() -> None:
    assert refused({"input_url": IN}).code is ErrorCode.unsupported_task
    assert 'Did you mean "detect_scenes"?' in refused({"task": "detect-scenes"}).message


def test_a_request_around_a_task_is_told_from_a_task() -> None:
    error = refused({"input": SCENES})
    assert error.code is ErrorCode.invalid_task
    assert 'the task alone, which stands in its "input"' in error.message


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None, [1], CANARY])
def test_j16_another_schema_version_is_named(version: Any) -> None:
    error = refused({**SCENES, "schema_version": version})
    assert error.code is ErrorCode.invalid_task
    assert "schema_version" in error.message and error.details["schema_version"] == 1
    assert parse_task({**SCENES, "schema_version": 1}).schema_version == 1


WORDS = {"command_args": ["-i", "a.mp4", "b.mp4"]}
RENDER: dict[str, Any] = {"task": "render", "inputs": {"a.mp4": IN}, "output_url": OUT}


def timeline(**changed: Any) -> dict[str, Any]:
    return {**RENDER, "params": {"timeline": {"clips": [{"input": "a.mp4"}], **changed}}}


@pytest.mark.parametrize(
    ("payload", "path", "hint"),
    [
        ({**UPSCALE, "inptu_url": 1}, "inptu_url", 'Did you mean "input_url"?'),
        ({**UPSCALE, "params": {"modle": 1}}, "params.modle", 'Did you mean "model"?'),
        ({**UPSCALE, "params": {"model": CANARY}}, "params.model", "'RealESRGAN_x4plus'"),
        ({**UPSCALE, "params": {"scale": 4.5}}, "params.scale", "less than or equal to 4"),
        ({**UPSCALE, "params": {"tile": "big"}}, "params.tile", "'auto'"),
        (
            {**UPSCALE, **parts(OUT, complet=1)},
            "output_multipart.complet",
            'Did you mean "complete"?',
        ),
        (
            {**UPSCALE, **parts(OUT, parts=[{"n": 1, "ulr": 1}])},
            "output_multipart.parts.0.ulr",
            'Did you mean "url"?',
        ),
        (
            {**SCENES, "headers": {"input": {CANARY + " ": "x"}}},
            "headers.input.(key)",
            "match pattern",
        ),
        ({**SCENES, "\u202e" + CANARY: 1}, "(key)", "unknown key"),
        (
            {**RENDER, "params": {**WORDS, "fit": "cover"}},
            "params.fit",
            "unknown key; allowed: command_args, timeline, output_filename, require_hardware",
        ),
        (
            timeline(music={"input": "m.wav", "volume_db": 3}),
            "params.timeline.music.volume_db",
            "allowed: input, start, gain_db,",
        ),
        (timeline(clips=[]), "params.timeline.clips", "give at least one clip"),
        (timeline(clips=1), "params.timeline.clips", "give a list of clips"),
        (
            {**RENDER, "params": {"command_args": "-i a.mp4 b.mp4"}},
            "params.command_args",
            "give a list of words",
        ),
        ({**RENDER, "input_url": IN}, "input_url", "this task takes `inputs`: {name: url}"),
        ({"task": "selftest", "input_url": IN}, "input_url", "unknown key; allowed: task,"),
    ],
)
def test_the_message_names_the_place_and_what_is_allowed(
    payload: Any, path: str, hint: str
) -> None:
    error = refused(payload)
    found = [entry for entry in error.details["errors"] if entry["path"] == path]
    assert found, error.details
    assert hint in " ".join(entry["problem"] for entry in found)
    assert f"{path}: " in error.message


def test_as_many_parts_as_a_task_may_hold() -> None:
    url = OUT + "&partNumber={}&uploadId=" + "u" * 300
    task = parse_task(
        {**UPSCALE, **parts(*[url.format(n) for n in range(1, 501)], complete={"url": url})}
    )
    assert isinstance(task, UpscaleTask) and task.output_multipart is not None
    assert len(task.output_multipart.parts) == 500


def test_size_and_depth_are_refused_for_themselves() -> None:
    whole = json.dumps(SCENES).encode()
    assert parse_task(whole.ljust(MAX_TASK_BYTES)).task == "detect_scenes"
    assert "exceeds 262144 bytes" in refused(whole.ljust(MAX_TASK_BYTES + 1)).message
    assert (
        "nested deeper than 32"
        in refused(b'{"task":"selftest","params":' + b"[" * 40 + b"]" * 40 + b"}").message
    )
    assert (
        "nested deeper than 32"
        in refused({"task": "selftest", "params": json.loads("[" * 40 + "]" * 40)}).message
    )


def test_brackets_in_strings_are_not_nesting() -> None:
    text = json.dumps({**SCENES, "input_url": "https://h/" + "[{" * 100 + '\\"' * 50}).encode()
    assert isinstance(parse_task(text), DetectScenesTask)


def test_a_bomb_of_brackets_is_cheap() -> None:
    tracemalloc.start()
    start = time.perf_counter()
    refused(b"[" * 200_000)
    seconds, (_, peak_bytes) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"200k brackets: refused in {seconds * 1000:.1f} ms, {peak_bytes / 1e6:.2f} MB")
    assert peak_bytes < 4 * MAX_TASK_BYTES


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://h/b/k?sig=1", "https://h/b/k?sig=2#x", True),
        ("https://H:443/b/k", "https://h./b/k", True),
        ("https://h/b/%6B", "https://h/b/k", True),
        ("file:///tmp/a.mp4", "/tmp/a.mp4", True),
        ("https://h/b/k", "https://h/b/K", False),
        ("https://h/b/k", "https://h:8443/b/k", False),
        ("https://h/b/k", "http://h/b/k", False),
        ("https://h/b/k", "https://g/b/k", False),
        ("https://[x/k", "https://[x/k", True),
        ("https://h:x/k", "https://h:x/k?a", False),
    ],
)
def test_same_object(first: str, second: str, same: bool) -> None:
    assert same_object(first, second) is same
    assert same_object(second, first) is same


# --- fuzzing
# ------------------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20).map(lambda text: CANARY + text),
    st.binary(max_size=3),
)
KEYS = st.one_of(
    st.sampled_from(["task", "params", "headers", "input_url", "scale", "parts", "n", "url"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
SEEDS = st.sampled_from(
    [UPSCALE, SCENES, {"task": "selftest"}, {**UPSCALE, **parts(OUT + "&1", OUT + "&2")}]
)
FUZZ = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parses_or_is_refused(payload: Any) -> None:
    try:
        parse_task(payload)
    except TaskError as error:
        assert error.code in (ErrorCode.invalid_task, ErrorCode.unsupported_task)
        assert CANARY not in f"{error} {error.body().to_wire()}"


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes) -> None:
    parses_or_is_refused(raw)


@FUZZ
@given(VALUES)
def test_any_value(value: Any) -> None:
    parses_or_is_refused(value)


@FUZZ
@given(
    SEEDS,
    st.sampled_from(["params", "headers", "schema_version", "output_multipart", "result_url", "x"]),
    VALUES,
)
def test_a_good_task_with_one_thing_changed(seed: dict[str, Any], key: str, value: Any) -> None:
    parses_or_is_refused({**seed, key: value})


@FUZZ
@given(
    SEEDS,
    st.dictionaries(
        st.sampled_from([*UpscaleParams.model_fields, *DetectScenesParams.model_fields]), VALUES
    ),
)
def test_a_good_task_with_any_parameters(seed: dict[str, Any], params: Any) -> None:
    parses_or_is_refused({**seed, "params": params})


@FUZZ
@given(SEEDS, st.data())
def test_a_good_text_with_bytes_changed(seed: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(json.dumps(seed).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    try:
        parse_task(bytes(raw))
    except TaskError as error:
        assert error.code in (ErrorCode.invalid_task, ErrorCode.unsupported_task)


def test_broken_json_names_its_place() -> None:
    with pytest.raises(TaskError, match="line 2, column 1$"):
        parse_task(b'{"task": "selftest",\n}')
