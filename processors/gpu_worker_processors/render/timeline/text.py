"""A text over a video, as a subtitle script in the filter graph: libass shapes letters, turns
right-to-left lines around and finds a font for each letter, none of which drawtext does."""

from __future__ import annotations

import base64
import re

from gpu_worker_client.protocol.timeline import Overlay
from gpu_worker_processors.render.fonts import TextFont
from gpu_worker_processors.render.timeline.graph import filter_text
from gpu_worker_processors.render.timeline.plan import VideoPlan

_SCRIPT = """[Script Info]
ScriptType: v4.00+
PlayResX: {width}
PlayResY: {height}
WrapStyle: 2
YCbCr Matrix: TV.709

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, BorderStyle, Outline, Shadow, Alignment
Style: Text,{font},{size:.3f},&H{alpha:02X}{blue}{green}{red},1,0,0,7

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,{start},{end},Text,,0,0,0,,{{\\pos({x},{y})}}{text}
"""
_CLOCK = 100
"""Ticks of a script's second. The video is given one frame a tick while the text is drawn, so that
no time is rounded."""
_WORD_JOINER = "\N{WORD JOINER}"
"""Draws nothing; behind a backslash it keeps libass from reading an escape."""


def text_filters(
    overlay: Overlay, first: int, end: int, font: TextFont, plan: VideoPlan
) -> list[str]:
    """Filters that draw the text on the frames from `first` up to `end`, letter for letter: nothing
    in it is expanded or evaluated."""
    red, green, blue = (overlay.color[at : at + 2] for at in (1, 3, 5))
    script = _SCRIPT.format(
        width=plan.width,
        height=plan.height,
        font=font.name.replace(",", " "),
        size=overlay.font_size * font.line_height,
        alpha=round((1 - overlay.opacity) * 255),
        red=red,
        green=green,
        blue=blue,
        start=_clock(first),
        end=_clock(end),
        x=overlay.x,
        y=overlay.y,
        text=escaped(overlay.text or ""),
    )
    encoded = base64.b64encode(script.encode()).decode()
    return [
        filter_text("settb", f"1/{_CLOCK}"),
        "setpts=N",
        filter_text("subtitles", filename=f"data:text/plain;base64,{encoded}"),
        filter_text("settb", 1 / plan.fps),
        "setpts=N",
        filter_text("fps", fps=plan.fps),
    ]


def escaped(text: str) -> str:
    """The text of an event that shows these letters. libass drops spaces at the start of a line and
    halves an empty one, hence the hard spaces."""
    text = text.replace("\\", "\\" + _WORD_JOINER).replace("{", "\\{")
    lines = (
        re.sub("^ +|^$", lambda found: "\\h" * max(1, len(found[0])), line)
        for line in text.split("\n")
    )
    return "\\N".join(lines)


def _clock(tick: int) -> str:
    seconds, ticks = divmod(tick, _CLOCK)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ticks:02d}"
