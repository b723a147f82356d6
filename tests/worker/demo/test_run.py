"""The demo end to end, as a stranger runs it: real platform, real worker, real report."""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest
from support import clips

from gpu_worker.demo import auto_crop_panel, cli, detect_scenes_panel, upscale_panel
from gpu_worker.demo.bar import Bar
from gpu_worker.demo.panel import Desk, Panel, Video
from gpu_worker.demo.panels import PANELS
from gpu_worker.demo.report import write_report
from gpu_worker.demo.runner import missing_weights, run_demo, table, warn_if_long
from gpu_worker_client.protocol import Progress
from gpu_worker_processors.base import ProcessorSettings

GPU_WORKER = Path(sys.executable).with_name("gpu-worker")
MADE = {name for panel in PANELS for name in panel.outputs}
"""Files that the demo's tasks make."""


def demo(output: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "WEIGHTS_DIR"}
    argv = [GPU_WORKER, "demo", "--output", output]
    return subprocess.run(argv, capture_output=True, text=True, env={**env, **extra}, timeout=280)


def beside(report: str) -> set[str]:
    """Files that the report refers to."""
    return {
        s
        for s in re.findall(r'(?:src|href)="([^"]{1,80})', report)
        if not s.startswith(("data:", "#"))
    }


@pytest.mark.slow
def test_without_weights_everything_runs_with_what_ships(tmp_path: Path) -> None:
    ran = demo(tmp_path)
    assert ran.returncode == 0, ran.stderr
    rows = {row.split()[0]: row for row in ran.stdout.splitlines()}
    assert "processors ready" in rows["selftest"]
    assert "4 scenes" in rows["detect_scenes"]
    assert "submitted, pulled, imported" in rows["queue"]
    assert "256x144 to 1024x576, 160 frames" in rows["upscale"]
    assert "skipped" not in ran.stdout
    report = (tmp_path / "report.html").read_text()
    assert report.count('alt="scene ') == 4 and "found: exactly those" in report
    assert report.count('alt="network"') == report.count('alt="bicubic"') == upscale_panel.PAIRS + 1
    assert {"upscaled.mp4", "cropped.mp4"} <= beside(report) <= MADE, (
        "the report needs something else beside it"
    )
    assert report.count('aria-label="window at frame') == auto_crop_panel.PAIRS
    with av.open(str(tmp_path / "cropped.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 160


@pytest.mark.slow
def test_with_weights_everything_runs(tmp_path: Path, weights_dir: Path) -> None:
    ran = demo(tmp_path, WEIGHTS_DIR=str(weights_dir))
    assert ran.returncode == 0, ran.stderr
    assert "256x144 to 1024x576, 160 frames" in ran.stdout
    assert re.search(r"imported: [1-9][0-9]* detections in results.sqlite", ran.stdout)
    report = (tmp_path / "report.html").read_text()
    assert report.count('alt="network"') == report.count('alt="bicubic"') == upscale_panel.PAIRS + 1
    assert {"upscaled.mp4", "cropped.mp4"} <= beside(report) <= MADE
    with av.open(str(tmp_path / "upscaled.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (1024, 576)
        assert sum(1 for _ in container.decode(video=0)) == 160


def test_your_own_film_a_failing_task_and_a_skipped_one(tmp_path: Path) -> None:
    path = clips.make(
        tmp_path / "mine.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )
    video = Video(path, 64, 48, 50, 25.0)
    broken = Panel(
        "upscale",
        lambda desk: {"task": "detect_scenes", "input_url": desk.output_url("absent")},
        str,
        lambda *_: "",
        lambda _: 1,
    )
    needy = Panel(
        "selftest",
        lambda _: {"task": "selftest"},
        str,
        lambda *_: "",
        lambda _: 1,
        weights=("ESRGAN_4x",),
    )
    err = io.StringIO()
    panels = [detect_scenes_panel.PANEL, broken, needy]
    rows = run_demo(video, tmp_path, panels, ProcessorSettings(), err)
    assert [row.state for row in rows] == ["completed", "failed", "skipped"]
    assert rows[0].text.startswith("2 scenes") and rows[0].frames_per_second
    assert "X-Amz-Signature" not in rows[1].text + err.getvalue()
    command = (
        rows[2]
        .text.removeprefix("export WEIGHTS_DIR=weights; ")
        .removesuffix(" weights pull ESRGAN_4x")
    )
    assert shutil.which(command), "it can be pasted as it stands"
    write_report(tmp_path / "report.html", rows, panels, video)
    report = (tmp_path / "report.html").read_text()
    assert "Cuts were made" not in report, "nobody knows the cuts of your own video"
    assert [text.split()[0] for text in table(rows)] == [
        "task",
        "detect_scenes",
        "upscale",
        "selftest",
    ]


def test_a_failed_task_is_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpu_worker.demo.panel import Row

    monkeypatch.setattr(
        cli, "run_demo", lambda *_: [Row("selftest", "failed", "internal: why", 1.0)]
    )
    assert cli.run(argparse.Namespace(video=None, output=tmp_path)) == 1
    assert "failed: internal: why" in capsys.readouterr().out


def test_a_film_that_cannot_be_read_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    assert cli.run(argparse.Namespace(video=tmp_path / "notes.mp4", output=tmp_path)) == 2
    assert "not_media" in capsys.readouterr().err


def test_a_long_film_is_announced_and_a_short_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn_if_long(PANELS, Video(Path("a"), 1920, 1080, 24 * 600, 24.0), sys.stdout)
    assert "minutes" in capsys.readouterr().out
    warn_if_long(PANELS, Video(Path("a"), 256, 144, 160, 24.0), sys.stdout)
    assert capsys.readouterr().out == ""


def test_weights_in_place_are_not_missing(weights_dir: Path) -> None:
    assert (
        missing_weights(
            replace(upscale_panel.PANEL, weights=("realesr-animevideov3",)),
            ProcessorSettings(weights_dir),
        )
        is None
    )


def test_the_larger_network_is_taken_where_its_weights_are() -> None:
    video = Video(Path("a"), 256, 144, 160, 24.0)
    for there, model in ((True, "realesr-animevideov3"), (False, "lite")):
        desk = Desk(
            video, lambda: "in", lambda name: name, has_weights=lambda _, there=there: there
        )
        assert upscale_panel.request(desk)["params"]["model"] == model


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_overwrites_itself_on_a_terminal_only() -> None:
    half = Progress(
        seq=1,
        stage="process",
        fraction=0.5,
        done=80,
        total=160,
        unit="frames",
        fps=9.7,
        eta_sec=8.2,
    )
    assert (
        half.text()
        == "process  [###############...............] 80/160 frames, 9.7 frames/s, 8 s left"
    )
    terminal, plain = Terminal(), io.StringIO()
    for out in (terminal, plain):
        with Bar("upscale", out) as bar:
            bar.show(half)
            bar.show(half)
    assert terminal.getvalue().count("\n") == 0 and terminal.getvalue().endswith("\r\x1b[K")
    assert plain.getvalue().count("\n") == 1, (
        "plain lines are rare: one a stage, one in five seconds"
    )
