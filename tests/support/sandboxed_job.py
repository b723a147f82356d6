"""A real job inside the sandbox, run by the tests of the sandbox as its own process:
`sandboxed_job.py SPEC_JSON ATTEMPTS_JSON`.

Locks itself in, decodes a clip with PyAV, resizes with OpenCV, runs a convolution on several torch
threads, writes into the work directory, and tries every way out. Prints one JSON object: the level,
what the work gave, what each attempt said.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import ErrorBody
from gpu_worker_processors.sandbox import landlock
from gpu_worker_processors.sandbox import level as level_module
from gpu_worker_processors.sandbox.level import SandboxSpec, apply

PTRACE_SEIZE = 0x4206
IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0
F_SETSIG, F_SETOWN_EX, FIOASYNC, FIOSETOWN, SIOCSPGRP = 10, 15, 0x5452, 0x8901, 0x8902
PR_SET_CHILD_SUBREAPER = 36
IN_CREATE, FAN_MARK_ADD = 0x100, 1
IOPRIO_SET, IOPRIO_GET = {"x86_64": (251, 252), "aarch64": (30, 31)}[os.uname().machine]


def attempt(action: Callable[[], object]) -> str:
    """ "done", or the name of the errno."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def raw(name: str, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = getattr(libc, name)(*map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def connect(port: int) -> None:
    with socket.socket() as ours:
        ours.connect(("127.0.0.1", port))


def send_datagram(path: Path) -> None:
    """Without a call of socket() or connect()."""
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendto(b"out", str(path))


def send_message(path: Path) -> None:
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.sendmsg([b"out"], [], 0, str(path))


def reconnect(path: Path) -> None:
    ours, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.connect(str(path))
    ours.send(b"out")


def watch(folder: Path) -> None:
    """The names of new files in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    end = raw("inotify_init1", 0)
    if libc.inotify_add_watch(end, bytes(folder), IN_CREATE) < 0:
        raise OSError(ctypes.get_errno(), "inotify_add_watch")


def make_queue() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    name = f"/gpu-worker-test-{os.getpid()}".encode()
    if libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
        raise OSError(ctypes.get_errno(), "mq_open")
    libc.mq_unlink(name)


def on_a_pipe(call: Callable[[int], object]) -> Callable[[], object]:
    """Does a thing to a fresh descriptor."""

    def attempt() -> None:
        ends = os.pipe()
        try:
            call(ends[0])
        finally:
            for end in ends:
                os.close(end)

    return attempt


def owned_by_the_parent(end: int) -> None:
    """As the kernel has it: struct f_owner_ex {F_OWNER_PID, parent}."""
    owner = (ctypes.c_int * 2)(1, os.getppid())
    if ctypes.CDLL(None, use_errno=True).fcntl(end, F_SETOWN_EX, owner) < 0:
        raise OSError(ctypes.get_errno(), "fcntl")


def own_by_ioctl(request: int) -> None:
    """What sockets take; `socketpair` of streams is there."""
    ours, _ = socket.socketpair()
    fcntl.ioctl(ours, request, struct.pack("i", os.getppid()))


def in_a_child(call: Callable[[], object]) -> Callable[[], object]:
    """A leader of a group cannot leave it; its child can."""

    def attempt() -> None:
        child = os.fork()
        if child == 0:
            try:
                call()
            except OSError as error:
                os._exit(error.errno or 255)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise OSError(status, "in the child")

    return attempt


def outbreaks(
    secret: Path, port: int, outside: Path, work: Path
) -> dict[str, Callable[[], object]]:
    """What malicious code in a decoder would try."""
    return {
        "read_secret": secret.read_text,
        "list_home": lambda: list(secret.parent.iterdir()),
        "parent_environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "connect": lambda: connect(port),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "write_outside": lambda: (outside / "x").write_text("x"),
        "write_tmp": lambda: Path(f"/tmp/gpu-worker-test-{os.getpid()}").write_text("x"),
        "delete_outside": secret.unlink,
        "truncate_outside": lambda: os.truncate(secret, 0),
        "chmod_outside": lambda: secret.chmod(0o777),
        "symlink": lambda: (work / "out.mp4").symlink_to(secret),
        "hardlink": lambda: os.link(secret, work / "stolen"),
        "move_in": lambda: secret.rename(work / "stolen"),
        "ptrace_parent": lambda: raw("ptrace", PTRACE_SEIZE, os.getppid(), 0, 0),
        "signal_parent": lambda: os.kill(os.getppid(), 0),
        "limit_parent": lambda: raw("prlimit", os.getppid(), 7, 0, 0),
        "fork": lambda: os.waitpid(os.fork() or os._exit(0), 0),
        "exec": lambda: subprocess.run(["/bin/true"], check=False),
        "unshare": lambda: raw("unshare", 0x10000000),
        "mount": lambda: raw("mount", 0, 0, 0, 0, 0),
        "write_program": lambda: Path(level_module.__file__).open("ab").close(),
        "list_beside_work": lambda: list(work.parent.iterdir()),
        "watch_outside": lambda: watch(outside),
        "watch_beside_work": lambda: watch(work.parent),
        "mark_outside": lambda: raw("fanotify_mark", -1, FAN_MARK_ADD, IN_CREATE, -1, 0),
        "network_state": Path("/proc/net/tcp").read_bytes,
        "network_of_a_thread": Path(f"/proc/self/task/{os.getpid()}/net/unix").read_bytes,
        "unix_datagram": lambda: send_datagram(outside / "mailbox"),
        "unix_message": lambda: send_message(outside / "mailbox"),
        "unix_reconnected": lambda: reconnect(outside / "mailbox"),
        "shared_memory": lambda: raw(
            "shmctl", raw("shmget", IPC_PRIVATE, 4096, IPC_CREAT | 0o600), IPC_RMID, 0
        ),
        "message_queue": lambda: raw(
            "msgctl", raw("msgget", IPC_PRIVATE, IPC_CREAT | 0o600), IPC_RMID, 0
        ),
        "semaphore": lambda: raw(
            "semctl", raw("semget", IPC_PRIVATE, 1, IPC_CREAT | 0o600), 0, IPC_RMID
        ),
        "posix_queue": make_queue,
        "owner_of_a_pipe": on_a_pipe(lambda end: fcntl.fcntl(end, fcntl.F_SETOWN, os.getppid())),
        "owner_ex_of_a_pipe": on_a_pipe(owned_by_the_parent),
        "signal_of_a_pipe": on_a_pipe(lambda end: fcntl.fcntl(end, F_SETSIG, 9)),
        "async_of_a_pipe": on_a_pipe(lambda end: fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC)),
        "owner_by_fiosetown": lambda: own_by_ioctl(FIOSETOWN),
        "owner_by_siocspgrp": lambda: own_by_ioctl(SIOCSPGRP),
        "async_by_ioctl": lambda: own_by_ioctl(FIOASYNC),
        "adopt_orphans": lambda: raw("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
        "session": in_a_child(os.setsid),
        "group": in_a_child(os.setpgrp),
        "nice_parent": lambda: os.setpriority(
            os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, os.getppid())
        ),
        "cores_of_parent": lambda: os.sched_setaffinity(
            os.getppid(), os.sched_getaffinity(os.getppid())
        ),
        "class_of_parent": lambda: os.sched_setscheduler(
            os.getppid(), os.SCHED_OTHER, os.sched_param(0)
        ),
        "disk_share_of_parent": lambda: raw(
            "syscall", IOPRIO_SET, 1, os.getppid(), raw("syscall", IOPRIO_GET, 1, os.getppid())
        ),
        "times_outside": lambda: os.utime(secret),
        "attribute_outside": lambda: os.setxattr(secret, "user.canary", b"1"),
        "read_attributes": lambda: os.listxattr(secret),
        "truncate_by_reading": lambda: os.close(os.open(secret, os.O_RDONLY | os.O_TRUNC)),
    }


def decode(clip: Path) -> int:
    import av

    with av.open(str(clip)) as container:
        return sum(1 for _ in container.decode(video=0))


def compute() -> dict[str, Any]:
    import cv2
    import numpy as np
    import torch

    torch.set_num_threads(2)
    net = torch.nn.Conv2d(3, 8, 3, padding=1)
    with torch.inference_mode():
        result = net(torch.ones(1, 3, 256, 256))
    small = cv2.resize(np.ones((64, 64, 3), np.uint8), (32, 32), interpolation=cv2.INTER_AREA)
    return {"conv": list(result.shape), "resized": list(small.shape)}


def in_thread(action: Callable[[], str]) -> str:
    """The same attempt on a thread that starts after the sandbox is closed."""
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(action()))
    thread.start()
    thread.join()
    return said[0]


def become(user: int) -> None:
    """This process and its parent are this user's from here on. Not before: the interpreter may lie
    where only root can read, and so may what `apply` imports."""
    ErrorBody.model_rebuild()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def main() -> int:
    spec = SandboxSpec.from_json(sys.argv[1])
    wanted = json.loads(sys.argv[2])
    if wanted["abi"] is not None:
        landlock.abi = lambda: wanted["abi"]  # an older kernel
    if wanted["user"]:
        become(wanted["user"])
    level = apply(spec)
    work = spec.work_root
    secret = Path(wanted["secret"])
    answer: dict[str, Any] = {"level": level.summary(), "uid": os.getuid()}
    tries = outbreaks(secret, wanted["port"], Path(wanted["outside"]), work)
    answer["attempts"] = {name: attempt(tries[name]) for name in wanted["only"] or tries}
    if not wanted["clip"]:
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    answer["thread_read"] = in_thread(lambda: attempt(secret.read_text))
    answer["decoded"] = decode(Path(wanted["clip"]))
    if wanted["compute"]:
        answer["compute"] = compute()
    (work / "sub").mkdir()
    (work / "sub" / "result.bin").write_bytes(b"x" * 1000)
    (work / "sub" / "result.bin").rename(work / "result.bin")
    with tempfile.NamedTemporaryFile() as scratch:
        answer["scratch"] = scratch.name
    answer["too_large"] = attempt(
        lambda: (work / "big").write_bytes(b"x" * (spec.max_output_bytes + 1))
    )
    if spec.executables:
        answer["ran"] = attempt(lambda: subprocess.run([str(spec.executables[0])], check=True))
    status = Path("/proc/self/status").read_text()
    answer["status"] = {
        line.split(":")[0]: line.split(":")[1].strip() for line in status.splitlines()
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
