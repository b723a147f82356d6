"""A real job inside the sandbox, run by test_sandbox_sandbox.py as its own process:
`sandboxed_job.py SPEC_JSON ATTEMPTS_JSON`.

Locks itself in, decodes a clip with PyAV, resizes with OpenCV, runs a convolution on several torch
threads, writes into the work directory, and tries every way out. Prints one JSON object: the level,
what the work gave, what each attempt said.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_worker_processors.sandbox import level as level_module
from gpu_worker_processors.sandbox.level import SandboxSpec, apply

PTRACE_SEIZE = 0x4206


def attempt(action: Callable[[], object]) -> str:
    """ "done", or the name of the errno."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def raw(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


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


def main() -> int:
    spec = SandboxSpec.from_json(sys.argv[1])
    wanted = json.loads(sys.argv[2])
    level = apply(spec)
    work = spec.work_root
    secret = Path(wanted["secret"])
    answer: dict[str, Any] = {"level": level.summary(), "uid": os.getuid()}
    tries = outbreaks(secret, wanted["port"], Path(wanted["outside"]), work)
    answer["attempts"] = {name: attempt(tries[name]) for name in wanted["only"] or tries}
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
