"""The engine's lifeline: when its parent is gone, so is the engine.

PR_SET_PDEATHSIG would fire when the *thread* that started the engine ends, and the worker starts it from a pool's thread; it is
also cleared by a change of user. So a daemon thread waits on a file descriptor of the parent process instead.
"""

from __future__ import annotations

import os
import select
import threading

ORPHANED_EXIT_STATUS = 137


def tie_to_parent() -> bool:
    """Starts the watch. False where the kernel has no process descriptors (before 5.3): then the closed pipe ends the engine.

    Call it after the jail is closed: Landlock does not reach threads that already run.
    """
    parent = os.getppid()
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return False
    if os.getppid() != parent:
        os._exit(ORPHANED_EXIT_STATUS)
    threading.Thread(target=_wait, args=(descriptor,), name="lifeline", daemon=True).start()
    return True


def _wait(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not poll.poll():
        pass
    os._exit(ORPHANED_EXIT_STATUS)
