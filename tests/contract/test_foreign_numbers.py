"""Text that others wrote becomes a number or a date in one module, `protocol.foreign`. A rule over
the source keeps it so.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from gpu_worker_client.protocol.foreign import (
    MAX_INTEGER,
    parse_http_date,
    parse_integer,
    parse_sigv4_date,
    parse_unix_time,
)

ROOT = Path(__file__).parents[2]
MARCH = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("007", 7),
        ("9" * 18, MAX_INTEGER),
        ("9" * 19, None),
        ("", None),
        (None, None),
        ("²", None),
        ("٣", None),
        ("-1", None),
        ("1\n", None),
    ],
)
def test_integers(text: str | None, value: int | None) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize(("text", "value"), [("0", None), ("1", 1), ("9", 9), ("10", None)])
def test_integers_have_bounds(text: str, value: int | None) -> None:
    assert parse_integer(text, least=1, most=9) == value


def test_dates() -> None:
    assert parse_sigv4_date("20260301T120000Z") == MARCH
    assert parse_unix_time(str(round(MARCH.timestamp()))) == MARCH
    for text in (
        "Sun, 01 Mar 2026 12:00:00 GMT",
        "Sun, 01 Mar 2026 13:00:00 +0100",
        "Sun, 01 Mar 2026 12:00:00 -0000",
        "Sunday, 01-Mar-26 12:00:00 GMT",
    ):
        assert parse_http_date(text) == MARCH


BANNED_METHODS = {"isdigit", "isdecimal", "isnumeric"}
READERS = ("client/gpu_worker_client", "gpu-worker/gpu_worker")
"""Packages that read what others wrote."""
NOT_FOREIGN = {
    "int(text)",  # the parser itself
    "int(part)",  # of an aspect ratio that a pattern of the model has matched
    "int(params.get('frame_stride') or 1)",
    "int(side)",  # of our own answer
    "int(time.time())",
    "int(address)",  # an IPv4Address
    "int(max(3600, sum((_time_limit(panel, video) for panel in panels))))",
    "int(getattr(stats, 'frames_processed', 0) or getattr(stats, 'total_frames', 0))",
    "int(fields['MemAvailable'].split()[0])",  # /proc/meminfo
    "int(gpu.driver.split('.')[0])",
    "int(self._value('SELECT coalesce(max(position), 0) FROM job'))",
    "int(self._value('SELECT coalesce(sum(attempts), 0) FROM job'))",
    "int(answer['ContentLength'])",  # boto3 gives integers
    "int(answer['NextPartNumberMarker'])",
    "int(part['PartNumber'])",
    "int(response.get('ResponseMetadata', {}).get('HTTPStatusCode', 0))",
}
"""Numbers already, and text that this machine or our own pattern made."""


def calls(path: Path) -> Iterator[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_no_digit_of_another_script_passes_for_a_digit() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}: use parse_integer"
        for path in sources(*READERS, "processors/gpu_worker_processors")
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in BANNED_METHODS
    ]
    assert found == []


def test_int_of_foreign_text_is_in_one_module() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}"
        for path in sources(*READERS)
        for call in calls(path)
        if isinstance(call.func, ast.Name)
        and call.func.id == "int"
        and ast.unparse(call) not in NOT_FOREIGN
    ]
    assert found == []
