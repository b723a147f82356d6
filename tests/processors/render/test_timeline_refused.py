"""What of a timeline is refused, by which path, and what is filled in where the caller says
nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from support import clips
from support.timeline_kit import bed, compiled, still

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.timeline import TimelineOutput
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.render.timeline.plan import video_rate, video_size
from gpu_worker_processors.render.timeline.sources import SourceVideo

REFUSED = [
    pytest.param(
        {"clips": [{"input": "b.mp4"}]},
        "clips.0.input",
        "there are: a.mp4, m.wav, s.png",
        id="no such input",
    ),
    pytest.param(
        {"clips": [{"input": "m.wav"}]},
        "clips.0.input",
        "holds no image and no video",
        id="sound as a clip",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4", "start": 2}]},
        "clips.0.start",
        "2.000 seconds",
        id="start behind the end",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4", "end": 2.3}]},
        "clips.0.end",
        "2.000 seconds",
        id="end behind the end",
    ),
    pytest.param({"clips": [{"input": "s.png"}]}, "clips.0.end", "give an end", id="endless still"),
    pytest.param(
        {"clips": [{"input": "a.mp4", "end": 0.01}]}, "clips.0", "half a frame", id="no frame"
    ),
    pytest.param(
        {
            "clips": [{"input": "a.mp4", "end": 0.5}] * 3,
            "transition": {"kind": "dissolve", "seconds": 0.3},
        },
        "clips.1",
        "frames in the video, its transitions need 16",
        id="transitions meet",
    ),
    pytest.param(
        {
            "clips": [
                {
                    "input": "a.mp4",
                    "keyframes": [{"time": 0, "x": 10, "y": 0, "width": 64, "height": 48}],
                }
            ]
        },
        "clips.0.keyframes.0",
        "which is 64x48",
        id="window over the edge",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4"}], "music": {"input": "s.png"}},
        "music.input",
        "holds no audio",
        id="music",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4"}], "music": {"input": "m.wav", "start": 9}},
        "music.start",
        "1.000 seconds",
        id="late music",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4"}], "overlays": [{"text": "x", "x": 0, "y": 0, "start": 5}]},
        "overlays.0",
        "the video ends at 2.000",
        id="overlay after the film",
    ),
    pytest.param(
        {"clips": [{"input": "a.mp4"}], "overlays": [{"input": "m.wav", "x": 0, "y": 0}]},
        "overlays.0.input",
        "no image and no video",
        id="sound as an overlay",
    ),
    pytest.param(
        {"clips": [{"input": "s.png", "end": 9000}], "thumbnails": {"every_seconds": 1}},
        "thumbnails.every_seconds",
        "9000 thumbnails",
        id="too many thumbnails",
    ),
]


@pytest.mark.parametrize(("timeline", "place", "sentence"), REFUSED)
def test_what_does_not_fit_the_inputs_is_refused_by_its_path(
    tmp_path: Path, timeline: dict[str, Any], place: str, sentence: str
) -> None:
    inputs = {
        "a.mp4": clips.make(tmp_path / "a.mp4"),
        "m.wav": bed(tmp_path / "m.wav", 1),
        "s.png": still(tmp_path / "s.png"),
    }
    suffix = ".jpg" if "thumbnails" in timeline else ".mp4"
    with pytest.raises(TaskError) as caught:
        compiled(timeline, inputs, tmp_path / f"film{suffix}")
    assert caught.value.code is ErrorCode.invalid_task
    assert caught.value.message.startswith(f"params.timeline.{place}: ")
    assert sentence in caught.value.message
    assert caught.value.details["errors"][0]["path"] == f"params.timeline.{place}"


def test_a_file_that_is_no_media_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    with pytest.raises(TaskError) as caught:
        compiled(
            {"clips": [{"input": "a.mp4"}]}, {"a.mp4": tmp_path / "list.txt"}, tmp_path / "film.mp4"
        )
    assert caught.value.code is ErrorCode.not_media
    assert caught.value.message.startswith("params.timeline.clips.0.input: ")


def test_an_unwritable_suffix_is_refused(tmp_path: Path) -> None:
    inputs = {"a.mp4": clips.make(tmp_path / "a.mp4")}
    for timeline, name in (({}, "film.jpg"), ({"thumbnails": {}}, "film.mp4")):
        with pytest.raises(TaskError) as caught:
            compiled({"clips": [{"input": "a.mp4"}], **timeline}, inputs, tmp_path / name)
        assert caught.value.code is ErrorCode.unsupported_media


def test_another_encoder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    inputs = {"a.mp4": clips.make(tmp_path / "a.mp4")}
    encoders = {"h264_nvenc", "libx264"}
    rendering = compiled(
        {"clips": [{"input": "a.mp4"}]}, inputs, tmp_path / "film.mp4", encoders=encoders
    )
    assert rendering.video_encoder == "h264_nvenc"
    assert rendering.video_options == {
        "preset": "p5",
        "rc": "vbr",
        "cq": "18",
        "b:v": "0",
        "pix_fmt": "yuv420p",
    }
    other = rendering.with_encoder("libx264", {"preset": "fast", "crf": "20", "pix_fmt": "yuv420p"})
    words = " ".join(other.argv())
    assert "-c:v libx264 -preset fast -crf 20 -pix_fmt yuv420p -colorspace bt709" in words
    assert "nvenc" not in words and "-cq" not in words


PICTURE = SourceVideo(
    0, 720, 576, Fraction(16, 15), Fraction(25), "yuv420p", 8, ColorTags(5, 5, 6, full_range=False)
)


@pytest.mark.parametrize(
    ("output", "size"),
    [
        ({}, (768, 576)),
        ({"width": 384}, (384, 288)),
        ({"height": 288}, (384, 288)),
        ({"width": 100, "height": 100}, (100, 100)),
        ({"proxy": True}, (768, 576)),
    ],
)
def test_size_of_the_film(output: dict[str, Any], size: tuple[int, int]) -> None:
    assert video_size(TimelineOutput.model_validate(output), PICTURE) == size


@pytest.mark.parametrize(
    ("wanted", "rates", "rate"),
    [
        (29.97, ["25"], "30000/1001"),
        (23.98, ["25"], "24000/1001"),
        (30, ["25"], "30"),
        (12.5, ["25"], "25/2"),
        (None, ["25", "30000/1001"], "30000/1001"),
        (None, ["29.83"], "30000/1001"),
        (None, ["120"], "60"),
        (None, [], "25"),
    ],
)
def test_rate_of_the_film(wanted: float | None, rates: list[str], rate: str) -> None:
    assert video_rate(wanted, [Fraction(one) for one in rates]) == Fraction(rate)
