"""An earlier result of the same work, read without trust: the object is the caller's to write.

What is small is parsed here, what is large by a process of its own, `python -m
gpu_worker.earlier_result`. Parsed in the worker, 256 MB took 2 GB and held its event loop for
seconds.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, BinaryIO

from gpu_worker.answer import reused_answer
from gpu_worker.settings import Settings
from gpu_worker_client.protocol.result import PackedTooMany
from gpu_worker_processors.limited_child import SMALL_BYTES, SMALL_ITEMS, run_limited, serve

MAX_CHILD_SECONDS = 120
"""Of CPU time. Three million boxes take 40 s on a slow core."""


def earlier_answer(
    payload: bytes, task: str, key: str | None, settings: Settings, cancelled: threading.Event
) -> dict[str, Any] | None:
    """The answer that this JSON holds, None when it is no result of this work, or one that takes
    more than the limits to read.

    Raises:
        TaskError: as `reused_answer`; `cancelled`.
    """
    if len(payload) <= SMALL_BYTES:
        with suppress(PackedTooMany):
            return reused_answer(payload, task, key, settings, SMALL_ITEMS)
    request = {
        "task": task,
        "key": key,
        "inline_result_bytes": settings.inline_result_bytes,
        "max_answer_bytes": settings.max_answer_bytes,
    }
    reply = run_limited("gpu_worker.earlier_result", request, payload, cancelled, MAX_CHILD_SECONDS)
    return reply and reply["answer"]


def _read(request: dict[str, Any], payload: bytes, _: BinaryIO | None) -> dict[str, Any] | None:
    settings = Settings(
        inline_result_bytes=request["inline_result_bytes"],
        max_answer_bytes=request["max_answer_bytes"],
    )
    return reused_answer(payload, request["task"], request["key"], settings)


if __name__ == "__main__":
    serve(_read)
