"""Random commands: each is refused by a typed error or comes back from its own canonical form, and
nothing is ever written that the tables do not hold. What is written is judged by a reader of its
own, which knows the tables and no parser."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import command_kit, ffmpeg_help
from support.paths import TESTS

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import Script, formats, parse_command
from gpu_worker_processors.render.command.errors import Denied
from gpu_worker_processors.render.command.filters import FILTERS
from gpu_worker_processors.render.command.graph import parse_graph
from gpu_worker_processors.render.command.options import OPTIONS
from gpu_worker_processors.render.command.quoting import quote, read_quoted

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEEDS = 10_000
"""That stay the same from run to run, and as many new ones."""
CORPUS = TESTS / "corpus" / "render.jsonl"
"""A list of words is a command, a text is a graph."""
RANDOMS = st.randoms(use_true_random=False)
"""Their choices are Hypothesis's own, so that a failure shrinks."""
NAMED_BY_US = {("result", "transforms.trf"), ("input", "transforms.trf")}
"""Default files of two filters: what we write names them."""
TAKES_VALUE = {option.name: option.takes_value for option in OPTIONS}
ALLOWED = {
    "i": set(command_kit.NAMES),
    "f": {*formats.MUXERS, "lavfi"},
    "c": {*formats.ENCODERS, *formats.DECODERS, "copy"},
}
PLAIN = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9_.-]*|-")
"""An output's name: a number for its images at most, `-` for none."""


def check_command(words: list[str]) -> None:
    try:
        script = parse_command(words, command_kit.NAMES)
    except TaskError as error:
        assert error.code is ErrorCode.ffmpeg_arg_denied
        assert 0 <= error.details["token_index"] < max(len(words), 1)
        assert error.details["reason"]
        return
    emitted = script.words()
    assert parse_command(emitted, command_kit.NAMES) == script
    assert list(strangers(script, emitted)) == []


def check_graph(text: str) -> None:
    try:
        graph = parse_graph(text, command_kit.NAMES)
    except Denied as denied:
        assert denied.reason
        return
    emitted = graph.text(str)
    assert parse_graph(emitted, command_kit.NAMES) == graph
    assert list(strange_filters(emitted)) == []


def strangers(script: Script, emitted: tuple[str, ...]) -> Iterator[str]:
    """Words that no table has: option names, inputs, containers, filters."""
    words = list(emitted)
    outputs = [one.output for one in script.outputs]
    files = [
        name for one in script.outputs for name in ([file.name for file in one.tee] or [one.output])
    ]
    assert words[-1] == script.output
    assert all(PLAIN.fullmatch(name) for name in files)
    assert not {*files} & {*command_kit.NAMES}
    graphs = {graph.text(str) for graph in script.graphs}
    while words:
        word = words.pop(0)
        if word in outputs:
            outputs.remove(word)
            continue
        name = word[1:].partition(":")[0]
        if not word.startswith("-") or name not in {*TAKES_VALUE, "i"}:
            yield word
        if TAKES_VALUE.get(name, True):
            value = words.pop(0)
            if value in graphs:
                yield from strange_filters(value)
            elif value not in ALLOWED.get(name, {value}):
                yield value
    yield from outputs


def strange_filters(text: str) -> Iterator[str]:
    """Filters and keys in a written graph that the table does not have, read by splitting at what
    no backslash protects."""
    for item in unprotected(text, ",;"):
        body = re.sub(r"(?:\[[^\]\\]*\])+$", "", re.sub(r"^(?:\[[^\]\\]*\])+", "", item))
        name, _, argument = body.partition("=")
        name = name.partition("@")[0]
        if name not in FILTERS:
            yield name
            continue
        keys = {
            key for names, spelled in FILTERS[name].keys for key in names if spelled != "denied"
        }
        level_down = re.sub(r"\\(.)", r"\1", argument, flags=re.DOTALL)
        yield from (
            pair
            for pair in unprotected(level_down, ":")
            if pair and pair.partition("=")[0] not in keys
        )


def unprotected(text: str, separators: str) -> list[str]:
    """Parts of a text between separators that have no backslash before them."""
    parts = [""]
    for found in re.finditer(r"\\.|.", text, re.DOTALL):
        if found[0] in separators:
            parts.append("")
        else:
            parts[-1] += found[0]
    return parts


@FAST
@given(RANDOMS)
def test_a_command_is_refused_or_comes_back_from_its_canonical_form(rng: Random) -> None:
    check_command(command_kit.command(rng))


@FAST
@given(RANDOMS)
def test_a_graph_is_refused_or_comes_back_from_its_canonical_form(rng: Random) -> None:
    check_graph(command_kit.graph(rng))


@FAST
@given(st.text(alphabet="scale=w:h,;[]'\\ \n0:1x@", max_size=60))
def test_a_graph_of_separators_and_quotes(text: str) -> None:
    check_graph(text)


@FAST
@given(st.lists(st.one_of(st.sampled_from(command_kit.NASTY), st.text(max_size=30)), max_size=12))
def test_words_of_anything_at_all(words: list[str]) -> None:
    check_command(words)


@FAST
@given(
    st.text(
        alphabet=st.one_of(
            st.sampled_from(" \t\n\r\\':,;[]="), st.characters(exclude_categories=["Cs"])
        ),
        max_size=40,
    )
)
def test_quoting_gives_any_text_back_through_both_levels(text: str) -> None:
    specials = "[],;:="
    assert read_quoted(quote(text, specials), 0, specials) == (text, len(quote(text, specials)))
    twice = quote(quote(text, ":="), "[],;")
    once, end = read_quoted(twice, 0, "[],;")
    assert end == len(twice)
    assert read_quoted(once, 0, ":=") == (text, len(once))


def judge_many(judge: Callable[[Random], None]) -> None:
    """Without Hypothesis, and so quicker by a factor of ten; a failure is told by its seed."""
    for seed in (*range(SEEDS), *(secrets.randbits(64) for _ in range(SEEDS))):
        try:
            judge(Random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_commands() -> None:
    judge_many(lambda rng: check_command(command_kit.command(rng)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_graphs() -> None:
    judge_many(lambda rng: check_graph(command_kit.graph(rng)))


@pytest.mark.parametrize("line", CORPUS.read_text().splitlines())
def test_what_was_found_before(line: str) -> None:
    """One command or graph for each way in which the parser refused or accepted, and each that it
    once got wrong."""
    found = json.loads(line)
    check_graph(found) if isinstance(found, str) else check_command(found)


def differences_to_ffmpeg(seeds: range) -> Iterator[str]:
    """Accepted graphs that FFmpeg's own parser reads otherwise than ours, as written by the caller
    or as written anew."""
    for seed in seeds:
        text = command_kit.graph(Random(seed))
        try:
            graph = parse_graph(text, command_kit.NAMES)
        except Denied:
            continue
        filters = [
            (FILTERS[item.name], (key, value.text(str)))
            for item in graph.filters
            for key, value in item.options
        ]
        if ffmpeg_help.settings_of(graph.text(str)) != [pair for _, pair in filters]:
            yield f"seed {seed}: what we write is read otherwise"
        filters = [one for one in filters if one[1] not in NAMED_BY_US]
        theirs = [pair for pair in ffmpeg_help.settings_of(text) if pair not in NAMED_BY_US]
        named = [
            (spec.key(key), without_space(value))
            for (spec, _), (key, value) in zip(filters, theirs, strict=False)
        ]
        if len(theirs) != len(filters) or named != [
            (key, without_space(value)) for _, (key, value) in filters
        ]:
            yield f"seed {seed}: what was written is read otherwise"


def without_space(value: str) -> str:
    """We drop white space from expressions, and two minus signs before a number, as FFmpeg does
    later."""
    return re.sub(r"^--", "", re.sub(r"\s", "", value))


def test_ffmpeg_reads_a_graph_as_we_do() -> None:
    assert list(differences_to_ffmpeg(range(40))) == []


@pytest.mark.slow
def test_ffmpeg_reads_many_graphs_as_we_do() -> None:
    assert list(differences_to_ffmpeg(range(40, 1000))) == []


def test_the_judge_sees_what_does_not_belong() -> None:
    assert list(strange_filters("scale=w=1,sendcmd=filename=x")) == ["sendcmd"]
    assert list(strange_filters("drawtext=text_source=x")) == ["text_source=x"]
    assert (
        list(strange_filters("scale=w=1\\:h=2")) == []
    )  # one level down the colon separates two known keys
    assert list(strange_filters("drawtext=text=a\\\\:text_source\\\\=x")) == []


def test_the_generator_makes_commands_that_are_accepted() -> None:
    accepted = refused = 0
    for seed in range(1000):
        try:
            parse_command(command_kit.command(Random(seed)), command_kit.NAMES)
            accepted += 1
        except TaskError:
            refused += 1
    assert accepted > 100 and refused > 100
