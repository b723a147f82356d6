"""Films made from tables of clips: every frame and every tone where the table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.clips import Clip
from support.timeline_kit import (
    RATE,
    Shot,
    Tape,
    bits,
    cells,
    lumas,
    render,
    samples,
    shots_of,
    tone_errors,
)

NTSC = Fraction(30000, 1001)
_A, _B, _C = (Tape(n) for n in (1, 2, 3))
_TONE_TOLERANCE = 0.005
"""Seconds. Slow motion stretches a tone and what is uncertain about it alike, so there it is so
much of the source's time."""


def tape(
    number: int,
    *,
    suffix: str = ".mp4",
    audio: str | None = ".m4a",
    audio_rate: int = 48_000,
    **clip: Any,
) -> Tape:
    return Tape(
        number,
        Clip(**{"width": 128, "height": 72, "frames": 75, **clip}),
        suffix,
        audio,
        audio_rate,
    )


@dataclass(frozen=True)
class Table:
    tapes: tuple[Tape, ...]
    clips: tuple[dict[str, Any], ...]
    fps: Fraction = Fraction(25)
    """Of the film."""
    rest: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the timeline."""
    shapes: tuple[Fraction, ...] = ()
    """Width over height of each clip as it is shown; by default the film's own."""


_LONG_GOP = (("crf", "20"), ("preset", "ultrafast"), ("g", "250"))
TABLES = {
    "cuts": Table(
        (_A, _B),
        (
            {"input": "tape1.mp4", "start": 0.4, "end": 1.6},
            {"input": "tape2.mp4", "start": 1.0, "end": 2.0},
            {"input": "tape1.mp4", "start": 0.0, "end": 0.52},
        ),
    ),
    "speeds": Table(
        (_A, _B, _C),
        (
            {"input": "tape1.mp4", "speed": 2},
            {"input": "tape2.mp4", "start": 0.2, "end": 2.2, "speed": 0.5},
            {"input": "tape3.mp4", "start": 0.4, "end": 2.9, "speed": 1.25},
        ),
    ),
    "slow and fast": Table(
        (tape(1, frames=50), tape(2, frames=200)),
        (
            {"input": "tape1.mp4", "start": 0.04, "end": 1.64, "speed": 0.25},
            {"input": "tape2.mp4", "speed": 4},
        ),
    ),
    "sizes": Table(
        (_A, tape(2, width=96, height=96), tape(3, width=64, height=128)),
        (
            {"input": "tape1.mp4", "end": 1},
            {"input": "tape2.mp4", "end": 1},
            {"input": "tape3.mp4", "end": 1},
        ),
        shapes=(Fraction(16, 9), Fraction(1), Fraction(1, 2)),
    ),
    "rates": Table(
        (
            tape(1, rate=Fraction(60), frames=180, audio_rate=44_100),
            tape(2, rate=Fraction(24000, 1001)),
            tape(3, rate=NTSC),
        ),
        (
            {"input": "tape1.mp4", "end": 1.5},
            {"input": "tape2.mp4", "start": 0.5, "end": 1.7},
            {"input": "tape3.mp4", "end": 2},
        ),
        fps=NTSC,
        rest={"output": {"fps": 29.97}},
    ),
    "turned, with long pixels": Table(
        (tape(1, rotation=-90), tape(2, rotation=180), tape(3, width=96, sar=Fraction(4, 3))),
        (
            {"input": "tape2.mp4", "end": 1},
            {"input": "tape1.mp4", "end": 1},
            {"input": "tape3.mp4", "end": 1},
        ),
        shapes=(Fraction(16, 9), Fraction(9, 16), Fraction(16, 9)),
    ),
    "no sound in one": Table(
        (_A, tape(2, audio=None), _C),
        (
            {"input": "tape1.mp4", "end": 1.2},
            {"input": "tape2.mp4", "end": 1},
            {"input": "tape3.mp4", "start": 0.6, "end": 2},
        ),
    ),
    "dissolves": Table(
        (_A, _B, _C),
        (
            {"input": "tape1.mp4"},
            {"input": "tape2.mp4", "start": 0.4},
            {"input": "tape3.mp4", "end": 2},
        ),
        rest={"transition": {"kind": "dissolve", "seconds": 0.6}},
    ),
    "fades": Table(
        (_A, _B),
        ({"input": "tape1.mp4", "end": 2}, {"input": "tape2.mp4", "start": 0.4}),
        rest={"transition": {"kind": "fade", "seconds": 0.72}},
    ),
    "one transition of each kind": Table(
        (_A, _B, _C),
        (
            {"input": "tape1.mp4", "end": 2},
            {"input": "tape2.mp4", "transition": {"kind": "dissolve", "seconds": 0.4}},
            {"input": "tape3.mp4", "end": 2, "transition": {"kind": "cut"}},
            {
                "input": "tape1.mp4",
                "start": 1,
                "speed": 2,
                "transition": {"kind": "dissolve", "seconds": 0.2},
            },
        ),
        fps=Fraction(30),
        rest={"transition": {"kind": "fade", "seconds": 0.4}, "output": {"fps": 30}},
    ),
    "variable rate": Table(
        (
            tape(
                1,
                frames=40,
                pts=[0, *np.cumsum(np.tile([3000, 4500, 9000, 1500], 10))[:39].tolist()],
                rate=Fraction(20),
            ),
            _B,
        ),
        ({"input": "tape1.mp4", "start": 0.3, "end": 1.5}, {"input": "tape2.mp4", "end": 1}),
        fps=Fraction(60),
        rest={"output": {"fps": 60}},
    ),
    "late in long files": Table(
        (
            tape(1, frames=600, options=_LONG_GOP),
            tape(2, frames=600, options=_LONG_GOP, suffix=".mkv", audio=".wav"),
            tape(3, frames=300, options=_LONG_GOP, suffix=".ts"),
        ),
        (
            {"input": "tape1.mp4", "start": 19.88, "end": 21},
            {"input": "tape2.mkv", "start": 12.52, "end": 14},
            {"input": "tape3.ts", "start": 7.4, "end": 8.6},
            {"input": "tape1.mp4", "start": 3.04, "end": 4},
        ),
    ),
    "picture behind the sound": Table(
        (tape(1, start_pts=5), tape(2, start_pts=8, suffix=".mkv", audio=".wav")),
        ({"input": "tape1.mp4", "start": 0.2, "end": 2}, {"input": "tape2.mkv", "end": 2}),
    ),
    "60 to 30": Table(
        (tape(1, frames=120, rate=Fraction(60)), _B),
        ({"input": "tape1.mp4", "start": 0.1, "end": 1.9}, {"input": "tape2.mp4", "end": 1}),
        fps=Fraction(30),
        rest={"output": {"fps": 30}},
    ),
    "odd sizes": Table(
        (
            tape(1, width=129, height=73, pix_fmt="yuv444p", suffix=".mkv"),
            tape(2, pix_fmt="yuv420p10le", suffix=".mkv"),
        ),
        ({"input": "tape1.mkv", "end": 1}, {"input": "tape2.mkv", "end": 1}),
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ("cuts", "dissolves") else pytest.mark.slow) for n in TABLES],
)
def test_every_frame_and_tone_is_where_the_table_says(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    tapes = {one.name: one for one in table.tapes}
    timeline = {"clips": list(table.clips), **table.rest}
    timeline["output"] = {"crf": 10, **timeline.get("output", {})}
    rendering = render(
        timeline, {n: one.record(tmp_path) for n, one in tapes.items()}, tmp_path / "film.mp4"
    )
    shots = shots_of(timeline, tapes, table.fps)
    pictures = list(lumas(tmp_path / "film.mp4"))
    assert len(pictures) == shots[-1].first + shots[-1].frames == rendering.expected.frames
    shapes = table.shapes or (Fraction(16, 9),) * len(shots)
    for frame, luma in enumerate(pictures):
        seen = [
            (shot, shape, shot.weight(frame))
            for shot, shape in zip(shots, shapes, strict=True)
            if shot.weight(frame)
        ]
        if len(seen) == 1 and seen[0][2] == 1:
            shot, shape, _ = seen[0]
            allowed = [bits(shot.tape.number, n) for n in shot.shown(frame, table.fps)]
            assert any(np.abs(cells(luma, shape) - one).max() < 0.25 for one in allowed), frame
        else:  # a transition: the blend of what both show
            mixed = sum(
                weight * bits(shot.tape.number, shot.shown(frame, table.fps)[-1])
                for shot, _, weight in seen
            )
            assert np.abs(cells(luma, shapes[0]) - mixed).max() < 0.2, frame
    check_tones(samples(tmp_path / "film.mp4"), shots, table.fps)


@pytest.mark.slow
def test_half_the_rate_shows_every_second_frame(tmp_path: Path) -> None:
    """Each other frame lies exactly between two of the film: whichever is taken, it must always be
    the same one."""
    source = tape(1, frames=120, rate=Fraction(60), audio=None)
    timeline = {"clips": [{"input": "tape1.mp4", "start": 0.1}], "output": {"fps": 30, "crf": 10}}
    render(timeline, {"tape1.mp4": source.record(tmp_path)}, tmp_path / "film.mp4")
    codes = [
        cells(luma, Fraction(16, 9)).round() @ 2.0 ** np.arange(15, -1, -1)
        for luma in lumas(tmp_path / "film.mp4")
    ]
    assert np.diff(codes).tolist() == [2.0] * 56
    assert codes[0] == 1 << 12 | 6


def check_tones(sound: NDArray[np.float64], shots: Sequence[Shot], fps: Fraction) -> None:
    expected: list[float] = []
    for shot in shots:
        for tone in shot.tape.tones:
            time = shot.first / fps + (Fraction(float(tone)) - shot.start) / shot.speed
            edges = [int((time + margin) * fps) for margin in (Fraction(-6, 100), Fraction(6, 100))]
            if all(shot.weight(edge) == 1 for edge in edges):
                expected.append(float(time))
    assert len(expected) >= 3
    late = tone_errors(sound, expected)
    assert (np.abs(late) < _TONE_TOLERANCE).all(), np.round(late * 1000, 1)
    frames = shots[-1].first + shots[-1].frames
    assert abs(len(sound) / RATE - float(frames / fps)) < 0.025
