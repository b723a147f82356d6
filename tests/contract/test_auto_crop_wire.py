"""What auto_crop accepts and refuses, and that its answers can be sent back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gpu_worker_client.protocol import TaskError, parse_task
from gpu_worker_client.protocol.auto_crop import (
    AutoCropParams,
    AutoCropResult,
    AutoCropStats,
    AutoCropTask,
    CropKeyframe,
    CropSegment,
    CropSubject,
    CropWindow,
)

IN = "https://account.r2.example/bucket/in.mp4?X-Amz-Signature=CANARY"
OUT = "https://account.r2.example/bucket/out.mp4?X-Amz-Signature=CANARY"
TRACKS = "https://account.r2.example/bucket/tracks.json.gz?X-Amz-Signature=CANARY"


def parsed(
    *, output: bool = True, params: dict[str, Any] | None = None, **more: Any
) -> AutoCropTask:
    task = {
        "task": "auto_crop",
        "input_url": IN,
        "params": params or {},
        **({"output_url": OUT} if output else {}),
        **more,
    }
    return AutoCropTask.model_validate_json(json.dumps(task))


def refusal(**task: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(**task)
    assert "CANARY" not in str(caught.value)
    return str(caught.value)


def test_the_documented_defaults() -> None:
    params = parsed().params
    assert (params.target_aspect, params.subject, params.smoothing, params.padding) == (
        "9:16",
        "auto",
        0.8,
        0.2,
    )
    assert (params.anticipation, params.keyframe_interval, params.fallback, params.dry_run) == (
        0.5,
        30,
        "blur",
        False,
    )
    assert (params.framing, params.keep_bars) == ("subject", False)
    assert params.aspect == 9 / 16


@pytest.mark.parametrize("subject", ["auto", 3, "person", "sports ball"])
def test_subjects(subject: str | int) -> None:
    assert parsed(params={"subject": subject}).params.subject == subject
    override = {"start_time": 0, "end_time": 1.5, "subject": subject}
    assert parsed(params={"overrides": [override]}).params.overrides[0].subject == subject


@pytest.mark.parametrize(
    "params",
    [
        {"target_aspect": "9x16"},
        {"target_aspect": "0:16"},
        {"target_aspect": "9:0"},
        {"target_aspect": "1:21"},
        {"target_aspect": "99999:1"},
        {"subject": 0},
        {"subject": ""},
        {"subject": 1.5},
        {"subject": True},
        {"smoothing": 1.01},
        {"smoothing": -0.01},
        {"padding": 1.1},
        {"anticipation": 5.1},
        {"keyframe_interval": 0},
        {"zoom": 0.9},
        {"zoom": 9},
        {"output_width": 607},
        {"output_height": 14},
        {"output_height": 20000},
        {"crf": 52},
        {"codec": "vp9"},
        {"fallback": "split"},
        {"framing": "everyone"},
        {"model": "../yolo"},
        {"classes": []},
        {"confidence_threshold": 1.1},
        {"frame_stride": 0},
        {"keyframes": []},
        {"overrides": [{"start_time": 0, "end_time": 1}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "subject": 1, "x": 4}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "layout": "crop", "x": 4}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "subject": 1, "y": 4}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "layout": "split"}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "y": -4}]},
        {"overrides": [{"start_time": 1, "end_time": 1, "x": 4}]},
        {"overrides": [{"start_time": -1, "end_time": 1, "x": 4}]},
        {"overrides": [{"start_time": 0, "end_time": 1, "x": -4}]},
        {"keyframes": [{"x": 3}]},
        {"keyframes": [{"frame": 1}]},
        {"keyframes": [{"frame": 1, "x": -1}]},
        {"keyframes": [{"frame": 1.5, "x": 1}]},
        {"keyframes": [{"frame": 1, "x": 1, "w": 1}]},
        {"padding_px": 3},
    ],
    ids=json.dumps,
)
def test_what_is_out_of_range_is_refused(params: dict[str, Any]) -> None:
    refusal(params=params)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        pytest.param(
            {"output": False},
            "give one of output_url and output_multipart, or dry_run",
            id="no output",
        ),
        pytest.param(
            {"params": {"dry_run": True}}, "dry_run makes no file", id="dry run with output"
        ),
        pytest.param(
            {"params": {"keyframes": [{"frame": 0, "x": 1}], "subject": 3}},
            "leave out subject",
            id="keyframes and subject",
        ),
        pytest.param(
            {
                "params": {
                    "keyframes": [{"frame": 0, "x": 1}],
                    "overrides": [{"start_time": 0, "end_time": 1, "x": 1}],
                }
            },
            "leave out subject and overrides",
            id="keyframes and overrides",
        ),
        pytest.param(
            {"params": {"keyframes": [{"frame": 0, "x": 1}]}, "tracks_url": TRACKS},
            "leave out tracks_url",
            id="two paths",
        ),
        pytest.param(
            {"params": {"model": "yolov8m"}, "tracks_url": TRACKS},
            "tracks_url brings the tracks: leave out model",
            id="model",
        ),
        pytest.param(
            {"params": {"frame_stride": 2}, "tracks_url": TRACKS},
            "leave out frame_stride",
            id="stride",
        ),
        pytest.param(
            {"tracks_url": OUT},
            "tracks_url and output_url are the same object",
            id="tracks over output",
        ),
        pytest.param(
            {"params": {"keyframes": [{"frame": 5, "x": 1}, {"frame": 5, "x": 2}]}},
            "keyframes.1 is not later",
            id="one frame twice",
        ),
        pytest.param(
            {"params": {"keyframes": [{"time": 5, "x": 1}, {"time": 4, "x": 2}]}},
            "must be in order",
            id="times fall",
        ),
        pytest.param(
            {"params": {"keyframes": [{"frame": 5, "x": 1}, {"time": 6, "x": 2}]}},
            "frame in all of them",
            id="mixed",
        ),
        pytest.param(
            {"params": {"keyframes": [{"frame": 0, "x": 1, "width": 30}]}},
            "both width and height",
            id="half a size",
        ),
        pytest.param(
            {
                "params": {
                    "normalised": True,
                    "keyframes": [{"frame": 0, "x": 0}, {"frame": 1, "x": 30}],
                }
            },
            "keyframes.1: with normalised a window lies within 0 to 1",
            id="pixels as shares",
        ),
        pytest.param(
            {
                "params": {
                    "normalised": True,
                    "overrides": [{"start_time": 0, "end_time": 1, "x": 30}],
                }
            },
            "overrides.0: with normalised x and y are between 0 and 1",
            id="x",
        ),
        pytest.param(
            {
                "params": {
                    "normalised": True,
                    "overrides": [{"start_time": 0, "end_time": 1, "y": 30}],
                }
            },
            "overrides.0: with normalised",
            id="y",
        ),
        pytest.param(
            {"params": {"output_width": 1080, "output_height": 1080}},
            "one of them is enough",
            id="another aspect",
        ),
        pytest.param(
            {"params": {"overrides": [{"start_time": 3, "end_time": 1, "x": 1}]}},
            "after start_time",
            id="time",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_a_sentence(
    task: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(**task)


@pytest.mark.parametrize("subject", [True, 1.5, None, [], {}], ids=repr)
def test_a_subject_of_another_type_is_named_once_with_what_is_meant(subject: object) -> None:
    for params in (
        {"subject": subject},
        {"overrides": [{"start_time": 0, "end_time": 1, "subject": subject}]},
    ):
        if subject is None and "overrides" in params:
            continue
        with pytest.raises(TaskError, match="a track id") as caught:
            parse_task({"task": "auto_crop", "input_url": IN, "output_url": OUT, "params": params})
        (error,) = caught.value.details["errors"]
        assert error["path"].removeprefix("params.") in ("subject", "overrides.0.subject")


@pytest.mark.parametrize("subject", [0, 2**53, "", "x" * 65, "a\nb"], ids=repr)
def test_a_subject_out_of_range_is_named_once(subject: object) -> None:
    with pytest.raises(TaskError) as caught:
        parse_task(
            {
                "task": "auto_crop",
                "input_url": IN,
                "output_url": OUT,
                "params": {"subject": subject},
            }
        )
    assert [error["path"] for error in caught.value.details["errors"]] == ["params.subject"]


def test_what_makes_sense_is_accepted() -> None:
    assert parsed(output=False, params={"dry_run": True}).makes_a_file is False
    assert parsed(tracks_url=TRACKS, params={"subject": 12}).tracks_url == TRACKS
    assert parsed(params={"output_width": 1080, "output_height": 1920}).params.output_width == 1080
    assert (
        parsed(params={"target_aspect": "16:9", "output_height": 1080}).params.output_height == 1080
    )


def test_an_answer_can_be_sent_back() -> None:
    windows = [
        CropWindow(frame=n, time=n / 30, x=10.25 * n, y=0, width=608, height=1080) for n in range(3)
    ]
    leader = CropSubject(
        track_id=4, class_name="person", track_ids=[4], reason="alone", confidence=0.9
    )
    segment = CropSegment(
        shot=0, start_frame=0, end_frame=2, start_time=0, end_time=0.0667, subject=leader
    )
    stats = AutoCropStats(input_resolution="1920x1080", window="608x1080")
    result = AutoCropResult(crop_keyframes=windows, subject=leader, segments=[segment], stats=stats)
    text = result.model_dump_json()
    assert json.loads(text)["subject"]["class"] == "person"
    read = AutoCropResult.model_validate_json(text)
    assert read == result
    keys = json.dumps({"keyframes": [window.model_dump() for window in read.crop_keyframes]})
    params = AutoCropParams.model_validate_json(keys)
    assert params.keyframes is not None and params.keyframes[2] == CropKeyframe(
        frame=2, time=2 / 30, x=20.5, y=0.0, width=608.0, height=1080.0
    )
