"""The system calls that Python does not wrap: raw `syscall(2)` and `prctl(2)` through the C
library, errors as `OSError`."""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
"""linux/prctl.h."""

MACHINES = ("x86_64", "aarch64")
"""Machines with a system call table here."""


def machine() -> str:
    """The running kernel's machine name when this process uses its native 64-bit calls, else ""."""
    name = os.uname().machine
    return name if name in MACHINES and struct.calcsize("P") == 8 else ""


def call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """`syscall(number, ...)`. Integers are passed as longs, bytes and buffers by address.

    Raises:
        OSError: with the kernel's errno.
    """
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """`prctl(option, value, 0, 0, 0)`.

    Raises:
        OSError: with the kernel's errno.
    """
    if (
        _libc.prctl(
            option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)
        )
        != 0
    ):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
