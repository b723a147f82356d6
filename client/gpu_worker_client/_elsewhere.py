"""A result too large for an answer: the worker kept it in its own bucket and answered a summary with a presigned GET."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from gpu_worker_client.exceptions import APIConnectionError
from gpu_worker_client.protocol import TASKS, TaskResult

if TYPE_CHECKING:
    from requests import Response

    from gpu_worker_client._status import JobStatus

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
MAX_RESULT_BYTES = 1 << 30
"""What is read of a result at most: an hour of a hundred people, at 100 bytes a box, twice. A bucket can answer without end."""
_PIECE_BYTES = 1 << 20


def whole(status: JobStatus) -> JobStatus:
    """The status with the whole result as its output, when the answer is a summary of one that can be read from here.

    A `result_url` of the task's own comes back without its query, so it stays where it is: read it with your own credentials.

    Raises:
        APIConnectionError: the bucket does not answer, or not with a result; ask again, the URL lives seven days.
    """
    output = cast("dict[str, Any]", status.output) if isinstance(status.output, dict) else {}
    url = output.get("result_url")
    if not isinstance(url, str) or "?" not in url:
        return status
    return replace(status, output=_get(url, output.get("task")) | {"result_url": url})


def _get(url: str, task: object) -> dict[str, Any]:
    import requests

    try:
        # No session of ours: the API key must not travel to a bucket.
        with requests.get(url, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False, stream=True) as response:
            if response.status_code != requests.codes.ok:
                raise _unread(f"answered {response.status_code}")
            data = _bounded(response)
    except requests.RequestException as error:
        raise _unread(f"could not be read ({type(error).__name__})") from None
    return _fields(data, TASKS[task].result if isinstance(task, str) and task in TASKS else TaskResult)


def _bounded(response: Response) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_content(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESULT_BYTES:
            raise _unread(f"answered more than {MAX_RESULT_BYTES} bytes")
    return b"".join(pieces)


def _fields(data: bytes, kind: type[TaskResult]) -> dict[str, Any]:
    """The result's fields, as its model takes them: what is large already in its typed and compact form."""
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


def _unread(why: str) -> APIConnectionError:
    return APIConnectionError(f"the bucket that holds the result {why}", may_have_arrived=True)
