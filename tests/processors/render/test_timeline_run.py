"""Timelines through the processor itself: FFmpeg in its sandbox, the output looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from support.clips import Clip
from support.timeline_kit import Tape, bed, still

from gpu_worker_client.protocol import RenderParams, RenderResult
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.render.processor import PROCESSOR


def run(folder: Path, timeline: dict[str, Any], output: str, output_name: str = "") -> RenderResult:
    """Renders with the inputs `tape1.mp4` (3 s), `silent.mkv` (3 s, no sound), `m.wav` (5 s) and
    `logo.png`."""
    silent = Tape(2, Clip(width=64, height=128, frames=90), ".mkv", audio=None)
    inputs = {
        "tape1.mp4": Tape(1).record(folder),
        "silent.mkv": silent.record(folder),
        "m.wav": bed(folder / "m.wav", 5),
        "logo.png": still(folder / "logo.png", 200, (40, 20), 128),
    }
    params = RenderParams.model_validate({"timeline": timeline}, strict=False)
    work = folder / "work"
    work.mkdir()
    settings = ProcessorSettings(render_sandbox="best_effort")
    job = LocalJob("job", params, work, None, inputs, work / output, output_name, settings=settings)
    PROCESSOR.prepare(job)
    return PROCESSOR.run(job)


EVERYTHING: dict[str, Any] = {
    "clips": [
        {"input": "tape1.mp4", "start": 0.2, "end": 2.2, "title": "One"},
        {"input": "silent.mkv", "end": 2, "speed": 1.25},
        {
            "input": "tape1.mp4",
            "end": 2,
            "volume_db": -3,
            "transition": {"kind": "fade", "seconds": 0.4},
            "keyframes": [
                {"time": 0, "x": 0, "y": 0, "width": 64, "height": 36},
                {"time": 2, "x": 64, "y": 36, "width": 64, "height": 36},
            ],
        },
    ],
    "transition": {"kind": "dissolve", "seconds": 0.4},
    "music": {"input": "m.wav", "gain_db": -6, "duck_db": 9, "fade_out_seconds": 1},
    "loudness_lufs": -20,
    "overlays": [
        {"text": "Ten % [off]: it's", "x": 4, "y": 4, "font_size": 12, "end": 2},
        {"input": "logo.png", "x": 200, "y": 20, "start": 1},
        {"input": "silent.mkv", "x": 10, "y": 40, "width": 32, "opacity": 0.8},
    ],
    "output": {"width": 320, "height": 180, "fps": 25},
}


def test_everything_at_once(tmp_path: Path) -> None:
    result = run(tmp_path, EVERYTHING, "film.mp4")
    assert (result.stats.frames, result.stats.encoder_used) == (50 + 40 + 50 - 10, "libx264")
    assert abs(result.stats.duration - 5.2) < 0.05
    with av.open(str(tmp_path / "work" / "film.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_chapters(tmp_path: Path, name: str) -> None:
    run(tmp_path, {**EVERYTHING, "chapters": True}, name)
    with av.open(str(tmp_path / "work" / name)) as container:
        assert [one["metadata"]["title"] for one in container.chapters()] == [
            "One",
            "Clip 2",
            "Clip 3",
        ]


def test_a_sheet_of_thumbnails(tmp_path: Path) -> None:
    timeline = {"clips": [{"input": "tape1.mp4"}], "thumbnails": {"every_seconds": 1, "width": 64}}
    result = run(tmp_path, timeline, "sheet.jpg", output_name="my%20sheet.jpg")
    assert (
        result.thumbnails_vtt is not None
        and result.thumbnails_vtt.count("\nmy%20sheet.jpg#xywh=") == 3
    )
    with av.open(str(tmp_path / "work" / "sheet.jpg")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (192, 36)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "output", "encoder"),
    [
        ("hevc", "film.mov", "libx265"),
        ("av1", "film.mkv", "libsvtav1"),
        ("prores", "film.mov", "prores_ks"),
    ],
)
def test_codecs(tmp_path: Path, codec: str, output: str, encoder: str) -> None:
    timeline = {**EVERYTHING, "output": {"width": 320, "height": 180, "codec": codec}}
    result = run(tmp_path, timeline, output)
    assert result.stats.encoder_used == encoder
    assert result.stats.frames == 130
