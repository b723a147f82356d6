"""Results that are read from storage, as the endpoint's answer does not hold them: one too large
for it, whose answer is a summary with a presigned GET; and one that the endpoint lost or forgot,
whose task had a `result_url`.

What is read is bounded, and the API key does not travel to storage.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from gpu_worker_client._http import Answer, Http, Request
from gpu_worker_client.errors import APIConnectionError
from gpu_worker_client.protocol import TaskBase, TaskResult
from gpu_worker_client.protocol.http import TRANSIENT_STATUS, signed_headers
from gpu_worker_client.protocol.registry import result_model

MAX_RESULT_BYTES = 1 << 30
"""What is read of a result: an hour of a hundred people, at 100 bytes a box, twice."""
RESULT_SECONDS = 600.0
"""Longest reading of a result: the largest at 14 Mbit/s."""
_OK = 200


@dataclass(frozen=True)
class StoredResult:
    """Where the result of a task lies that had a `result_get_url`."""

    url: str = field(repr=False)
    key: str
    """The task's `idempotency_key`; the object may hold the result of other work."""
    task: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @classmethod
    def of(cls, task: TaskBase) -> StoredResult | None:
        """None when the task did not say where."""
        if task.result_get_url is None or task.idempotency_key is None:
            return None
        signed = signed_headers(urlsplit(task.result_get_url).query)
        given = task.headers.result.items()
        headers = {name: value for name, value in given if name.lower() in signed}
        return cls(task.result_get_url, task.idempotency_key, task.task, headers)


async def read_stored(
    http: Http, stored: StoredResult, deadline: float | None = None
) -> dict[str, Any] | None:
    """The fields of a stored result; None when the object holds that of other work. Raises
    APIConnectionError: storage does not answer, or not with a result."""
    request = _request(stored.url, stored.task, stored.headers)
    fields: dict[str, Any] = await http.send(request, deadline)
    ours = fields.get("task") == stored.task and fields.get("idempotency_key") == stored.key
    return fields if ours else None


async def read_whole(
    http: Http, output: object, deadline: float | None = None, *, allow_http: bool = False
) -> object:
    """The whole result of which the endpoint's `output` is a summary that says where; any other
    output as it is. `allow_http` is for an endpoint on loopback, whose store is there too.

    Raises APIConnectionError: the bucket does not answer, or not with a result; ask again, the URL
    lives seven days. Or the URL is none to be asked at all (`transient` is False).
    """
    answer = cast("dict[str, Any]", output) if isinstance(output, dict) else {}
    url = answer.get("result_url")
    if not isinstance(url, str) or "?" not in url:
        return output
    _check_scheme(url, allow_http=allow_http)
    fields: dict[str, Any] = await http.send(_request(url, answer.get("task"), {}), deadline)
    return fields | {"result_url": url}


def _check_scheme(url: str, *, allow_http: bool) -> None:
    """The endpoint chose this URL: it must not have this machine ask its network's services."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in (("https", "http") if allow_http else ("https",)):
        raise APIConnectionError(
            "the result was not read: the endpoint's answer has a result_url that is no https URL;"
            " check the worker's version and who runs the endpoint",
            may_have_arrived=True,
            transient=False,
        )


def is_summary(output: object) -> bool:
    """Whether lists were left out of an answer, with their counts in their stead."""
    names = cast("dict[str, Any]", output) if isinstance(output, dict) else {}
    return "result_url" in names and any(
        name.endswith("_count") and name.removesuffix("_count") not in names for name in names
    )


def _request(url: str, task: object, headers: Mapping[str, str]) -> Request:
    return Request(
        "GET",
        url,
        "the bucket that holds the result",
        partial(_parsed, kind=result_model(task), gzipped=urlsplit(url).path.endswith(".gz")),
        headers=headers,
        limit_seconds=RESULT_SECONDS,
        to_endpoint=False,
        max_bytes=MAX_RESULT_BYTES,
    )


def _parsed(reply: Answer, *, kind: type[TaskResult], gzipped: bool) -> dict[str, Any]:
    """The result's fields, as its model takes them: what is large already typed and compact."""
    if reply.status != _OK:
        raise _unread(f"answered {reply.status}", transient=reply.status in TRANSIENT_STATUS)
    data = _unzipped(reply.body) if gzipped else reply.body
    try:
        return dict(kind.from_json(data))
    except ValidationError as error:
        try:
            found: Any = json.loads(data)  # the reader of the result says what is wrong with it
        except (ValueError, RecursionError):
            raise _unread("answered something else") from error
    except (ValueError, RecursionError):
        raise _unread("answered something else") from None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _unzipped(data: bytes) -> bytes:
    """Bounded: a few kilobytes of gzip may hold gigabytes."""
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = reader.decompress(data, MAX_RESULT_BYTES)
    except zlib.error:
        raise _unread("answered something else") from None
    if reader.unconsumed_tail:
        raise _unread(f"answered more than {MAX_RESULT_BYTES} bytes")
    if not reader.eof:
        raise _unread("answered half of it")
    return plain


def _unread(why: str, *, transient: bool = False) -> APIConnectionError:
    return APIConnectionError(
        f"the bucket that holds the result {why}", may_have_arrived=True, transient=transient
    )
