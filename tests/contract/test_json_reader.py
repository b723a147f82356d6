"""JSON that comes in pieces, against `json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker_client.protocol.json_reader import MAX_OTHER_CHARS, JsonReader

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def reader_of(text: str, piece: int) -> JsonReader:
    pieces: Iterator[str] = iter([text[at : at + piece] for at in range(0, len(text), piece)])
    return JsonReader(more=lambda: next(pieces, ""))


@settings(max_examples=40, deadline=None)
@given(VALUES, VALUES, st.integers(1, 40), st.sampled_from([None, 1]))
def test_a_text_in_pieces_is_read_as_a_whole_one(
    first: Any, second: Any, piece: int, indent: int | None
) -> None:
    text = json.dumps({"items": [first, second], "rest": second}, indent=indent)
    reader = reader_of(text, piece)
    found = reader.fields(items=lambda: [reader.value() for _ in reader.items()])
    reader.end()
    assert found == json.loads(text)


@pytest.mark.parametrize("digits", [999, 1000, 1001, 4000])
def test_a_number_that_is_cut_between_pieces(digits: int) -> None:
    number = "1" * digits
    reader = reader_of(f"[{number}]", 1000)
    assert [reader.value() for _ in reader.items()] == [int(number)]


@pytest.mark.parametrize(
    "text", ["[1", "[1,", "{", '{"a" 1}', '{"a":1,"a":2}', "[1]2", '["\\ud8', "[NaN]", ""]
)
def test_what_is_no_json(text: str) -> None:
    for piece in (1, 1000):
        reader = reader_of(text, piece)
        with pytest.raises(ValueError):
            if text.startswith("["):
                assert [reader.value() for _ in reader.items()]
            else:
                reader.fields()
            reader.end()


def test_an_error_says_where() -> None:
    for piece in (3, 1000):
        with pytest.raises(ValueError, match="no , at character 17$"):
            reader_of('{"a": [1, 2, 3]  : 4}', piece).fields()


def test_limits_on_what_is_read_whole() -> None:
    with pytest.raises(ValueError, match="nested"):
        reader_of("[" * 200_000, 1000).value()
    reader = reader_of(f"[[], [{'1,' * (MAX_OTHER_CHARS // 2)}1]]", 1 << 20)
    with pytest.raises(ValueError, match="more than"):
        assert [reader.value() for _ in reader.items()]
