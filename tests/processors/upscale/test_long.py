"""Upscale on real files and long ones: every frame and timestamp of the real clips, and memory that
does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import clips
from support.paths import TESTS
from support.upscale_kit import Repeat, packets, seen, upscaled

REAL = ["psd_delayed_start.mp4", "psd_issue-134-rotate.mp4", "fire2.mp4", "psd_counter.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_clips_keep_every_frame_and_timestamp(tmp_path: Path, media: Path, name: str) -> None:
    source = media / "scenes" / name
    result = upscaled(source, tmp_path / "out.mp4", Repeat(scale=1), scale=1.0001, crf=40)
    before, after = seen(source), seen(tmp_path / "out.mp4")
    assert result.stats.frames_processed == len(before.pts_seconds)
    start = before.pts_seconds[0]  # an output starts at 0
    assert after.pts_seconds == [seconds - start for seconds in before.pts_seconds]
    assert after.size == (before.size if before.rotation % 180 == 0 else before.size[::-1])
    assert after.rotation == 0
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")


PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from support.upscale_kit import Repeat, upscaled
result = upscaled(Path(sys.argv[1]), Path(sys.argv[2]), Repeat())
# `ru_maxrss` would count what pytest had when it started this process
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
print(json.dumps([result.stats.frames_processed, peak]))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """A process of its own for each length, since a peak never falls."""
    peaks: list[int] = []
    for seconds in (10, 120):
        clip = clips.Clip(width=96, height=64, frames=25 * seconds, audio_seconds=seconds)
        source = clips.make(tmp_path / f"{seconds}.mp4", clip)
        argv = [
            sys.executable,
            "-c",
            PROGRAM,
            source,
            tmp_path / "out.mp4",
            TESTS,
        ]
        frames, peak = json.loads(
            subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        )
        assert frames == 25 * seconds
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0], peaks
