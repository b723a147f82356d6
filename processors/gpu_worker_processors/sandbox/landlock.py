"""Landlock: the kernel's own allow list of file rights, which an unprivileged process may lay upon
itself and never lift again.

Builds a ruleset from `Rule`s, for whatever version (ABI) the kernel has, and restricts the calling
thread and all its future threads and children. What no rule allows is refused with EACCES; TCP, and
signals to or abstract sockets of the outside, are refused as far as the ABI knows them.
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from gpu_worker_processors.sandbox import kernel

# The same numbers on every machine: asm-generic/unistd.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1


class Access(IntFlag):
    """LANDLOCK_ACCESS_FS_* of linux/landlock.h."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    """Move or link between directories; ABI 2."""
    TRUNCATE = 1 << 14
    """ABI 3."""
    IOCTL_DEV = 1 << 15
    """ABI 5."""


READ = Access.READ_FILE | Access.READ_DIR
DEVICE = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
WORK = (
    READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.REFER
    | Access.TRUNCATE
)
"""All that a job needs in its own directory. No links, sockets, pipes or device nodes."""

_FILE_RIGHTS = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)
"""Rights that a rule on something other than a directory may carry; the kernel refuses the rest
with EINVAL."""

_NET_TCP = 0b11
"""Bind and connect; ABI 4."""
_SCOPES = 0b11
"""Abstract UNIX sockets and signals; ABI 6."""


@dataclass(frozen=True)
class Rule:
    """What is allowed on a path and everything beneath it. A path that does not exist is no error:
    the rule is left out."""

    path: Path
    access: Access


def abi() -> int:
    """The kernel's Landlock version, 0 when it has none or does not let us ask."""
    try:
        return kernel.call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def handled_access(version: int) -> Access:
    """Every file right that this ABI can refuse."""
    rights = Access((1 << 13) - 1)
    for since, right in ((2, Access.REFER), (3, Access.TRUNCATE), (5, Access.IOCTL_DEV)):
        if version >= since:
            rights |= right
    return rights


def ruleset_attribute(version: int) -> bytes:
    """`struct landlock_ruleset_attr`, as long as this ABI knows it."""
    fields = [int(handled_access(version))]
    if version >= 4:
        fields.append(_NET_TCP)
    if version >= 6:
        fields.append(_SCOPES)
    return struct.pack(f"<{len(fields)}Q", *fields)


def create_ruleset(rules: Iterable[Rule], version: int) -> int:
    """File descriptor of a ruleset that holds these rules.

    Raises:
        OSError: the kernel refused the ruleset or a rule.
    """
    attribute = ruleset_attribute(version)
    ruleset = kernel.call(_CREATE_RULESET, attribute, len(attribute), 0)
    try:
        for rule in rules:
            _add(ruleset, rule, handled_access(version))
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def _add(ruleset: int, rule: Rule, handled: Access) -> None:
    try:
        beneath = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what cannot be reached now could not be used later either
    try:
        allowed = rule.access & handled
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            allowed &= _FILE_RIGHTS
        if allowed:
            kernel.call(
                _ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", int(allowed), beneath), 0
            )
    finally:
        os.close(beneath)


def restrict(ruleset: int) -> None:
    """Lays the ruleset upon the calling thread, for good, and closes it. Other threads that run
    already stay free.

    Raises:
        OSError: the kernel refused; EPERM when no_new_privs is not set.
    """
    try:
        kernel.call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
