"""Random commands for the parser of render: words of the tables with values that mostly fit, and
what attackers put between."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import pytest

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import formats, parse_command
from gpu_worker_processors.render.command.filters import FILTERS, FilterSpec
from gpu_worker_processors.render.command.options import OPTIONS, Option, Scope

NAMES = ("in.mp4", "logo.png", "subs.srt", "look.cube", "font.ttf")
"""Inputs of the task."""


def refused(args: list[str], at: int, reason: str = "", names: Sequence[str] = NAMES) -> TaskError:
    """The error of a command that is refused for the word at `at`."""
    with pytest.raises(TaskError) as caught:
        parse_command(args, names)
    error = caught.value
    assert (error.code, error.details["token_index"]) == (ErrorCode.ffmpeg_arg_denied, at), (
        error.message
    )
    assert reason in error.message
    assert f"command_args[{at}]" in error.message
    return error


LABELS = ("0:v", "1:a", "0", "out", "v0", "a.b", "x-1")

VALUES: dict[str, tuple[str, ...]] = {
    "int": ("0", "1", "2", "25", "-1", "1k", "999999999", "1e3"),
    "num": ("0.5", "1", "-3dB", "5M", ".25", "2e9", "-1"),
    "bool": ("0", "1", "true", "no"),
    "expr": (
        "iw/2",
        "(W-w)/2",
        "if(gt(t,1),2,3)",
        "between(t, 1, 2)",
        "while(1,1)",
        "st(0,1);ld(0)",
        "-2",
        "n*2",
        "main_w-10",
    ),
    "side": ("1280", "-2", "iw/2", "hd720", "640x480", "32000", "trunc(iw/2)*2"),
    "size": ("640x480", "hd720", "99999x1", "1x1"),
    "cells": ("3x3", "500x500", "1x1"),
    "rate": ("25", "30000/1001", "ntsc", "1000000", "0"),
    "time": ("1", "00:00:01.5", "500ms", "-2", "1e9", "999999999"),
    "color": ("red", "#ff8800", "0x112233@0.5", "black@.3", "file"),
    "ratio": ("16/9", "4:3", "1.778"),
    "name": ("stereo", "5.1(side)", "yuv420p", "fltp", "a/b"),
    "names": ("yuv420p|yuv444p", "44100", "s16|fltp", "../x"),
    "word": ("Sans", "ypr", "UTF-8", "/etc"),
    "words": ("FL|FR", "0_0|w0_0", "red|lime", "all", "0.0-FL|1.0-FR"),
    "numbers": ("0/0 0.5/0.6 1/1", "500|500", "1 1", "-70/-70|0/0", "file"),
    "digits": ("23", "2222"),
    "mix": ("stereo|c0=FL+0.5*FC|c1<FR", "mono|c0=.5*c0+.5*c1"),
    "bands": ("c0 f=200 w=100 g=-10|c1 f=300 w=10 g=3 t=1",),
    "picked": ("dv+da", "v:0"),
    "ignored": ("debug", "/tmp/x"),
    "stdout": ("-", "pipe:1", "tcp://127.0.0.1:1"),
    "style": ("FontSize=24,Outline=1", "PrimaryColour=&H00FFFFFF"),
    "timecode": ("00:00:00:00", "01:02:03;04"),
    "text": (
        "Hello, World: it's 5%",
        "%{pts\\:hms}",
        "%{pts:hms}",
        "%{metadata:x}",
        "a\nb",
        "[x];y=z",
        "back\\slash",
        " padded ",
        "%{eif:t:d}",
    ),
    "input": (*NAMES, "/etc/passwd", "../in.mp4"),
    "denied": ("/etc/passwd", "1", ""),
    "filter": (),
    "graph": (),
    "encoder": ("libx264", "copy", "aac", "h264", "h264_nvenc", "rawvideo"),
    "decoder": ("h264", "h264_cuvid", "magicyuv"),
    "format": ("mp4", "matroska", "hls", "tee", "lavfi", "image2", "mov"),
    "map": ("0", "0:v:0", "1:a?", "[out]", "-0:s", "9:v"),
    "source": ("-1", "0", "0:s:a:0", "7"),
    "entry": ("title=A <b> title", "language=eng", "x=" + "y" * 300, "/x=y"),
    "disposition": ("default", "0", "-default+forced"),
    "tag": ("hvc1", "avc1", "x"),
    "bsf": ("h264_mp4toannexb", "dump_extra,null", "noise"),
    "timestamp": ("now", "2020-01-01"),
    "timebase": ("1/90000", "-1"),
    "keyframes": ("expr:gte(t,n_forced*2)", "0,1.5,00:00:03", "source", "expr:while(1,1)"),
}
NASTY = (
    "-i",
    "--",
    "-/vf",
    "-",
    "/etc/passwd",
    "http://127.0.0.1/x",
    "concat:a|b",
    "pipe:0",
    "file:/x",
    "data:,x",
    "-y",
    "-report",
    "-progress",
    "tcp://127.0.0.1:1",
    "movie=/etc/passwd",
    "-attach",
    "-dump_attachment:t:0",
    "-f",
    "tee",
    "'",
    "\\",
    "\\'",
    "-filter_complex_script",
    "-init_hw_device",
    "-c:v:",
    "-b:v:0:0",
    "-metadata:s:v:0",
    "\u202e",
    "drawtext=textfile=/x",
    ";",
    "[",
    "%03d.png",
)


def text(rng: Random, length: int) -> str:
    """Characters of any kind, those that mean something to FFmpeg above all."""
    some = "\\':,;[]=%{}@ \n\tax09/.-_\u00e9\u202e\U0001f600"
    return "".join(rng.choice(some) for _ in range(rng.randint(0, length)))


def value(rng: Random, spelled: str) -> str:
    """A value for a kind of the tables: mostly one that fits."""
    head = re.split(r"[\[({]", spelled)[0]
    names = [name for name in spelled.partition("{")[2].rstrip("}").split("|") if name]
    fitting = [*VALUES.get(head, ()), *names, *(f"{name}=1" for name in names if head == "pairs")]
    return text(rng, 20) if head == "text" and rng.random() < 0.5 else rng.choice(fitting or ["1"])


def quoted(rng: Random, plain: str) -> str:
    """A value quoted in one of the ways that people use."""
    way = rng.choice(("plain", "plain", "quotes", "backslashes", "spaces"))
    if way == "quotes":
        return "'" + plain.replace("'", "'\\\\\\''") + "'"
    if way == "backslashes":
        return "".join(f"\\\\{char}" if char in ":,;[]'\\= " else char for char in plain)
    return f" {plain} " if way == "spaces" else plain


def filter_text(rng: Random) -> str:
    spec: FilterSpec = rng.choice(_FILTERS)
    kinds = {names[0]: spelled for names, spelled in spec.keys}
    if spec.positional and rng.random() < 0.5:
        parts = [
            quoted(rng, value(rng, kinds[key])) for key in spec.positional[: rng.randint(0, 3)]
        ]
    else:
        chosen = rng.sample(spec.keys, rng.randint(0, min(3, len(spec.keys))))
        parts = [
            f"{rng.choice(names)}={quoted(rng, value(rng, spelled))}" for names, spelled in chosen
        ]
    before, after = (
        "".join(f"[{rng.choice(LABELS)}]" for _ in range(max(0, rng.randint(-2, 2))))
        for _ in range(2)
    )
    return f"{before}{spec.name}{'=' if parts else ''}{':'.join(parts)}{after}"


def graph(rng: Random) -> str:
    """Text of a filter graph that is mostly one."""
    chains = (
        ",".join(filter_text(rng) for _ in range(rng.randint(1, 3)))
        for _ in range(rng.choice((1, 1, 2, 3)))
    )
    whole = rng.choice((";", "; ", ";\n", ",")).join(chains)
    for _ in range(max(0, rng.randint(-6, 2))):
        at = rng.randint(0, len(whole))
        whole = whole[:at] + text(rng, 2) + whole[at + rng.randint(0, 1) :]
    return whole


_FILTERS = list(FILTERS.values())
_BEFORE = [
    option for option in OPTIONS if option.scope in (Scope.INPUT, Scope.GLOBAL, Scope.IGNORED)
]
_AFTER = [option for option in OPTIONS if option.scope is not Scope.INPUT]


def option_words(rng: Random, options: list[Option]) -> list[str]:
    option = rng.choice(options)
    specifier = (
        rng.choice(("", "", ":v", ":a:0", ":1", ":s:v", ":v:9999")) if option.per_stream else ""
    )
    name = f"-{option.name}{specifier}"
    if not option.takes_value:
        return [name]
    return [name, graph(rng) if option.kind == "graph" else value(rng, option.kind)]


def command(rng: Random) -> list[str]:
    """Words of a command that is mostly one, now and then with a word of `NASTY` or of anything at
    all."""
    words: list[str] = []
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        for _ in range(max(0, rng.randint(-2, 2))):
            words += option_words(rng, _BEFORE)
        words += (
            ["-f", "lavfi", "-i", graph(rng)] if rng.random() < 0.2 else ["-i", rng.choice(NAMES)]
        )
    for _ in range(rng.randint(0, 4)):
        words += option_words(rng, _AFTER)
    words.append(f"out.{rng.choice((*formats.MUXER_OF_SUFFIX, 'mp4', 'm3u8'))}")
    for _ in range(max(0, rng.randint(-8, 2))):
        words.insert(
            rng.randint(0, len(words)), rng.choice(NASTY) if rng.random() < 0.7 else text(rng, 12)
        )
    return words
