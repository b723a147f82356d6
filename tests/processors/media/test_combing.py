"""Interlace that no flag tells of is seen, by the pixels of the written file against plain FFmpeg's
bwdif; what only looks like it is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.media_job import MediaWorker, ffmpeg, seen
from support.upscale_kit import Repeat, job

from gpu_worker_processors.upscale.upscale import upscale_file

SIZE = WIDTH, HEIGHT = 160, 128
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-pix_fmt", "yuv420p")
PAN = (
    f"gradients=s=640x{HEIGHT}:r=50:d=1:seed=7:n=8:speed=0.00001,"
    f"drawgrid=w=24:h=32:t=6:c=white,crop={WIDTH}:{HEIGHT}:x='4*n'"
)
"""A pan by 4 pixels from field to field."""


def made(path: Path, source: str, filters: str) -> Path:
    ffmpeg("-f", "lavfi", "-i", source, "-vf", filters, *X264, path)
    return path


def upscaled(source: Path, output: Path) -> list[str]:
    """The warnings, code and message."""
    task = job(source, output, scale=2, crf=4)
    upscale_file(task, Repeat(scale=2))
    return [f"{warning.code}: {warning.message}" for warning in task.warnings]


def difference(one: Path, other: Path) -> np.ndarray:
    """Mean of each frame, of 255."""
    frames = [seen(path, *SIZE).astype(int) for path in (one, other)]
    assert frames[0].shape == frames[1].shape
    return np.abs(frames[0] - frames[1]).mean(axis=1)


@pytest.mark.parametrize("parity", ["tff", "bff"])
def test_fields_without_a_flag_are_joined(parity: str, tmp_path: Path) -> None:
    interlaced = f"interlace=lowpass=0:scan={parity},setfield=prog"
    source = made(tmp_path / "in.mp4", PAN, interlaced)
    warnings = upscaled(source, tmp_path / "out.mp4")
    assert len(warnings) == 1
    assert warnings[0].startswith("deinterlaced: 25 frames are interlaced and not marked as such")
    assert "(frame index 0-24)" in warnings[0]
    true = tmp_path / "true.mkv"
    ffmpeg("-i", source, "-vf", f"bwdif=send_frame:{parity}:all", "-c:v", "ffv1", true)
    assert difference(true, source).max() > 12
    assert difference(true, tmp_path / "out.mp4").max() < 4


def test_only_the_frames_that_are_combed_change(tmp_path: Path) -> None:
    """Of each five frames of a hard telecine, two."""
    source = made(tmp_path / "in.mp4", PAN, "fps=24000/1001,telecine=pattern=23,setfield=prog")
    warnings = upscaled(source, tmp_path / "out.mp4")
    changed = np.flatnonzero(difference(source, tmp_path / "out.mp4") > 4)
    assert set(np.diff(changed)) == {1, 4}
    assert len(warnings) == 1
    assert f"{len(changed)} frames are interlaced" in warnings[0]
    assert f"(frame index {changed[0]}-{changed[-1]})" in warnings[0]


@pytest.mark.slow
def test_every_task_that_writes_a_video_joins_them(worker: MediaWorker, tmp_path: Path) -> None:
    """In the sandbox, at the product's defaults."""
    source = made(tmp_path / "in.mp4", PAN, "interlace=lowpass=0,setfield=prog")
    keyframes = [{"frame": 0, "x": 0.0}]
    answers = [
        worker.upscaled(source, tmp_path / "large.mp4"),
        worker.run("track", source, tmp_path / "drawn.mp4", model="hog"),
        worker.run("auto_crop", source, tmp_path / "crop.mp4", keyframes=keyframes),
    ]
    for answer in answers:
        assert answer.get("status") == "completed", answer
        assert [warning["code"] for warning in answer["warnings"]] == ["deinterlaced"]


CANVAS = f"nullsrc=s={WIDTH}x{HEIGHT}:r=25:d=1,format=gray,geq=lum="
FINE = {
    "a pan": f"{PAN},fps=25",
    "stripes that stand": CANVAS + "'255*mod(Y,2)'",
    "stripes that move by a line": CANVAS + "'255*mod(Y+N,2)'",
    "stripes that move by a part of a line": CANVAS + "'128+100*cos(2*PI*(Y-0.7*N)/2.3)'",
    "stripes that come and go": CANVAS + "'128+100*cos(PI*Y)*sin((X-3*N)/20)'",
    "blinds that move sideways": CANVAS + "'if(between(X-3*N,20,90),255*mod(Y,2),128)'",
    "checks": CANVAS + "'255*mod(X+Y+N,2)'",
    "noise": f"color=gray:s={WIDTH}x{HEIGHT}:r=25:d=1,noise=alls=60:allf=t",
    "a cut between stripes": CANVAS + "'if(lt(N,12),255*mod(Y,2),255*mod(Y+1,2)*lt(X,80))'",
}


@pytest.mark.parametrize("case", FINE)
def test_fine_detail_is_no_combing(case: str, tmp_path: Path) -> None:
    source = made(tmp_path / "in.mp4", FINE[case], "null")
    assert upscaled(source, tmp_path / "out.mp4") == []
