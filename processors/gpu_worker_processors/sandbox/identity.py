"""Who the engine is: a spare user of its own when the worker is root, and no capabilities in any
case.

The parent decides (`spare_user`), because it must hand the job's files over (`hand_over`); the
child only becomes that user.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from gpu_worker_processors.sandbox import kernel

FIRST_SPARE_USER = 60000
"""Slot 0. Above every ordinary account and below `nobody`, see "UID and GID classes" in the Debian
policy manual, 9.2.2."""

SPARE_USERS = 4096
"""How many there are from there on."""

_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
"""linux/capability.h."""


def spare_user(slot: int, readable: Iterable[Path]) -> tuple[int | None, str]:
    """(user id, "") for the engine in this slot, or (None, why not): no root here, or a path is
    closed to that user."""
    if os.geteuid() != 0:
        return None, "the worker is not root"
    user = FIRST_SPARE_USER + slot
    for path in readable:
        closed = first_closed(path, user)
        if closed is not None:
            return None, f"{closed} is closed to other users"
    return user, ""


def first_closed(path: Path, user: int) -> Path | None:
    """The first part of an existing path that a user without groups cannot pass or read; None when
    all is open or absent."""
    if not path.exists():
        return None
    resolved = path.resolve()
    for folder in reversed(resolved.parents):
        if not _allows(folder, user, stat.S_IXOTH):
            return folder
    needed = stat.S_IROTH | (stat.S_IXOTH if resolved.is_dir() else 0)
    return None if _allows(resolved, user, needed) else resolved


def _allows(path: Path, user: int, bits: int) -> bool:
    info = path.stat()
    wanted = bits << 6 if info.st_uid == user else bits
    return info.st_mode & wanted == wanted


def hand_over(path: Path, user: int | None) -> None:
    """Makes a job's file or directory, with all in it, the engine user's own. None: the worker's
    own user stays, or becomes again, the owner: an earlier worker may have left a folder to a user
    that this engine does not become."""
    if user is None and os.getuid() != 0:
        return
    owner = os.getuid() if user is None else user
    os.chown(path, owner, owner, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            hand_over(entry, user)


def become(user: int) -> None:
    """Turns this process, all its threads, into a user without groups and without a way back."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # the change closed /proc/self to the process itself


def drop_capabilities(machine: str) -> None:
    """Empties the permitted, effective and inheritable sets of this thread: root without its
    powers.

    Raises:
        OSError: the kernel refused.
    """
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    kernel.call(_CAPSET[machine], header, bytes(24))
