"""An earlier result of the same work, read without trust: the object is the caller's to write.

What is small is parsed here, what is large by a process of its own with a limit on time and memory:
`python -m gpu_worker.earlier_result REQUEST`, the JSON on stdin. Parsed in the worker, 256 MB took
2 GB and held its event loop for seconds.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import threading
from typing import Any

from gpu_worker.answer import reused_answer
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskError

SMALL_BYTES = 256 * 1024
"""As much as a task's JSON may have: a few milliseconds to parse."""
MAX_CHILD_BYTES = 1536 * 1024**2
"""Of memory. Three million boxes, 256 MB of text, take some 800 MB."""
MAX_CHILD_SECONDS = 120
"""Of CPU time. Three million boxes take 40 s on a slow core."""
_CANCEL_SECONDS = 0.5
"""Between two checks for a cancel."""


def earlier_answer(
    payload: bytes, task: str, key: str | None, settings: Settings, cancelled: threading.Event
) -> dict[str, Any] | None:
    """The answer that this JSON holds, None when it is no result of this work, or one that takes
    more than the limits to read.

    Raises:
        TaskError: as `reused_answer`; `cancelled`.
    """
    if len(payload) <= SMALL_BYTES:
        return reused_answer(payload, task, key, settings)
    request = {
        "task": task,
        "key": key,
        "inline_result_bytes": settings.inline_result_bytes,
        "max_answer_bytes": settings.max_answer_bytes,
    }
    reply: dict[str, Any] = json.loads(_run_child(json.dumps(request), payload, cancelled) or "{}")
    if "error" in reply:
        body = ErrorBody.model_validate(reply["error"])
        raise TaskError(ErrorCode(body.code), body.message, **body.details)
    return reply.get("answer")


def _run_child(request: str, payload: bytes, cancelled: threading.Event) -> bytes:
    """What the process said; nothing when it came to a limit."""
    command = [sys.executable, "-m", "gpu_worker.earlier_result", request]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(payload)
        given.seek(0)
        with subprocess.Popen(
            command, stdin=given, stdout=said, stderr=subprocess.DEVNULL
        ) as child:
            while child.returncode is None:
                if cancelled.is_set():
                    child.kill()
                    raise TaskError(ErrorCode.cancelled, "the job was stopped")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_CANCEL_SECONDS)
        said.seek(0)
        return b"" if child.returncode else said.read()


def main(request_json: str) -> int:
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_CHILD_BYTES, MAX_CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CHILD_SECONDS, MAX_CHILD_SECONDS))
    request = json.loads(request_json)
    settings = Settings(
        inline_result_bytes=request["inline_result_bytes"],
        max_answer_bytes=request["max_answer_bytes"],
    )
    payload = sys.stdin.buffer.read()
    try:
        reply = {"answer": reused_answer(payload, request["task"], request["key"], settings)}
    except TaskError as error:
        reply = {"error": error.body().model_dump(mode="json")}
    sys.stdout.write(json.dumps(reply))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
