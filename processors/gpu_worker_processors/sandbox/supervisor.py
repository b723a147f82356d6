"""Starts an engine and sees to it that nothing of it is left: `main([WORKER, COMMAND])`, called in
a fresh `python -I -S`.

    WORKER   process id whose end ends everything
    COMMAND  JSON list: the program and its words

It ends with the engine and with its status, when it gets SIGTERM, or when the worker has ended;
not before every process that the engine started is gone, with its memory and its open files. Those
that left the engine's group come here as orphans (PR_SET_CHILD_SUBREAPER). It stands outside the
sandbox, in a file of its own with nothing but light modules of the standard library. A PID
namespace would do the same, but needs rights that containers are seldom given, and the GPU's driver
finds its own folder in /proc by its number.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
"""linux/prctl.h."""
_OOM_SCORE, _MAX_OOM_SCORE = 500, 1000
"""What an engine's oom_score_adj has above the worker's: in a full container the kernel then ends
the engine, which is replaced, and not the worker. proc(5): half of the memory and all of it."""


def descendants(pid: int) -> list[int]:
    """Every process below this one, at this moment."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            after_the_name = path.read_text("utf-8", "replace").rpartition(")")[2].split()
            children.setdefault(int(after_the_name[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, ())
    return found[1:]


def main(words: list[str]) -> None:
    worker, command = int(words[0]), json.loads(words[1])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, _wake)
    watched = [reading]
    with suppress(OSError):  # a kernel before 5.3: the engine's closed pipe ends it then
        watched.append(os.pidfd_open(worker))
    if os.getppid() != worker:
        return
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
    engine = os.posix_spawn(
        command[0],
        command,
        os.environ,
        setsid=True,
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    _end_first_when_memory_is_full(engine)
    _let_go_of_pipes()
    _end_as(_supervise(engine, watched))


def _wake(_number: int, _frame: object) -> None:
    """The number itself goes into the pipe."""


def _end_first_when_memory_is_full(engine: int) -> None:
    """With all that it will start: a child has its parent's score."""
    with suppress(OSError):  # it has ended already, or the container forbids it
        score = int(Path("/proc/self/oom_score_adj").read_text("utf-8"))
        raised = min(score + _OOM_SCORE, _MAX_OOM_SCORE)
        Path("/proc", str(engine), "oom_score_adj").write_text(str(raised), "utf-8")


def _let_go_of_pipes() -> None:
    """They are the engine's: its closing them must be seen at their other ends."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)


def _supervise(engine: int, watched: list[int]) -> int:
    """The engine's status, once it and all below it have ended."""
    poll = select.poll()
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    ended: dict[int, int] = {}
    is_wanted = True
    while is_wanted and engine not in ended:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if watched[0] in ready:
            is_wanted = signal.SIGTERM not in os.read(watched[0], 4096)
        is_wanted = is_wanted and ready == watched[:1]
        _reap(ended, os.WNOHANG)
    if engine not in ended:  # its number may be another's by then
        os.killpg(engine, signal.SIGKILL)  # before /proc is read: it may be starting thousands
    while True:
        _end_groups()
        if not _reap(ended, 0):
            return ended[engine]


def _reap(ended: dict[int, int], options: int) -> bool:
    """Notes who has ended. False when there are no children left."""
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, options))[0]:
            ended[child[0]] = child[1]
            options = os.WNOHANG
        return True
    return False


def _end_groups() -> None:
    """Kills each child with its group, at a stroke. What they leave comes here as orphans."""
    own = os.getpid()
    for pid in descendants(own):
        with suppress(ProcessLookupError):
            group = os.getpgid(pid)
            if group != own:
                os.killpg(group, signal.SIGKILL)


def _end_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))
