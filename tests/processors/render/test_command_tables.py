"""The allow tables against the help of the shipped FFmpeg: nothing in them is missing there, and
nothing there takes free text in an allowed filter without having been looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import ffmpeg_help

from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.filters import FILTERS, FilterSpec
from gpu_worker_processors.render.command.options import OPTIONS, Scope
from gpu_worker_processors.render.command.values import Flags, Number, OneOf, kind

FREE_TEXT = {"string", "dictionary", "binary"}
"""Types whose values FFmpeg hands to the filter as they are: each is looked at by a person."""
KINDS = {
    "boolean": {"bool"},
    "duration": {"time"},
    "image_size": {"size", "cells"},
    "video_rate": {"rate"},
    "rational": {"ratio"},
    "color": {"color"},
    "channel_layout": {"name"},
    "sample_fmt": {"name"},
    "pix_fmt": {"name"},
    "flags": {"flags", "int"},
    "float": {"num"},
    "double": {"num"},
    **dict.fromkeys(("int", "int64", "uint", "uint64", "unsigned"), {"int", "num", "one"}),
}
"""Type in FFmpeg's help -> kinds that hold its values."""
OWN_PAGES = (
    "scale",
    "overlay",
    "drawtext",
    "subtitles",
    "loudnorm",
    "curves",
    "aresample",
    "xfade",
)
"""Whose help is read in the fast run; the slow one reads all."""


def word(spelled: str) -> str:
    """The first word of a kind: "int" of `int[0,7]{a|b}`."""
    return re.split(r"[\[({]", spelled)[0]


def differences(spec: FilterSpec) -> Iterator[str]:
    """What the table says of a filter and its help does not, or the other way round."""
    page = ffmpeg_help.filter_help(spec.name)
    known = page.options
    for names, spelled in spec.keys:
        for name in names:
            if name == "enable":
                continue
            if name not in known:
                yield f"{spec.name}: FFmpeg has no option {name}"
            elif problem := mismatch(spelled, known[name]):
                yield f"{spec.name}: {name}={spelled}: {problem}"
    listed = {name for names, _ in spec.keys for name in names}
    for option in page.options.values():
        if option.type in FREE_TEXT and option.name not in listed and option not in page.inherited:
            yield f"{spec.name}: {option.name} takes free text and nobody has looked at it"
    if ("enable" in listed) != page.has_timeline:
        yield f"{spec.name}: enable is there where FFmpeg has it"
    order = [option.name for option in page.own]
    places = [order.index(name) for name in spec.positional]
    if places != sorted(places):
        yield f"{spec.name}: its options stand in FFmpeg's order"


def mismatch(spelled: str, option: ffmpeg_help.HelpOption) -> str:
    """Why a kind does not fit an option of FFmpeg; "" when it does."""
    if spelled == "denied" or option.type in FREE_TEXT - {"dictionary", "binary"}:
        return ""
    kinds = {"names"} if option.type.startswith("[") else KINDS.get(option.type, set())
    if word(spelled) not in kinds:
        return f"FFmpeg's type is {option.type}"
    entry = kind(spelled)
    names = entry.names if isinstance(entry, Number | Flags | OneOf) else frozenset[str]()
    if missing := names - option.constants:
        return f"FFmpeg has no {', '.join(sorted(missing))}"
    if isinstance(entry, Number) and not (option.low <= entry.low + 1e-6 or entry.low <= -1e9):
        return f"FFmpeg's range begins at {option.low}"
    if isinstance(entry, Number) and not (entry.high <= option.high + 1e-4 or entry.high >= 1e9):
        return f"FFmpeg's range ends at {option.high}"
    return ""


@pytest.mark.parametrize("name", OWN_PAGES)
def test_a_filter_is_what_its_help_says(name: str) -> None:
    assert list(differences(FILTERS[name])) == []


@pytest.mark.slow
def test_every_filter_is_what_its_help_says() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = [
            line
            for lines in pool.map(lambda spec: list(differences(spec)), FILTERS.values())
            for line in lines
        ]
    assert found == []


def test_a_new_text_option_of_an_allowed_filter_is_noticed() -> None:
    unaware = FilterSpec(
        "drawtext", tuple(pair for pair in FILTERS["drawtext"].keys if pair[0][0] != "textfile"), ()
    )
    assert list(differences(unaware)) == [
        "drawtext: textfile takes free text and nobody has looked at it"
    ]


def test_what_is_missing_from_ffmpeg_is_noticed() -> None:
    invented = FilterSpec(
        "fps",
        ((("fps",), "rate"), (("colour",), "color"), (("round",), "int[0,9]{nearest}")),
        ("fps",),
    )
    assert [line.partition(": ")[2] for line in differences(invented)] == [
        "FFmpeg has no option colour",
        "round=int[0,9]{nearest}: FFmpeg has no nearest",
    ]


@pytest.mark.slow
def test_values_without_keys_take_the_keys_that_ffmpeg_gives_them() -> None:
    """FFmpeg skips aliases when it counts them, and its help does not say which names are aliases;
    its parser does."""

    def surplus(name: str, count: int) -> bool:
        graph = f"{name}={':'.join('0' * count)}"
        log = ffmpeg_help.ffmpeg_says(
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "nullsrc=d=0.01",
            "-filter_complex",
            graph,
            "-f",
            "null",
            "-",
        )
        return "No option name near" in log

    def wrong(spec: FilterSpec) -> bool:
        count = len(spec.positional)
        return (count > 0 and surplus(spec.name, count)) or not surplus(spec.name, count + 1)

    with ThreadPoolExecutor(2) as pool:
        found = [
            spec.name
            for spec, is_wrong in zip(
                FILTERS.values(), pool.map(wrong, FILTERS.values()), strict=True
            )
            if is_wrong
        ]
    assert found == ["tinterlace"], "its second key, flags, is not in its help: we refuse it"


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (set(FILTERS), "filters"),
        (formats.ENCODERS, "encoders"),
        (set(formats.ENCODER_ALIASES.values()), "encoders"),
        (formats.DECODERS, "decoders"),
        (set(formats.MUXERS), "muxers"),
        (formats.DEMUXERS, "demuxers"),
        (formats.BITSTREAM_FILTERS, "bsfs"),
    ],
    ids=[
        "filters",
        "encoders",
        "encoder aliases",
        "decoders",
        "muxers",
        "demuxers",
        "bitstream filters",
    ],
)
def test_every_name_in_the_tables_is_one_of_the_shipped_ffmpeg(table: set[str], what: str) -> None:
    assert set(table) - ffmpeg_help.listed(what) == set()


def test_every_command_line_option_is_one_of_the_shipped_ffmpeg() -> None:
    full = ffmpeg_help.ffmpeg_says("-h", "full")
    known = set(re.findall(r"^ *-([\w-]+)[\[ ]", full, re.MULTILINE))
    missing = {option.name for option in OPTIONS} - known
    negated = {name for name in missing if name.startswith("no") and name[2:] in known}
    assert missing - negated == {"s"}  # which FFmpeg knows and its help leaves out


def test_no_command_line_option_names_a_file() -> None:
    full = ffmpeg_help.ffmpeg_says("-h", "full")
    files = set(
        re.findall(
            r"^-(\w+)(?:\[\S*\])? <(?:filename|file|url|prefix|device|preset)>", full, re.MULTILINE
        )
    )
    assert {"progress", "vstats_file", "passlogfile", "attach", "fpre", "sdp_file"} <= files
    used = {
        option.name
        for option in OPTIONS
        if option.scope is not Scope.IGNORED and not option.kind.startswith("input(")
    }
    assert files.isdisjoint(used)


@pytest.mark.parametrize("name", formats.MUXERS)
def test_the_encoders_of_a_container_are_those_that_ffmpeg_takes(name: str) -> None:
    page = ffmpeg_help.ffmpeg_says("-h", f"muxer={name}")
    muxer = formats.MUXERS[name]
    if muxer.still:
        return
    for media, encoder in (
        ("video", muxer.video),
        ("audio", muxer.audio),
        ("subtitle", muxer.subtitle),
    ):
        # none encodes eia_608, which mxf would take
        codec = re.search(rf"Default {media} codec: (?!eia_608)(\w+)\.", page)
        assert (codec is None) == (encoder is None), media
        if codec and encoder:
            about = ffmpeg_help.ffmpeg_says("-h", f"encoder={codec[1]}")
            assert re.search(
                rf"^Encoder {re.escape(encoder)} ", about, re.MULTILINE
            ) or encoder in (
                codec[1],
                ENCODES[codec[1]],
            )


ENCODES = {
    "h264": "libx264",
    "vp9": "libvpx-vp9",
    "opus": "libopus",
    "vorbis": "libvorbis",
    "mp3": "libmp3lame",
    "webp": "libwebp_anim",
} | {
    "theora": "libtheora",
    "flv1": "flv",
    "subrip": "srt",
}
"""Codec -> the encoder of it that FFmpeg lists first and does not call experimental."""


@pytest.mark.parametrize("suffix", formats.MUXER_OF_SUFFIX)
def test_a_suffix_means_what_it_means_to_ffmpeg(suffix: str) -> None:
    page = ffmpeg_help.ffmpeg_says("-h", f"muxer={formats.MUXER_OF_SUFFIX[suffix]}")
    extensions = re.search(r"Common extensions: (\S+)\.", page)
    assert extensions is not None and suffix in extensions[1].split(",")


@pytest.mark.parametrize("spec", FILTERS.values(), ids=lambda spec: spec.name)
def test_every_kind_in_the_table_of_filters_exists(spec: FilterSpec) -> None:
    for _, spelled in spec.keys:
        kind(spelled)
