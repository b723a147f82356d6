"""Lifelines: when its parent is gone, so is the engine; so are a local run and a worker that were
started with that wish.

PR_SET_PDEATHSIG would fire when the *thread* that started the engine ends, and the worker starts it
from a pool's thread; it is also cleared by a change of user. So a daemon thread waits on a file
descriptor of the parent process instead.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

ORPHANED_EXIT_STATUS = 137


def tie_to_parent() -> bool:
    """Starts the watch. False where the kernel has no process descriptors (before 5.3): then the
    closed pipe ends the engine.

    Call it after the sandbox is closed: Landlock does not reach threads that already run.
    """
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return False
    if os.getppid() != parent:
        os._exit(ORPHANED_EXIT_STATUS)
    _watch(descriptor, lambda: os._exit(ORPHANED_EXIT_STATUS))
    return True


def interrupt_with(process: int) -> None:
    """Interrupts this process, as Ctrl-C does, when another has ended; at once when it has already.
    Does nothing where the kernel has no process descriptors."""

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGINT)  # the thread that may be waiting in a system call

    main = threading.main_thread().ident or 0
    _when_ended(process, interrupt)


def die_with(process: int) -> None:
    """Kills this process, with its group when it leads one, when another has ended; at once when it
    has already. Does nothing where the kernel has no process descriptors."""

    def die() -> None:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(ORPHANED_EXIT_STATUS)

    _when_ended(process, die)


def _when_ended(process: int, then: Callable[[], None]) -> None:
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        then()
    except OSError:
        return
    else:
        _watch(descriptor, then)


def _watch(process: int, then: Callable[[], None]) -> None:
    """Does a thing when the process with this descriptor has ended."""

    def wait() -> None:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        while not poll.poll():
            pass
        then()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
