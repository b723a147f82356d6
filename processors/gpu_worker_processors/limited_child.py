"""Foreign JSON is read by a process of its own, with a limit on memory and CPU time: the parent's
event loop goes on meanwhile, and what is too much ends the child.

In the worker itself 29,000 integers of 4,300 digits held the event loop for 6.4 s, and 128 MB of
short strings took 1.1 GB.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import site
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from json.scanner import py_make_scanner  # pyright: ignore[reportAttributeAccessIssue] - typeshed lacks it
from pathlib import Path
from typing import Any, BinaryIO

from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskError

SMALL_BYTES = 64 * 1024
"""Needs no process: 86,000 empty lists in four times as much held the event loop for 67 ms."""
SMALL_ITEMS = 20_000
"""Of a compact form, likewise: half a second in a thread that shares the interpreter."""
MAX_CHILD_BYTES = 1536 * 1024**2
"""Of memory. Three million boxes, 256 MB of text, take some 800 MB."""
MAX_DIGITS = 640
"""Of one integer in what a child says: the least that Python allows. Digits take quadratic time."""
_POLL_SECONDS = 0.5
"""Between two checks for a cancel, and for a child that waits."""
_WAITING_POLLS = 20
"""A child computes, or reads a disk: found waiting for something else as often as this, it hangs.
Without memory pydantic's parser ends now and then in a lock that it has itself."""

Read = Callable[[dict[str, Any], bytes, "BinaryIO | None"], Any]
"""Request, JSON and the open file -> what to answer, as JSON values."""


def run_limited(
    module: str,
    request: dict[str, Any],
    payload: bytes,
    stop: threading.Event,
    seconds: int,
    out: BinaryIO | None = None,
) -> dict[str, Any] | None:
    """`{"answer": what it answered}` of a module that calls `serve` when it is run, None when it
    came to a limit.

    Args:
        seconds: of CPU time.
        out: an open file that it may write to.

    Raises:
        TaskError: what it raised; `cancelled`.
    """
    fd = out.fileno() if out is not None else None
    command = [*isolated(module), str(seconds), str(fd)]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(request).encode() + b"\n")
        given.write(payload)
        given.seek(0)
        with subprocess.Popen(
            command,
            stdin=given,
            stdout=said,
            stderr=subprocess.DEVNULL,
            pass_fds=[] if fd is None else [fd],
        ) as child:
            waiting = 0
            while child.returncode is None:
                if stop.is_set():
                    child.kill()
                    raise TaskError(ErrorCode.cancelled, "the job was stopped")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_SECONDS)
                waiting = waiting + 1 if _is_waiting(child.pid) else 0
                if waiting == _WAITING_POLLS:
                    child.kill()
        if child.returncode:
            return None
        said.seek(0)
        reply: dict[str, Any] = _SharingDecoder().decode(said.read().decode())
    if "error" in reply:
        body = ErrorBody.model_validate(reply["error"])
        raise TaskError(ErrorCode(body.code), body.message, **body.details)
    return reply


def _is_waiting(pid: int) -> bool:
    """Whether a child that has not been waited for sleeps, for anything but a disk. False where
    there is no /proc; memory has no limit there either.
    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "S"


class _SharingDecoder(json.JSONDecoder):
    """In Python but for the strings, so that other threads run meanwhile: the one in C held the
    event loop for 0.2 s over eight megabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.scan_once = py_make_scanner(self)


def serve(read: Read) -> None:
    """The child's side: one request, one answer."""
    seconds, fd = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_CHILD_BYTES, MAX_CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    with contextlib.suppress(AttributeError):  # Python before 3.10.7
        sys.set_int_max_str_digits(MAX_DIGITS)
    request = json.loads(sys.stdin.buffer.readline())
    with contextlib.ExitStack() as stack:
        out = None if fd == "None" else stack.enter_context(os.fdopen(int(fd), "wb"))
        try:
            reply = {"answer": read(request, sys.stdin.buffer.read(), out)}
        except TaskError as error:
            reply = {"error": error.body().model_dump(mode="json")}
    sys.stdout.buffer.write(json.dumps(reply, ensure_ascii=False).encode())


def isolated(module: str) -> list[str]:
    """The command of a module that imports nothing from the current folder or from where a variable
    leads: an earlier engine, or a stranger, could write there."""
    if not installed_for_one_user():
        return [sys.executable, "-I", "-u", "-m", module]
    start = (
        f"import sys; del sys.path[0]; import runpy; runpy.run_module({module!r},"
        " run_name='__main__')"
    )
    return [sys.executable, "-E", "-u", "-c", start]


def installed_for_one_user() -> bool:
    """Whether this package came by `pip install --user`: a fully isolated interpreter would not
    find it."""
    return (
        bool(site.ENABLE_USER_SITE)
        and Path(site.getusersitepackages()).resolve() in Path(__file__).resolve().parents
    )
