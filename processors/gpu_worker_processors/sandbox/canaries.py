"""Proof by trying: after the sandbox is closed, the engine itself attempts what must be refused.

One wrong path can disable a whole sandbox in silence, and an older kernel refuses less than a newer
one; only an attempt shows it. Every attempt is harmless when it succeeds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_REFUSED = (errno.EACCES, errno.EPERM)
_NOWHERE = "/.gpu-worker-canary"
"""No such file: whoever may ask for it finds that out, everybody else is refused."""
_IPC_PRIVATE = 0
_F_SETSIG, _F_SETOWN_EX, _FIOASYNC, _FIOSETOWN = 10, 15, 0x5452, 0x8901
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}

Attempt = Callable[[], object]

_libc = ctypes.CDLL(None, use_errno=True)


def run(work_root: Path) -> dict[str, bool]:
    """What a level promises -> whether the kernel refused every attempt at it. All must be True."""
    parent = os.getppid()
    found = {
        name: all(map(_refused, attempts))
        for name, attempts in {
            "read_outside": _reads(),
            "read_parent": [lambda: _read(f"/proc/{parent}/environ")],
            "read_network_state": [lambda: _read("/proc/self/net/dev"), _read_through_a_thread],
            "write_outside": [
                lambda folder=folder: _create(folder) for folder in _shared_folders(work_root)
            ],
            "change_outside": _changes(),
            "other_jobs": [
                lambda: os.listdir(work_root.parent),  # noqa: PTH208 - names only
                lambda: _create(work_root.parent),
            ],
            "watch_folders": _watches(),
            "network": [_connect, _datagram],
            "unix_sockets": _socket_pairs(),
            "shared_memory": _shared_memory(),
            "signal_parent": _signals(parent),
            "slow_parent": _priorities(parent),
            "leave_group": [_leave_group],
            "write_log": [_cut_log],
        }.items()
    }
    if os.getuid() != 0:  # the kernel does not count root's
        most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        found["limit_processes"] = most != resource.RLIM_INFINITY
    return found


def can_work(folder: Path) -> bool:
    """Whether the engine can still write where it must."""
    try:
        _create(folder)
    except OSError:
        return False
    return True


def _refused(attempt: Attempt) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno in _REFUSED
    return False


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def _read(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def _reads() -> Iterator[Attempt]:
    secrets = ("/etc/passwd", "/etc/hostname", "/etc/shadow")
    for path in ("/", *(path for path in secrets if os.access(path, os.F_OK))):
        yield lambda path=path: _read(path)


def _read_through_a_thread() -> None:
    """Each thread has its own door to the same list of sockets."""
    _read(f"/proc/self/task/{os.getpid()}/net/dev")


def _shared_folders(work_root: Path) -> list[Path]:
    candidates = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/"))  # noqa: S108 - names to be refused
    return [
        folder
        for folder in candidates
        if folder.is_dir() and work_root not in (folder, *folder.parents)
    ]


def _create(folder: Path) -> None:
    path = folder / f".gpu-worker-canary-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    path.unlink()


def _changes() -> list[Attempt]:
    """What Landlock has no right for, or got one late."""
    return [
        lambda: os.chmod(_NOWHERE, 0o600),  # noqa: PTH101
        lambda: os.utime(_NOWHERE),
        lambda: os.setxattr(_NOWHERE, "user.canary", b""),
        lambda: os.listxattr(_NOWHERE),
        lambda: os.truncate(_NOWHERE, 0),
        lambda: os.close(os.open("/dev/null", os.O_RDONLY | os.O_TRUNC)),
    ]


def _watches() -> list[Attempt]:
    """Landlock has no right for it: a watch says the names of new files in a folder."""
    return [
        lambda: os.close(_call("inotify_init1", 0)),
        lambda: _call("inotify_add_watch", -1, b"/", 0),
    ]


def _connect() -> None:
    with socket.socket() as attempt:
        attempt.settimeout(1)
        attempt.connect(
            ("127.0.0.1", 9)
        )  # the discard port; "refused by the peer" would mean that there is a network


def _datagram() -> None:
    """Landlock does not know UDP: only the refusal of the socket itself keeps it shut."""
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def _socket_pairs() -> Iterator[Attempt]:
    """One end of such a pair can send to any socket that has a path."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        yield lambda kind=kind: [end.close() for end in socket.socketpair(socket.AF_UNIX, kind)]


def _shared_memory() -> list[Attempt]:
    """Asks for what is invalid or not there: it would find that out."""
    return [
        lambda: _call("shmget", _IPC_PRIVATE, 0, 0),
        lambda: _call("msgctl", -1, 0, None),
        lambda: _call("semget", _IPC_PRIVATE, 0, 0),
        lambda: _call("mq_open", b"/gpu-worker-canary", os.O_RDONLY),
    ]


def _signals(parent: int) -> list[Attempt]:
    """Signal 0 asks whether one may. A descriptor sends its signal later, from inside the
    kernel."""

    def through_a_descriptor(set_up: Callable[[int], object]) -> None:
        reading, writing = os.pipe()
        try:
            set_up(reading)
        finally:
            os.close(reading)
            os.close(writing)

    nobody = (ctypes.c_int * 2)(1, 0)
    return [
        lambda: os.kill(parent, 0),
        lambda: _call("sigqueue", parent, 0, None),
        lambda: through_a_descriptor(lambda end: fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())),
        lambda: through_a_descriptor(lambda end: fcntl.fcntl(end, _F_SETSIG, signal.SIGURG)),
        lambda: through_a_descriptor(lambda end: _call("fcntl", end, _F_SETOWN_EX, nobody)),
        lambda: through_a_descriptor(lambda end: _call("ioctl", end, _FIOASYNC, nobody)),
        lambda: through_a_descriptor(lambda end: _call("ioctl", end, _FIOSETOWN, nobody)),
    ]


def _priorities(parent: int) -> list[Attempt]:
    """Sets what is set already."""
    machine = os.uname().machine
    process = os.PRIO_PROCESS
    return [
        lambda: os.setpriority(process, parent, os.getpriority(process, parent)),
        lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
        lambda: os.sched_setscheduler(
            parent, os.sched_getscheduler(parent), os.sched_getparam(parent)
        ),
        lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
        lambda: _call(
            "syscall",
            _IOPRIO_SET[machine],
            _IOPRIO_WHO_PROCESS,
            parent,
            _call("syscall", _IOPRIO_GET[machine], _IOPRIO_WHO_PROCESS, parent),
        ),
    ]


def _leave_group() -> None:
    """The leader of a group could not leave it anyway: a child tries."""
    child = os.fork()
    if child == 0:
        os._exit(0 if not _refused(os.setsid) or not _refused(lambda: os.setpgid(0, 0)) else 1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise PermissionError(errno.EPERM, "setsid")


def _cut_log() -> None:
    """A log that is a file could be emptied by whoever writes to it."""
    if not stat.S_ISREG(os.fstat(2).st_mode):
        raise PermissionError(errno.EPERM, "a pipe")
