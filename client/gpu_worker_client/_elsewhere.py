"""A result too large for an answer: the worker kept it in its own bucket and answered a summary with a presigned GET."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from gpu_worker_client.exceptions import APIConnectionError
from gpu_worker_client.protocol import TASKS, TaskResult

if TYPE_CHECKING:
    from gpu_worker_client._status import JobStatus

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0


def whole(status: JobStatus) -> JobStatus:
    """The status with the whole result as its output, when the answer is a summary of one that can be read from here.

    A `result_url` of the task's own comes back without its query, so it stays where it is: read it with your own credentials.

    Raises:
        APIConnectionError: the bucket does not answer; ask again, the URL lives seven days.
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
        with requests.get(url, timeout=(CONNECT_SECONDS, READ_SECONDS), allow_redirects=False) as response:
            if response.status_code != requests.codes.ok:
                raise APIConnectionError(
                    f"the bucket that holds the result answered {response.status_code}", may_have_arrived=True
                )
            data = response.content
    except requests.RequestException as error:
        raise APIConnectionError(
            f"the bucket that holds the result could not be read ({type(error).__name__})", may_have_arrived=True
        ) from None
    return _fields(data, TASKS[task].result if isinstance(task, str) and task in TASKS else TaskResult)


def _fields(data: bytes, kind: type[TaskResult]) -> dict[str, Any]:
    """The result's fields, as its model takes them: what is large already in its typed and compact form."""
    try:
        return dict(kind.from_json(data))
    except ValidationError:
        found: Any = json.loads(data)  # the reader of the result says what is wrong with it
    except ValueError:
        raise APIConnectionError("the bucket that holds the result answered something else", may_have_arrived=True) from None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
