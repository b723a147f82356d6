"""Bars around an image are found to the pixel, and none in dark scenes: on clips of which every
pixel is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import clips
from support.barred import BLACK, SIZE, barred, dark, rectangle

from gpu_worker_processors.media.bars import NO_BARS, BarFinder, Margins
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe

PILLARS, LETTERBOX, WINDOWBOX = (60, 0, 260, 180), (0, 24, 320, 156), (50, 20, 270, 160)
WHOLE = (0, 0, *SIZE)
PHONE = (109, 0, 211, 180)
"""9:16 in 16:9."""
HARD = (("crf", "32"), ("preset", "veryfast"))


def margins(path: Path, starts: list[int]) -> list[Margins]:
    bars = BarFinder(FrameReader(path, probe(path)))
    for _ in bars:
        pass
    return bars.margins(starts)


def made(path: Path, paint: clips.Painter, frames: int = 10, **clip: Any) -> Path:
    """At 5 frames/s, so that every frame is inspected."""
    spec: dict[str, Any] = {"width": SIZE[0], "height": SIZE[1], "rate": Fraction(5), **clip}
    return clips.make(path, clips.Clip(frames=frames, **spec), paint)


BARS: dict[str, tuple[clips.Painter, tuple[int, int, int, int], dict[str, Any]]] = {
    "pillarbox": (barred(PILLARS), PILLARS, {}),
    "letterbox": (barred(LETTERBOX), LETTERBOX, {}),
    "windowbox": (barred(WINDOWBOX), WINDOWBOX, {}),
    "a phone's video": (barred(PHONE), PHONE, {}),
    "8 pixels": (barred((8, 0, 312, 180)), (8, 0, 312, 180), {}),
    "one pixel off the middle": (barred((59, 0, 261, 180)), (59, 0, 261, 180), {}),
    "hardly compressed noise": (barred(PILLARS, noise=3), PILLARS, {}),
    "hard compressed noise": (barred(PILLARS, noise=4), PILLARS, {"options": HARD}),
    "hard compressed": (barred(WINDOWBOX), WINDOWBOX, {"options": (("crf", "40"),)}),
    "blue": (barred(PILLARS, color=(20, 40, 160)), PILLARS, {}),
    "white": (barred(LETTERBOX, color=(255, 255, 255)), LETTERBOX, {}),
    "ten bits": (
        barred(PILLARS),
        PILLARS,
        {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": ()},
    ),
    "fade from black": (barred(PILLARS, light=lambda n: min(1.0, n / 6)), PILLARS, {}),
    "fade of coloured bars": (
        barred(PILLARS, color=(20, 40, 160), light=lambda n: min(1.0, n / 6)),
        PILLARS,
        {},
    ),
}


@pytest.mark.parametrize("name", BARS)
def test_bars_are_found_to_the_pixel(tmp_path: Path, name: str) -> None:
    """And two pixels more are left out, beside each."""
    paint, (x1, y1, x2, y2), clip = BARS[name]
    (found,) = margins(made(tmp_path / "in.mp4", paint, **clip), [0])
    bars = np.array([x1, y1, SIZE[0] - x2, SIZE[1] - y2])
    extra = found - bars
    assert (extra[bars > 0] >= 1).all() and (extra[bars > 0] <= 4).all(), found
    assert (extra[bars == 0] == 0).all(), found


STAGE = [(0.89, 0.5, 0.4, 0.45)]
SCENES: dict[str, tuple[clips.Painter, dict[str, Any]]] = {
    "no bars": (barred(WHOLE), {}),
    "black": (clips.flat(BLACK, every=100), {}),
    "flat": (clips.flat((90, 90, 90), every=100), {}),
    "a light in the night": (dark(lambda _: STAGE), {}),
    "a light in a noisy night": (dark(lambda _: STAGE, noise=3), {"options": HARD}),
    "a lit road, wide and low": (dark(lambda _: [(0.89, 0.5, 0.8, 0.2)]), {}),
    "a column of light": (dark(lambda _: [(0.89, 0.5, 0.15, 0.9)]), {}),
    "two lights": (dark(lambda _: [(0.4, 0.5, 0.2, 0.4), (1.4, 0.5, 0.2, 0.4)]), {}),
    "a walker in the night": (dark(lambda n: [(0.4 + 0.1 * n, 0.6, 0.1, 0.3)]), {}),
    "a vignette": (dark(lambda _: [(0.89, 0.5, 1.1, 1.1)], floor=0), {}),
    "a wall on one side": (barred((80, 0, 320, 180)), {}),
    "a low ceiling": (barred((0, 40, 320, 180)), {}),
    "walls of two widths": (barred((50, 0, 290, 180)), {}),
    "someone who walks": (rectangle(lambda n: (40 + 20 * n, 40, 76 + 20 * n, 140), 60), {}),
    "someone who stands in the middle": (rectangle(lambda _: (142, 40, 178, 140), 60), {}),
    "a title that comes up over bars": (barred(PILLARS, WHOLE, every=8), {}),
}


@pytest.mark.parametrize("name", SCENES)
def test_a_dark_scene_has_no_bars(tmp_path: Path, name: str) -> None:
    paint, clip = SCENES[name]
    assert margins(made(tmp_path / "in.mp4", paint, **clip), [0]) == [NO_BARS]


def test_each_shot_has_bars_of_its_own(tmp_path: Path) -> None:
    source = made(tmp_path / "in.mp4", barred(PILLARS, WHOLE, LETTERBOX), frames=30)
    pillars, none, letterbox = margins(source, [0, 10, 20])
    assert min(pillars[0], pillars[2]) >= 60 and none == NO_BARS and min(letterbox[1::2]) >= 24
    assert (pillars[1], pillars[3], letterbox[0], letterbox[2]) == (0, 0, 0, 0)
    assert margins(source, [0]) == [NO_BARS], "of one shot, what all of its frames leave"


def test_a_night_between_barred_shots_has_their_bars(tmp_path: Path) -> None:
    paint = barred(PILLARS, light=lambda n: 1.0 if n // 10 != 1 else 0.02)
    first, night, last = margins(made(tmp_path / "in.mp4", paint, frames=30), [0, 10, 20])
    assert first == night == last != NO_BARS


def test_a_turned_video_has_its_bars_where_they_are_shown(tmp_path: Path) -> None:
    source = made(tmp_path / "in.mp4", barred(PILLARS), rotation=-90)
    ((left, top, right, bottom),) = margins(source, [0])
    assert (left, right) == (0, 0) and 60 < min(top, bottom) <= max(top, bottom) <= 64


def test_a_shot_too_short_to_inspect_has_the_bars_of_the_shot_before(tmp_path: Path) -> None:
    source = made(tmp_path / "in.mp4", barred(PILLARS, every=50), frames=50, rate=Fraction(50))
    first, short, rest = margins(source, [0, 22, 25])
    assert first == short == rest != NO_BARS
