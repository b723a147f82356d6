"""What an edit list may say, and what is refused in a sentence that names the place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gpu_worker_client.protocol.render import RenderTask
from gpu_worker_client.protocol.timeline import MAX_CLIPS, MAX_KEYFRAMES, MAX_OVERLAYS, Timeline

CLIP: dict[str, Any] = {"input": "a.mp4"}
TEXT: dict[str, Any] = {"text": "x", "x": 0, "y": 0}
LOGO: dict[str, Any] = {"input": "a.png", "x": 0, "y": 0}
KEY: dict[str, Any] = {"time": 0, "x": 0, "y": 0, "width": 64, "height": 36}


def parsed(**fields: Any) -> Timeline:
    return Timeline.model_validate_json(json.dumps({"clips": [CLIP], **fields}))


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(**fields)
    return str(caught.value)


def test_the_documented_defaults() -> None:
    timeline = parsed(clips=[CLIP, CLIP])
    clip = timeline.clips[0]
    assert (clip.start, clip.end, clip.speed, clip.volume_db, clip.keyframes) == (
        0,
        None,
        1,
        0,
        None,
    )
    assert [join.kind for join in timeline.joins] == ["cut"]
    assert (timeline.music, timeline.loudness_lufs, timeline.overlays, timeline.chapters) == (
        None,
        None,
        [],
        False,
    )
    output = timeline.output
    assert (output.width, output.height, output.fps, output.codec, output.crf, output.fit) == (
        None,
        None,
        None,
        "h264",
        None,
        "contain",
    )


def test_a_clip_may_have_a_transition_of_its_own() -> None:
    second = {**CLIP, "transition": {"kind": "dissolve", "seconds": 1}}
    timeline = parsed(clips=[CLIP, second, CLIP], transition={"kind": "fade"})
    assert [(join.kind, join.seconds) for join in timeline.joins] == [
        ("dissolve", 1),
        ("fade", 0.5),
    ]


def test_the_names_of_inputs_are_known_with_their_first_place() -> None:
    timeline = parsed(
        clips=[CLIP, {"input": "b.mp4"}, CLIP],
        music={"input": "m.mp3"},
        overlays=[
            {"text": "x", "x": 0, "y": 0},
            {"input": "b.mp4", "x": 0, "y": 0},
            {"input": "logo.png", "x": 0, "y": 0},
        ],
    )
    assert timeline.input_names == {
        "a.mp4": "clips.0.input",
        "b.mp4": "clips.1.input",
        "m.mp3": "music.input",
        "logo.png": "overlays.2.input",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"clips": []},
        {"clips": [CLIP] * (MAX_CLIPS + 1)},
        {"clips": [{**CLIP, "input": "/etc/passwd"}]},
        {"clips": [{**CLIP, "input": "../a.mp4"}]},
        {"clips": [{**CLIP, "input": "-i"}]},
        {"clips": [{**CLIP, "input": "https:x"}]},
        {"clips": [{**CLIP, "start": -0.1}]},
        {"clips": [{**CLIP, "start": "0"}]},
        {"clips": [{**CLIP, "speed": 0}]},
        {"clips": [{**CLIP, "speed": 21}]},
        {"clips": [{**CLIP, "volume_db": 25}]},
        {"clips": [{**CLIP, "keyframes": []}]},
        {"clips": [{**CLIP, "keyframes": [{**KEY, "time": n} for n in range(MAX_KEYFRAMES + 1)]}]},
        {"clips": [{**CLIP, "keyframes": [{**KEY, "width": 0}]}]},
        {"clips": [{**CLIP, "gain": 1}]},
        {"transition": {"kind": "wipe"}},
        {"transition": {"kind": "fade", "seconds": 0}},
        {"transition": {"kind": "fade", "seconds": 31}},
        {"music": {"input": "m.mp3", "duck_db": 0}},
        {"music": {"gain_db": 0}},
        {"loudness_lufs": 0},
        {"loudness_lufs": -60},
        {"overlays": [TEXT] * (MAX_OVERLAYS + 1)},
        {"overlays": [{"text": "x", "x": 0.5, "y": 0}]},
        {"overlays": [{"text": "", "x": 0, "y": 0}]},
        {"overlays": [{"text": "a\x00b", "x": 0, "y": 0}]},
        {"overlays": [{**TEXT, "opacity": 1.1}]},
        {"output": {"width": 641}},
        {"output": {"width": 8}},
        {"output": {"height": 16386}},
        {"output": {"fps": 0}},
        {"output": {"fps": 241}},
        {"output": {"codec": "vp9"}},
        {"output": {"crf": 52}},
        {"thumbnails": {"every_seconds": 0}},
        {"thumbnails": {"width": 161}},
        {"thumbnails": {"columns": 0}},
    ],
    ids=lambda fields: json.dumps(fields)[:80],
)
def test_what_is_out_of_range_is_refused(fields: dict[str, Any]) -> None:
    refusal(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        pytest.param(
            {"clips": [{**CLIP, "start": 2, "end": 2}]}, "end must be after start", id="no time"
        ),
        pytest.param(
            {"clips": [{**CLIP, "keyframes": [KEY, KEY]}]}, "in order of time", id="one time twice"
        ),
        pytest.param(
            {"clips": [{**CLIP, "transition": {}}]},
            "nothing comes before the first clip",
            id="first transition",
        ),
        pytest.param(
            {"overlays": [{"x": 0, "y": 0}]}, "exactly one of input and text", id="empty overlay"
        ),
        pytest.param(
            {"overlays": [{**LOGO, "text": "x"}]}, "exactly one of input and text", id="both"
        ),
        pytest.param(
            {"overlays": [{**TEXT, "start": 3, "end": 1}]}, "end must be after", id="overlay time"
        ),
        pytest.param(
            {"overlays": [{**TEXT, "width": 64}]}, "leave out width", id="width of a text"
        ),
        pytest.param({"overlays": [{**LOGO, "color": "#ff0000"}]}, "leave out color", id="colour"),
        pytest.param({"overlays": [{**TEXT, "color": "red"}]}, '"#rrggbb"', id="named colour"),
        pytest.param(
            {"output": {"proxy": True, "width": 640}},
            "leave out width and height",
            id="size of a proxy",
        ),
        pytest.param(
            {"output": {"proxy": True, "codec": "hevc"}}, "proxy is h264", id="codec of a proxy"
        ),
        pytest.param(
            {"thumbnails": {}, "music": {"input": "m.mp3"}},
            "leave out music",
            id="sound of a sheet",
        ),
        pytest.param(
            {"thumbnails": {}, "chapters": True}, "leave out chapters", id="chapters of a sheet"
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused_in_a_sentence(
    fields: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(**fields)


def test_a_refusal_in_a_task_names_the_path() -> None:
    task = {
        "inputs": {"a.mp4": "https://account.r2.example/bucket/a.mp4"},
        "output_url": "https://account.r2.example/bucket/out.mp4",
        "params": {"timeline": {"clips": [CLIP, {**CLIP, "spede": 2}]}},
    }
    with pytest.raises(ValidationError) as caught:
        RenderTask.model_validate_json(json.dumps(task))
    assert [error["loc"] for error in caught.value.errors()] == [
        ("params", "timeline", "clips", 1, "spede")
    ]
