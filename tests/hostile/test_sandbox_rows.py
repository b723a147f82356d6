"""Ways out of the engine that other attackers found, tried in the sandbox as an older kernel gives
it, as an ordinary user and as root. The level says of each whether it is shut."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.paths import TESTS

from gpu_worker_processors.sandbox import landlock
from gpu_worker_processors.sandbox.level import SandboxSpec

JOB = TESTS / "support" / "sandboxed_job.py"
ORDINARY_USER = 10001
REFUSED = {"EACCES", "EPERM", "EXDEV"}

ROWS = {
    "read_outside": ("read_secret", "list_home"),
    "read_parent": ("parent_environment",),
    "read_network_state": ("network_state", "network_of_a_thread"),
    "write_outside": ("write_outside",),
    "change_outside": (
        "chmod_outside",
        "times_outside",
        "attribute_outside",
        "read_attributes",
        "truncate_by_reading",
        "truncate_outside",
    ),
    "other_jobs": ("list_beside_work",),
    "watch_folders": ("watch_outside", "watch_beside_work", "mark_outside"),
    "network": ("connect", "udp", "unix"),
    "unix_sockets": ("unix_datagram", "unix_message", "unix_reconnected"),
    "shared_memory": ("shared_memory", "message_queue", "semaphore", "posix_queue"),
    "signal_parent": (
        "signal_parent",
        "owner_of_a_pipe",
        "owner_ex_of_a_pipe",
        "signal_of_a_pipe",
        "owner_by_fiosetown",
        "owner_by_siocspgrp",
        "async_by_ioctl",
        "async_of_a_pipe",
    ),
    "slow_parent": (
        "nice_parent",
        "cores_of_parent",
        "class_of_parent",
        "disk_share_of_parent",
        "limit_parent",
    ),
    "leave_group": ("session", "group"),
}
"""What the level says -> attempts of this test that it speaks of."""

needs_landlock = pytest.mark.skipif(landlock.abi() < 6, reason="this kernel is an older one itself")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@dataclass(frozen=True)
class Yard:
    """A work directory, and beside it what must not be touched."""

    work: Path
    secret: Path
    mailbox: socket.socket

    def mail(self) -> bytes | None:
        try:
            return self.mailbox.recv(100)
        except BlockingIOError:
            return None


@pytest.fixture
def yard() -> Iterator[Yard]:
    """Open to everybody, so that nothing but the sandbox refuses."""
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mailbox,
    ):
        top = Path(name)
        for folder in (top / "work", top / "outside"):
            folder.mkdir()
        secret = top / "outside" / "secret"
        secret.write_text("canary-7431")
        mailbox.bind(str(top / "outside" / "mailbox"))
        mailbox.setblocking(False)
        if os.geteuid() == 0:
            for path in (top, *top.rglob("*")):
                path.chmod(0o777)
                os.chown(path, ORDINARY_USER, ORDINARY_USER)
        yield Yard(top / "work", secret, mailbox)


def attempt(yard: Yard, user: int | None, abi: int | None) -> dict[str, Any]:
    """The job's answer, run by this user on a kernel with this version of Landlock. It may start a
    program, as the engine of `render` may."""
    wanted = {
        "abi": abi,
        "user": user,
        "clip": "",
        "only": [name for names in ROWS.values() for name in names],
        "secret": str(yard.secret),
        "outside": str(yard.secret.parent),
        "port": 9,
    }
    programs = (Path(sys.executable).resolve(),)
    spec = SandboxSpec("best_effort", yard.work, executables=programs)
    done = subprocess.run(
        [sys.executable, str(JOB), spec.to_json(), json.dumps(wanted)],
        cwd=yard.work,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def told(answer: dict[str, Any]) -> dict[str, bool]:
    """What the level says of the rows."""
    return {name: answer["level"]["canaries"][name] for name in ROWS}


def found(answer: dict[str, Any]) -> dict[str, bool]:
    """What the attempts found."""
    said = answer["attempts"]
    return {name: all(said[one] in REFUSED for one in names) for name, names in ROWS.items()}


KERNELS = [
    pytest.param(1, id="Linux 5.13"),
    pytest.param(2, id="5.19"),
    pytest.param(3, id="6.2"),
    pytest.param(4, id="6.7"),
    pytest.param(5, id="6.10"),
    pytest.param(None, id="this one"),
]
USERS = [
    pytest.param(None, id="the worker's user"),
    pytest.param(ORDINARY_USER, id="an ordinary user", marks=needs_root),
]


@needs_landlock
@pytest.mark.parametrize("abi", KERNELS)
@pytest.mark.parametrize("user", USERS)
def test_no_way_out_on_any_kernel_with_landlock(
    yard: Yard, user: int | None, abi: int | None
) -> None:
    answer = attempt(yard, user, abi)
    passed = {name for name, said in answer["attempts"].items() if said not in REFUSED}
    assert not passed
    assert answer["level"]["level"] == "full"
    assert all(told(answer).values())
    assert yard.mail() is None
    assert yard.secret.read_text() == "canary-7431"


@pytest.mark.parametrize("user", USERS)
def test_without_landlock_the_level_says_what_is_open(yard: Yard, user: int | None) -> None:
    answer = attempt(yard, user, 0)
    assert answer["level"]["level"] == "partial"
    assert told(answer) == found(answer)
    open_to_it = {name for name, refused in told(answer).items() if not refused}
    assert open_to_it - {"read_parent"} == {  # which the kernel may refuse for reasons of its own
        "read_outside",
        "read_network_state",
        "write_outside",
        "other_jobs",
    }
    assert yard.mail() is None
