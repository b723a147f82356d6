"""Upscale on real files: every frame and timestamp of them. (That memory does not grow with the
length is held by e2e/test_memory.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest
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
