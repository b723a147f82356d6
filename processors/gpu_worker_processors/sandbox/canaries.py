"""Proof by trying: after the sandbox is closed, the engine itself attempts what must be refused.

One wrong path can disable a whole sandbox in silence; only an attempt shows it. Every attempt is
harmless when it succeeds.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

_REFUSED = (errno.EACCES, errno.EPERM)


def run(work_root: Path) -> dict[str, bool]:
    """Attempt -> whether the kernel refused it. All must be True."""
    return {
        "read_outside": all(
            _refused(lambda path=path: os.close(os.open(path, os.O_RDONLY)))
            for path in ("/", *_secrets())
        ),
        "read_parent": _refused(
            lambda: os.close(os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY))
        ),
        "write_outside": all(
            _refused(lambda folder=folder: _create(folder)) for folder in _shared_folders(work_root)
        ),
        "network": _refused(_connect) and _refused(_datagram),
    }


def can_work(folder: Path) -> bool:
    """Whether the engine can still write where it must."""
    try:
        _create(folder)
    except OSError:
        return False
    return True


def _secrets() -> list[str]:
    return [
        path for path in ("/etc/passwd", "/etc/hostname", "/etc/shadow") if os.access(path, os.F_OK)
    ]


def _shared_folders(work_root: Path) -> list[Path]:
    candidates = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/"))  # noqa: S108 - names to be refused
    return [
        folder
        for folder in candidates
        if folder.is_dir() and work_root not in (folder, *folder.parents)
    ]


def _refused(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in _REFUSED
    return False


def _create(folder: Path) -> None:
    path = folder / f".gpu-worker-canary-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.unlink()


def _connect() -> None:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        attempt.connect(
            ("127.0.0.1", 9)
        )  # the discard port; "refused by the peer" would mean that there is a network


def _datagram() -> None:
    """Landlock does not know UDP: only the refusal of the socket itself keeps it shut."""
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
