"""render over the whole way: commands, timelines and refusals through the SDK, the store, the
sandboxed worker and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import psutil
import pytest
from support import clips
from support.e2e_stage import Stage

from gpu_worker_client import JobError, create_nvenc_command
from gpu_worker_client.protocol import (
    DetectScenesTask,
    ErrorCode,
    RenderParams,
    RenderResult,
    RenderTask,
    parse_task,
)
from gpu_worker_processors.sandbox import landlock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
    ),
]

DEADLINE_SECONDS = 120.0


def render(stage: Stage, key: str, *words: str, **inputs: Path) -> RenderResult:
    task = RenderTask(
        inputs={
            f"{name}{path.suffix}": stage.upload(f"in/{name}{path.suffix}", path)
            for name, path in inputs.items()
        },
        output_url=stage.platform.gate.presign("PUT", key),
        params=RenderParams(command_args=list(words)),
    )
    result = stage.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, RenderResult)
    return result


def test_two_inputs_become_one_file(running: Stage, tmp_path: Path) -> None:
    first = clips.make(tmp_path / "a.mp4", clips.Clip(audio_seconds=2))
    second = clips.make(tmp_path / "b.mp4", clips.Clip(frames=25), clips.corners)
    words = (
        "-i",
        "a.mp4",
        "-i",
        "b.mp4",
        "-filter_complex",
        "[0:v][1:v]concat=n=2[v]",
        "-map",
        "[v]",
        "-an",
        "out.mp4",
    )
    result = render(running, "out/two.mp4", *words, a=first, b=second)
    assert (result.stats.frames, result.stats.encoder_used, result.stats.sandbox) == (
        75,
        "libx264",
        "full",
    )
    assert result.output_url is not None and result.output_url.endswith("out/two.mp4")
    with av.open(str(running.platform.gate.path("out/two.mp4"))) as output:
        assert sum(1 for _ in output.decode(video=0)) == 75
    assert running.job_directories() == []


def test_hardware_is_asked_for_by_the_sdks_command(running: Stage, tmp_path: Path) -> None:
    words = create_nvenc_command("a.mp4", "out.mp4", bitrate="1M", codec="hevc_nvenc")
    result = render(
        running,
        "out/nvenc.mp4",
        *words,
        a=clips.make(tmp_path / "a.mp4", clips.Clip(width=256, height=144)),
    )
    assert result.stats.encoder_used in ("hevc_nvenc", "libx265")
    assert (result.stats.fallback_reason is None) == (result.stats.encoder_used == "hevc_nvenc")
    assert result.worker is not None and result.worker.encoder == result.stats.encoder_used


def test_a_timeline(running: Stage, tmp_path: Path) -> None:
    task = parse_task(
        {
            "task": "render",
            "inputs": {
                "a.mp4": running.upload(
                    "in/t1.mp4", clips.make(tmp_path / "t1.mp4", clips.Clip(width=128, height=96))
                ),
                "b.mp4": running.upload(
                    "in/t2.mp4", clips.make(tmp_path / "t2.mp4", clips.Clip(audio_seconds=2))
                ),
            },
            "output_url": running.platform.gate.presign("PUT", "out/film.mp4"),
            "params": {
                "timeline": {
                    "clips": [
                        {"input": "a.mp4", "end": 1.0},
                        {"input": "b.mp4", "start": 0.5, "end": 1.5},
                    ],
                    "transition": {"kind": "dissolve", "seconds": 0.4},
                }
            },
        }
    )
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, RenderResult)
    assert (result.stats.frames, round(result.stats.duration, 1)) == (40, 1.6)


def test_thumbnails_name_the_sheet_as_it_was_delivered(running: Stage, tmp_path: Path) -> None:
    task = parse_task(
        {
            "task": "render",
            "inputs": {"a.mp4": running.upload("in/t.mp4", clips.make(tmp_path / "t.mp4"))},
            "output_url": running.platform.gate.presign("PUT", "out/seek bar.jpg"),
            "params": {
                "timeline": {
                    "clips": [{"input": "a.mp4"}],
                    "thumbnails": {"every_seconds": 1, "width": 32},
                }
            },
        }
    )
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, RenderResult)
    assert (
        result.thumbnails_vtt is not None
        and "\nseek%20bar.jpg#xywh=0,0,32," in result.thumbnails_vtt
    )


def test_a_refusal_names_the_word_and_the_next_job_runs(running: Stage, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "a.mp4")
    with pytest.raises(JobError) as caught:
        render(
            running, "out/none.mp4", "-i", "a.mp4", "-vf", "movie=/etc/passwd", "out.mp4", a=clip
        )
    assert caught.value.code == ErrorCode.ffmpeg_arg_denied.value
    assert caught.value.details["token_index"] == 3
    assert running.platform.gate.read("out/none.mp4") is None
    assert (
        render(
            running, "out/next.mp4", "-i", "a.mp4", "-c", "copy", "out.mp4", a=clip
        ).stats.encoder_used
        == "copy"
    )
    assert running.job_directories() == []


def test_only_render_and_selftest_get_an_engine_that_may_start_programs(
    running: Stage, tmp_path: Path
) -> None:
    clip = clips.make(tmp_path / "a.mp4")
    render(running, "out/x.mp4", "-i", "a.mp4", "-c", "copy", "out.mp4", a=clip)
    for_render = running.engine()
    running.client.run(
        DetectScenesTask(input_url=running.upload("in/a.mp4", clip)), timeout=DEADLINE_SECONDS
    )
    for_scenes = running.engine()
    assert for_render is not None and for_scenes is not None
    assert for_render.pid != for_scenes.pid


def test_a_cancel_takes_ffmpeg_along(running: Stage, tmp_path: Path) -> None:
    task = RenderTask(
        output_url=running.platform.gate.presign("PUT", "out/endless.mp4"),
        params=RenderParams(
            command_args=[
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=1280x720:duration=3000",
                "-c:v",
                "libx264",
                "out.mp4",
            ]
        ),
    )
    job = running.client.submit(task)
    started = next(child for _ in job.events(DEADLINE_SECONDS) for child in ffmpeg_of(running))
    job.cancel()
    assert not psutil.wait_procs([started], timeout=20)[1], "FFmpeg outlived the cancel"
    assert running.platform.gate.read("out/endless.mp4") is None


def ffmpeg_of(stage: Stage) -> Iterator[psutil.Process]:
    """The worker's child that renders, found by what it runs."""
    for child in psutil.Process(stage.worker.pid).children(recursive=True):
        try:
            if "ffmpeg" in Path(child.exe()).name:
                yield child
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
