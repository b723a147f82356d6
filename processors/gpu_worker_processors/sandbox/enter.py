"""Locks itself in and becomes another program: `main([PARENT, REPORT, RULESET, FILTER, SELF,
LIMITS, PROGRAM, WORD...])`, called in a fresh `python -I -S`.

A file of its own with nothing but the standard library's lightest modules, so that it costs
milliseconds; `program.start` has thought everything out for it. It is a fresh process and not a
function between fork and exec, because there another thread of the parent could hold any lock.

    PARENT   process id whose end ends this process too REPORT   file descriptor of a pipe: silent
    when the program runs, else one line saying which step failed RULESET  file descriptor of a
    Landlock ruleset, -1 without FILTER   seccomp program in hexadecimal digits, "" without SELF
    Landlock rights on /proc/self, which only this process can name LIMITS   "RESOURCE=VALUE,..." by
    the numbers of setrlimit PROGRAM  its path, or "-" to try the walls instead and write what was
    refused
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Callable

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25
_LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 445, 446
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_AF_UNIX, _AF_INET, _SOCK_STREAM, _SOCK_DGRAM = 1, 2, 1, 2
_IPC_PRIVATE, _F_SETOWN = 0, 8
_FAILED = 125

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, step: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), step)
    return result


def _syscall(step: str, number: int, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), step)


def _tie_to(parent: int) -> None:
    """Ends this process, and after `execve` the program, with the thread that started it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_SIGKILL), 0, 0, 0), "tie to the parent")
    if os.getppid() != parent:
        os._exit(_FAILED)  # it ended before the tie was there


def _restore_signals() -> None:
    """Python ignores these two, and what is ignored stays so over `execve`: a file above its limit
    must end the program."""
    for number in (_SIGPIPE, _SIGXFSZ):
        _libc.signal(number, None)


def _restrict_files(ruleset: int, own_rights: int) -> None:
    if own_rights:
        # Rules bind to an inode, and /proc makes a new one once nobody holds the old: this
        # descriptor stays open for life.
        own = os.open("/proc/self", os.O_PATH)
        os.set_inheritable(own, True)
        rule = struct.pack("<Qi", own_rights, own)
        _syscall(
            "Landlock rule",
            _LANDLOCK_ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(1),
            rule,
            ctypes.c_uint(0),
        )
    _syscall("Landlock", _LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _filter_calls(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    _syscall("seccomp", _SECCOMP[os.uname().machine], ctypes.c_uint(1), ctypes.c_uint(0), header)


def _refusals() -> str:
    """Which ways out the kernel refused, by the names of `program.REFUSALS`. None of them changes
    anything where it is open."""
    nowhere = "/.sandbox-canary"
    parent = os.getppid()
    attempts = {
        "read": [lambda: os.open("/etc/passwd", os.O_RDONLY)],
        "write": [
            lambda: os.open(
                f"/tmp/.sandbox-canary-{os.getpid()}",  # noqa: S108
                os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                0o600,
            )
        ],
        "times": [lambda: os.utime(nowhere), lambda: os.listxattr(nowhere)],
        "watch": [lambda: os.close(_check(_libc.inotify_init1(0), "inotify_init1"))],
        "tcp": [lambda: _check(_libc.socket(_AF_INET, _SOCK_STREAM, 0), "socket")],
        "udp": [lambda: _check(_libc.socket(_AF_INET, _SOCK_DGRAM, 0), "socket")],
        "unix": [
            lambda: _check(
                _libc.socketpair(_AF_UNIX, _SOCK_DGRAM, 0, (ctypes.c_int * 2)()), "socketpair"
            )
        ],
        "memory": [lambda: _check(_libc.shmget(_IPC_PRIVATE, 0, 0), "shmget")],
        "signal": [
            lambda: _check(_libc.kill(parent, 0), "kill"),
            lambda: _check(_libc.fcntl(1, _F_SETOWN, os.getpid()), "fcntl"),
        ],
        "nice": [
            lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent))
        ],
    }
    return ",".join(name for name, tries in attempts.items() if all(map(_is_refused, tries)))


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:  # absent or broken is not refused
        return False
    return False


def main(words: list[str]) -> None:
    parent, report, ruleset, calls, own_rights, limits, program, *arguments = words
    os.set_inheritable(int(report), False)
    try:
        _tie_to(int(parent))
        _restore_signals()
        for pair in limits.split(","):
            which, _, value = pair.partition("=")
            resource.setrlimit(int(which), (int(value), int(value)))
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "no_new_privs")
        if int(ruleset) >= 0:
            _restrict_files(int(ruleset), int(own_rights))
        if calls:
            _filter_calls(bytes.fromhex(calls))
        if program == "-":
            os.write(1, _refusals().encode())
            os._exit(0)
        os.execve(program, [program, *arguments], os.environ)  # noqa: S606 - the whole point
    except (OSError, ValueError) as error:
        where = error.filename if isinstance(error, OSError) else "limits"
        os.write(
            int(report),
            f"{where}: {getattr(error, 'strerror', None) or type(error).__name__}".encode(),
        )
        os._exit(_FAILED)
