"""The pure parts of the sandbox: the BPF program, run by an interpreter of its own, and the
numbers, held against the headers."""

from __future__ import annotations

import errno
import re
import resource
from pathlib import Path

import pytest

from gpu_worker_processors.sandbox import identity, landlock, rlimits, seccomp
from gpu_worker_processors.sandbox.landlock import Access
from gpu_worker_processors.sandbox.syscalls import AARCH64, X86_64

PID = 4242
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
EVERYDAY = {
    # read write openat mmap futex exit_group fcntl memfd_create
    "x86_64": (0, 1, 257, 9, 202, 231, 72, 319),
    "aarch64": (63, 64, 56, 222, 98, 94, 25, 279),
}


def evaluate(
    program: list[seccomp.Instruction], arch: int, number: int, arguments: tuple[int, ...] = ()
) -> int:
    """What the kernel's BPF machine would return: the six opcodes of linux/bpf_common.h that such
    a filter may use here."""
    data = {0: number, 4: arch} | {
        16 + 8 * i: value & 0xFFFFFFFF for i, value in enumerate(arguments)
    }
    accumulator = at = 0
    while True:
        code, on_true, on_false, constant = program[at]
        at += 1
        if code == 0x06:
            return constant
        if code == 0x20:
            accumulator = data.get(constant, 0)
            continue
        if code == 0x54:
            accumulator &= constant
            continue
        taken = {
            0x15: accumulator == constant,
            0x35: accumulator >= constant,
            0x45: bool(accumulator & constant),
        }[code]
        at += on_true if taken else on_false


def verdict(machine: str, name: str, *arguments: int, may_spawn: bool = False) -> int:
    program = seccomp.program(machine, seccomp.denials(may_spawn=may_spawn, pid=PID))
    return evaluate(program, ARCH[machine], TABLES[machine][name], arguments)


machines = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


@machines
def test_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[machine].read_text()
    known = {
        name: int(number)
        for name, number in re.findall(r"#define __NR3?2?6?4?_(\w+)\s+(\d+)\s*$", text, re.M)
    }
    ours = {name: number for name, number in TABLES[machine].items() if name in known}
    assert len(ours) > 60
    assert ours == {name: known[name] for name in ours}


@machines
def test_every_denied_call_is_in_the_table_of_the_machine_that_has_it(machine: str) -> None:
    old_forms = {
        "fork",
        "vfork",
        "mknod",
        "symlink",
        "link",
        "chmod",
        "chown",
        "lchown",
        "iopl",
        "ioperm",
        "utime",
        "utimes",
        "futimesat",
        "inotify_init",
        "open",
    }
    named = {
        denial.syscall
        for may_spawn in (False, True)
        for denial in seccomp.denials(may_spawn=may_spawn, pid=PID)
    }
    assert named - set(TABLES[machine]) == (old_forms if machine == "aarch64" else set())


@machines
@pytest.mark.parametrize(
    "name",
    [
        "socket",
        "connect",
        "ptrace",
        "unshare",
        "mount",
        "bpf",
        "io_uring_setup",
        "symlinkat",
        "kill",
        "sendmsg",
        "shmget",
        "msgget",
        "semget",
        "mq_open",
        "setsid",
        "setpgid",
        "setpriority",
        "ioprio_set",
        "utimensat",
        "getxattr",
        "truncate",
        "inotify_init1",
        "inotify_add_watch",
        "fanotify_mark",
    ],
)
@pytest.mark.parametrize("may_spawn", [False, True])
def test_refused(machine: str, name: str, may_spawn: bool) -> None:
    assert verdict(machine, name, may_spawn=may_spawn) == EPERM


@machines
@pytest.mark.parametrize("may_spawn", [False, True])
def test_everyday_calls_pass(machine: str, may_spawn: bool) -> None:
    program = seccomp.program(machine, seccomp.denials(may_spawn=may_spawn, pid=PID))
    assert {evaluate(program, ARCH[machine], number) for number in EVERYDAY[machine]} == {ALLOW}


@machines
@pytest.mark.parametrize(
    ("name", "arguments", "may_spawn", "expected"),
    [
        pytest.param(
            "clone", (0x3D0F00,), False, ALLOW, id="a thread"
        ),  # the flags of pthread_create in glibc
        pytest.param("clone", (17,), False, EPERM, id="a process"),  # SIGCHLD alone is fork
        pytest.param("clone", (17,), True, ALLOW, id="a process, allowed"),
        pytest.param("clone", (0x10000000 | 17,), True, EPERM, id="a user namespace"),
        pytest.param(
            "clone", (0x40000000 | 0x3D0F00,), False, EPERM, id="a thread in a network namespace"
        ),
        pytest.param("clone3", (), False, ENOSYS, id="clone3 is not there"),
        pytest.param("execve", (), False, EPERM, id="exec"),
        pytest.param("execve", (), True, ALLOW, id="exec, allowed"),
        pytest.param("clone", (0x8000 | 17,), True, EPERM, id="a child of the parent"),
        pytest.param("socketpair", (1, 1 | 0x80000), False, ALLOW, id="a stream pair"),
        pytest.param("socketpair", (1, 2 | 0x80000), True, EPERM, id="a datagram pair"),
        pytest.param("socketpair", (30, 1), True, EPERM, id="a pair of another family"),
        pytest.param("sendto", (3, 0, 9, 0, 0, 0), False, ALLOW, id="send"),
        pytest.param("sendto", (3, 0, 9, 0, 0, 110), False, EPERM, id="send to an address"),
        pytest.param("fcntl", (3, 8, 1), True, EPERM, id="F_SETOWN"),
        pytest.param("fcntl", (3, 10, 9), True, EPERM, id="F_SETSIG"),
        pytest.param("fcntl", (3, 4, 0x800), True, ALLOW, id="F_SETFL"),
        pytest.param("ioctl", (3, 0x8901), True, EPERM, id="FIOSETOWN"),
        pytest.param("prctl", (36, 1), True, EPERM, id="adopting orphans"),
        pytest.param("prctl", (1, 0), False, EPERM, id="untied from the parent"),
        pytest.param("prctl", (1, 9), True, ALLOW, id="a program tied to its starter"),
        pytest.param("sched_setaffinity", (0, 8), False, ALLOW, id="own cores"),
        pytest.param("sched_setaffinity", (1, 8), False, EPERM, id="cores of another process"),
        pytest.param("openat", (3, 0, 0o1000), False, EPERM, id="truncated by a reader"),
        pytest.param("openat", (3, 0, 0o2001000), False, EPERM, id="the same, closed on exec"),
        pytest.param("openat", (3, 0, 0o1101), False, ALLOW, id="truncated by a writer"),
        pytest.param("tgkill", (PID, PID, 6), False, ALLOW, id="abort() of our own"),
        pytest.param("tgkill", (1, 1, 9), False, EPERM, id="a thread of another process"),
        pytest.param("prlimit64", (0, 7), False, ALLOW, id="own limits"),
        pytest.param("prlimit64", (1, 7), False, EPERM, id="limits of another process"),
        pytest.param("ioctl", (0, 0x5401), False, ALLOW, id="TCGETS"),
        pytest.param("fcntl", (0, 4, 0o4000), False, ALLOW, id="F_SETFL O_NONBLOCK"),
        pytest.param("fcntl", (0, 4, 0o24000), False, EPERM, id="F_SETFL O_ASYNC"),
        pytest.param("fcntl", (0, 1031, 0o20000), False, ALLOW, id="F_SETPIPE_SZ of 8192"),
        pytest.param("ioctl", (0, 0x5412), False, EPERM, id="TIOCSTI"),
        pytest.param("ioctl", (0, 0xFFFFFFFF00005412), False, EPERM, id="TIOCSTI behind high bits"),
    ],
)
def test_refused_by_argument(
    machine: str, name: str, arguments: tuple[int, ...], may_spawn: bool, expected: int
) -> None:
    assert verdict(machine, name, *arguments, may_spawn=may_spawn) == expected


def test_foreign_architectures_end_the_process() -> None:
    program = seccomp.program("x86_64", seccomp.denials(may_spawn=False, pid=PID))
    i386, x32_socket = 0x40000003, 0x40000000 | 41
    assert evaluate(program, i386, 102) == KILL
    assert evaluate(program, ARCH["x86_64"], x32_socket) == KILL


@machines
def test_the_program_fits_the_kernels_rules(machine: str) -> None:
    """BPF_MAXINSNS, and every jump lands inside."""
    program = seccomp.program(machine, seccomp.denials(may_spawn=False, pid=PID))
    assert len(program) <= 4096
    for at, (code, on_true, on_false, _) in enumerate(program):
        if code != 0x06:
            assert at + 1 + max(on_true, on_false) < len(program)


@pytest.mark.parametrize(
    ("version", "size", "rights"),
    [
        pytest.param(1, 8, 13, id="Linux 5.13"),
        pytest.param(2, 8, 14, id="5.19 adds refer"),
        pytest.param(3, 8, 15, id="6.2 adds truncate"),
        pytest.param(4, 16, 15, id="6.7 adds TCP"),
        pytest.param(5, 16, 16, id="6.10 adds device ioctl"),
        pytest.param(6, 24, 16, id="6.12 adds scopes"),
        pytest.param(9, 24, 16, id="a newer kernel than we know"),
    ],
)
def test_ruleset_of_each_landlock_version(version: int, size: int, rights: int) -> None:
    assert len(landlock.ruleset_attribute(version)) == size
    assert int(landlock.handled_access(version)) == (1 << rights) - 1


def test_a_job_may_make_no_links_devices_sockets_or_programs() -> None:
    for right in (
        Access.MAKE_SYM,
        Access.MAKE_CHAR,
        Access.MAKE_BLOCK,
        Access.MAKE_SOCK,
        Access.MAKE_FIFO,
        Access.EXECUTE,
    ):
        assert not landlock.WORK & right


def test_limits_never_rise_above_what_is_allowed() -> None:
    hard = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 500,
        resource.RLIMIT_NOFILE: -1,
        resource.RLIMIT_NPROC: 90,
    }
    assert rlimits.plan(1000, 100, hard) == {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 500,
        resource.RLIMIT_NOFILE: 4096,
        resource.RLIMIT_NPROC: 90,
    }


def test_a_closed_folder_on_the_way_is_found(tmp_path: Path) -> None:
    stranger = 60099
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    for folder in (*reversed(tmp_path.parents), tmp_path):
        if not folder.stat().st_mode & 0o001:
            assert identity.first_closed(closed / "in", stranger) == folder
            return
    closed.chmod(0o700)
    assert identity.first_closed(closed / "in", stranger) == closed
    closed.chmod(0o755)
    assert identity.first_closed(closed / "in", stranger) is None
