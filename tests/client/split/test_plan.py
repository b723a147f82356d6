"""What a plan of a split promises, and what it refuses before anything is paid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from support import clips
from support.scripted_server import ScriptedServer
from support.split_kit import CLIPS, LITE, ffmpeg

from gpu_worker_client import Client, ConfigError, Storage
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.split import SplitError, plan_split
from gpu_worker_client.split.plan import choose_cuts, longest_seconds
from gpu_worker_client.split.source import read_source


def without_key_frame(source: Path, path: Path) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        target = write.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            packet.stream = target
            if index:
                write.mux(packet)
    return path


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("text", "unreadable"),
        ("sound", "no_video"),
        ("edit-list", "edit_list"),
        ("no-key-frame", "no_keyframe"),
    ],
)
def test_what_cannot_be_cut_exactly_is_refused(case: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"{case}.mp4"
    whole = clips.make(tmp_path / "whole.mp4", CLIPS["b-frames.mp4"])
    if case == "text":
        path.write_text("no video")
    if case == "sound":
        with av.open(str(whole)) as read, av.open(str(path), "w") as write:
            target = write.add_stream_from_template(read.streams.audio[0])
            for packet in read.demux(audio=0):
                packet.stream = target
                write.mux(packet)
    if case == "edit-list":
        ffmpeg(
            "-ss", "0.3", "-i", whole, "-c", "copy", path
        )  # hides what lies between the key frame before and that time
    if case == "no-key-frame":
        path = without_key_frame(whole, tmp_path / "headless.mkv")
    with pytest.raises(SplitError) as caught:
        plan_split(path)
    assert caught.value.reason == reason
    assert str(tmp_path) not in str(caught.value), (
        "a message is read by others than the owner of the folders"
    )


def test_a_file_that_is_not_there_is_no_damaged_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan_split(tmp_path / "absent.mp4")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        pytest.param("absent.mp4", "out.mp4", id="no input"),
        pytest.param("in.mp4", "absent/out.mp4", id="no folder for the output"),
        pytest.param("in.mp4", "out.webm", id="no container of the task"),
        pytest.param("in.mp4", "in.mp4", id="the output is the input"),
    ],
)
def test_what_an_unsplit_call_refuses_a_split_one_refuses_alike(
    source: str, output: str, server: ScriptedServer, tmp_path: Path
) -> None:
    clips.make(tmp_path / "in.mp4", clips.Clip(frames=5))
    bucket = Storage(server.url.removesuffix("/v2"), "bucket", "key", "secret")
    with Client("ep1", "rpa_key", server.url, storage=bucket) as client:
        with pytest.raises((FileNotFoundError, ConfigError)) as whole:
            client.upscale(tmp_path / source, tmp_path / output, model="lite")
        with pytest.raises(whole.type) as split:
            client.upscale(tmp_path / source, tmp_path / output, split=True, model="lite")
    assert str(split.value) == str(whole.value)
    assert server.seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("allowed", "frames", "segments", "cuts"),
    [
        (range(0, 100, 10), 100, 4, [0, 20, 50, 70]),
        (range(0, 100, 10), 100, 1, [0]),
        ([0], 100, 4, [0]),
        ([0, 90], 100, 4, [0, 90]),
        (range(100), 100, 3, [0, 33, 67]),
    ],
)
def test_cuts_lie_near_equal_shares(
    allowed: Sequence[int], frames: int, segments: int, cuts: list[int]
) -> None:
    assert choose_cuts(allowed, frames, segments) == cuts


def test_a_plan_tells_what_it_will_do(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    plan = plan_split(source, LITE, segments=3, gpu="RTX 4090")
    firsts = [segment.first_frame for segment in plan.segments]
    assert firsts[0] == 0
    assert [segment.end_frame for segment in plan.segments] == [*firsts[1:], 60]
    assert sum(segment.duration_seconds for segment in plan.segments) == pytest.approx(2.4)
    assert plan.estimate.usd is not None and printed_usd(str(plan)) == pytest.approx(
        plan.estimate.usd, rel=1e-3
    )
    assert plan.longest_seconds == pytest.approx(
        plan.estimate.seconds * max(s.frames for s in plan.segments) / 60
    )
    assert "h264 spends its bits by what came before" in str(plan)
    prores = plan_split(source, UpscaleParams(model="lite", codec="prores"), segments=3)
    assert prores.warnings == ()
    faces = plan_split(source, UpscaleParams(codec="prores", face_enhance=True), segments=3)
    assert "a face may change at a cut" in faces.warnings[0]


def printed_usd(text: str) -> float:
    """The first price in a text."""
    found = re.search(r"\$([0-9.]+)", text)
    assert found is not None, text
    return float(found[1])


def test_a_budget_needs_a_price_and_holds(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    unpriced = plan_split(source, LITE)
    unpriced.require_budget(None)
    with pytest.raises(SplitError, match="needs a price") as caught:
        unpriced.require_budget(1.0)
    assert caught.value.reason == "budget"
    priced = plan_split(source, LITE, gpu="RTX 4090")
    usd = priced.estimate.usd
    assert usd is not None
    priced.require_budget(usd)
    for budget in (usd / 2, usd * (1 - 1e-9), 1e-9, 0):
        with pytest.raises(SplitError, match="is above max_usd") as caught:
            priced.require_budget(budget)
        estimated, _, limit = str(caught.value).partition("max_usd")
        assert printed_usd(limit) == budget < printed_usd(estimated), (
            "two numbers of which one is visibly above the other"
        )
        assert printed_usd(estimated) == pytest.approx(usd, rel=1e-3)
    with pytest.raises(SplitError, match="NaN"):
        priced.require_budget(math.nan)


def test_large_outputs_make_short_segments(tmp_path: Path) -> None:
    source = read_source(clips.make(tmp_path / "in.mp4", clips.Clip(frames=5)))
    hd: Any = type(source)(**{**vars(source), "width": 960, "height": 540})
    assert longest_seconds(hd, UpscaleParams(codec="h264")) == pytest.approx(
        4.5 * 2**30 * 8 / (3840 * 2160 * 25 * 0.5)
    )
    assert longest_seconds(source, UpscaleParams(codec="h264")) == 600
    prores = longest_seconds(hd, UpscaleParams(codec="prores"))
    assert prores * 3840 * 2160 * 25 * 3.6 / 8 == pytest.approx(4.5 * 2**30)


def test_an_interlaced_source_is_split_with_a_word(tmp_path: Path) -> None:
    options = (("x264-params", "tff=1:keyint=12"),)
    plan = plan_split(
        clips.make(tmp_path / "in.mp4", clips.Clip(frames=60, height=64, options=options)),
        LITE,
        segments=3,
    )
    assert len(plan.segments) == 3
    assert "the deinterlacer looks at a frame's neighbours" in plan.warnings[0]


@pytest.mark.parametrize("segments", [0, 10_001])
def test_the_number_of_segments_has_bounds(segments: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="segments must be 1 to"):
        plan_split(tmp_path / "any.mp4", segments=segments)
