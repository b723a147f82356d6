"""seccomp: the list of system calls that a sandboxed process is refused, as a classic BPF program
built by pure functions.

A deny list, not an allow list: an interpreter with torch and a GPU driver uses more calls than can
be foreseen, and file rights are Landlock's task. What is refused here is what Landlock does not
know, or knows only in newer kernels: every socket that can reach anybody (so no network and no
docker.sock), shared memory and message queues, reading, signalling or slowing other processes,
leaving the process group, namespaces, mounts, kernel interfaces with a record of bugs, links that
could fool the parent into delivering another file, changing owners, modes, times and attributes,
watching folders and, unless the job may spawn a program, new processes. A refused call gives EPERM;
a call of a foreign architecture ends the process.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass
from typing import Literal

from gpu_worker_processors.sandbox import kernel
from gpu_worker_processors.sandbox.syscalls import AARCH64, X86_64

_TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""linux/audit.h."""
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_X32_BIT = 0x40000000
"""Calls of the x32 ABI carry this bit and would slip past the numbers of the 64-bit table."""

_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
"""linux/seccomp.h."""

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
AND = 0x54
"""linux/bpf_common.h: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_JMP|JSET|K, BPF_RET|K,
BPF_ALU|AND|K."""
_NUMBER_OFFSET, _ARCH_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
"""struct seccomp_data; each of the six arguments has 8 bytes, the low half first on both
machines."""

CLONE_THREAD = 0x00010000
CLONE_NEW_NAMESPACE = 0x7E020000
"""CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET of linux/sched.h. (NEWTIME exists in
clone3 and unshare only.)"""
CLONE_PARENT = 0x00008000
"""The new process would be the worker's child."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
"""Typing into the terminal that the worker was started from."""
_FIOASYNC, _FIOSETOWN, _SIOCSPGRP = 0x5452, 0x8901, 0x8902
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY = 8, 10, 15, 1024, 1026
_F_SETFL, _O_ASYNC = 4, 0o20000
"""asm-generic/ioctls.h and sockios.h, linux/fcntl.h: a descriptor that sends a signal to a process
of one's choice when it becomes ready; a lease that holds up whoever opens the file."""
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
"""linux/prctl.h: not to end with the parent; to adopt orphans."""
_AF_UNIX, _NOT_STREAM = 1, 0b1110
"""Types of socket with one of these bits: datagram, raw, seqpacket. linux/net.h."""
_O_TRUNC_TO_READ, _O_TRUNC_OR_WRITE = 0o1000, 0o1003
"""O_TRUNC with O_RDONLY, among O_TRUNC|O_ACCMODE. asm-generic/fcntl.h."""

NETWORK = (
    *("socket", "connect", "bind", "listen", "accept", "accept4"),
    *("sendmsg", "sendmmsg"),
)
"""`socket` for every family: Landlock does not bind UDP, raw or UNIX sockets. A pair of stream
sockets leads nowhere and stays; a datagram socket of a pair can still send to any path."""
SHARED_MEMORY = (
    *("shmget", "shmat", "shmctl"),
    *("msgget", "msgsnd", "msgrcv", "msgctl"),
    *("semget", "semop", "semtimedop", "semctl"),
    *("mq_open", "mq_unlink"),
)
"""System V and POSIX queues have no path that Landlock could close, and outlive the worker."""
OTHER_PROCESSES = (
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "kcmp",
    "perf_event_open",
    "kill",
    "tkill",
    "pidfd_send_signal",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "process_madvise",
    "process_mrelease",
    "migrate_pages",
    "move_pages",
    "setpriority",
    "ioprio_set",
    "setsid",
    "setpgid",
)
"""The last two leave the group by which a process is ended with all it started. Even who starts a
program signals nobody: `program` ends it by letting go of the thread that holds it."""
NAMESPACES = (
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
)
KERNEL = (
    "bpf",
    "keyctl",
    "add_key",
    "request_key",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    *(
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "open_by_handle_at",
        "name_to_handle_at",
    ),
    "memfd_secret",
    "quotactl",
    "swapon",
    "swapoff",
    "reboot",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "sethostname",
    "setdomainname",
    "acct",
    "syslog",
    "iopl",
    "ioperm",
    "vhangup",
)
FILE_IDENTITY = (
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("getxattr", "lgetxattr", "fgetxattr", "getxattrat"),
    *("listxattr", "llistxattr", "flistxattr", "listxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    *("utime", "utimes", "futimesat", "utimensat", "file_setattr"),
    "truncate",
)
"""Landlock has no right for any of these but `truncate`, and for that from ABI 3 on."""
WATCHES = (
    *("inotify_init", "inotify_init1", "inotify_add_watch"),
    *("fanotify_init", "fanotify_mark"),
)
"""They say the names of files in folders that Landlock lets nobody list."""
SPAWN = ("fork", "vfork", "execve", "execveat")
_ONLY_PROGRAMS = ("fork", "vfork", "execveat", "tgkill", "memfd_create")
"""What no foreign program needs: a process, a program of its own making, a signal to anybody."""


@dataclass(frozen=True)
class Denial:
    """One refused call, always or only when the low half of one argument passes a test."""

    syscall: str
    errno: int = errno.EPERM
    argument: int = 0
    test: Literal["always", "equal", "not_equal", "any_bit", "no_bit"] = "always"
    value: int = 0
    mask: int = 0xFFFFFFFF
    """What of the argument is compared."""
    command: int | None = None
    """Only where argument 1 is this, as for one command of fcntl."""


_EVERYBODY = (
    *(*NETWORK, *SHARED_MEMORY, *OTHER_PROCESSES, *NAMESPACES),
    *(*KERNEL, *FILE_IDENTITY, *WATCHES),
)
_NO_PROCESS = Denial("clone", test="no_bit", value=CLONE_THREAD)
_TIED = Denial("prctl", test="equal", value=_SET_PDEATHSIG)
_BY_ARGUMENT = (
    Denial("clone", test="any_bit", value=CLONE_NEW_NAMESPACE | CLONE_PARENT),
    # Its flags lie behind a pointer that a filter cannot follow; on ENOSYS the C library uses
    # clone.
    Denial("clone3", errno=errno.ENOSYS),
    *(
        Denial(name, argument=0, test="not_equal", value=0)  # 0 is the caller itself
        for name in (
            "prlimit64",
            "sched_setaffinity",
            "sched_setscheduler",
            "sched_setparam",
            "sched_setattr",
        )
    ),
    *(
        Denial("ioctl", argument=1, test="equal", value=request)
        for request in (_TIOCSTI, _TIOCLINUX, _FIOASYNC, _FIOSETOWN, _SIOCSPGRP)
    ),
    *(
        Denial("fcntl", argument=1, test="equal", value=command)
        for command in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _F_SETLEASE, _F_NOTIFY)
    ),
    Denial("fcntl", argument=2, test="any_bit", value=_O_ASYNC, command=_F_SETFL),
    Denial("prctl", test="equal", value=_SET_CHILD_SUBREAPER),
    Denial("socketpair", argument=0, test="not_equal", value=_AF_UNIX),
    Denial("socketpair", argument=1, test="any_bit", value=_NOT_STREAM),
    Denial("sendto", argument=5, test="not_equal", value=0),  # the length of an address
    # Before ABI 3 Landlock lets a file be truncated by who may not write it. openat2 has its flags
    # behind a pointer.
    Denial("open", argument=1, test="equal", value=_O_TRUNC_TO_READ, mask=_O_TRUNC_OR_WRITE),
    Denial("openat", argument=2, test="equal", value=_O_TRUNC_TO_READ, mask=_O_TRUNC_OR_WRITE),
    Denial("openat2", errno=errno.ENOSYS),
)
"""Refused to everybody, by what is asked of the call."""

Instruction = tuple[int, int, int, int]
"""`struct sock_filter`: code, jump if true, jump if false, constant."""


def denials(*, may_spawn: bool, pid: int) -> tuple[Denial, ...]:
    """What the engine with this process id is refused; `may_spawn` leaves it fork and execve
    (Landlock then decides which programs)."""
    listed = [Denial(name) for name in _EVERYBODY]
    listed.append(Denial("tgkill", test="not_equal", value=pid))  # abort() of our own needs it
    if not may_spawn:
        listed += [*(Denial(name) for name in SPAWN), _NO_PROCESS, _TIED]
    return (*listed, *_BY_ARGUMENT)


def program_denials(*, gpu: bool) -> tuple[Denial, ...]:
    """What a foreign program is refused: all that an engine is, and every new process. `execve`
    stays, because it starts the program; Landlock leaves it nothing else to execute. With `gpu` the
    CUDA driver keeps its memory files."""
    names = (*_EVERYBODY, *_ONLY_PROGRAMS)
    spared = ("memfd_create",) if gpu else ()
    listed = (Denial(name) for name in names if name not in spared)
    return (*listed, _NO_PROCESS, _TIED, *_BY_ARGUMENT)


def program(machine: str, denied: tuple[Denial, ...]) -> list[Instruction]:
    """The filter for one machine. A call that its table does not have is left out: the machine does
    not have it either."""
    table = _TABLES[machine]
    instructions: list[Instruction] = [
        (LOAD, 0, 0, _ARCH_OFFSET),
        (JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (RETURN, 0, 0, RET_KILL_PROCESS),
        (LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        instructions += [(JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), (RETURN, 0, 0, RET_KILL_PROCESS)]
    for denial in denied:
        if denial.syscall in table:
            instructions += _refuse(table[denial.syscall], denial)
    return [*instructions, (RETURN, 0, 0, RET_ALLOW)]


def _refuse(number: int, denial: Denial) -> list[Instruction]:
    answer = (RETURN, 0, 0, RET_ERRNO | denial.errno)
    if denial.test == "always":
        return [(JUMP_EQUAL, 0, 1, number), answer]
    jump = JUMP_EQUAL if denial.test in ("equal", "not_equal") else JUMP_ANY_BIT
    on_true, on_false = (0, 1) if denial.test in ("equal", "any_bit") else (1, 0)
    only: list[Instruction] = []
    if denial.command is not None:
        only = [(LOAD, 0, 0, _ARGUMENTS_OFFSET + 8), (JUMP_EQUAL, 0, 4, denial.command)]
    return [
        (JUMP_EQUAL, 0, 5 + len(only), number),
        *only,
        (LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * denial.argument),
        (AND, 0, 0, denial.mask),
        (jump, on_true, on_false, denial.value),
        answer,
        (LOAD, 0, 0, _NUMBER_OFFSET),
    ]


def packed(machine: str, denied: tuple[Denial, ...]) -> bytes:
    """`program` as the kernel takes it: 8 bytes an instruction."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program(machine, denied))


def install(machine: str, denied: tuple[Denial, ...]) -> None:
    """Lays the filter upon every thread of this process, for good. Needs no_new_privs.

    Raises:
        OSError: the kernel has no seccomp filters or refuses this one.
    """
    code = packed(machine, denied)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if kernel.call(_SECCOMP[machine], _SET_MODE_FILTER, _FLAG_TSYNC, header) != 0:
        raise OSError(errno.EBUSY, "a thread could not be brought under the filter")
