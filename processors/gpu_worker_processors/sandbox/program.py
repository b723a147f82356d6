"""Runs a foreign program (FFmpeg) in a sandbox of its own, tighter than its caller's.

The program may read its own file, the system's libraries and the files it is given; it may write
the files it is given, and those must exist; it has no network, starts no process, signals nobody,
leaves no core, and ends with its caller. It stays in its caller's process group, so
that whoever kills the group gets it too. Everything is worked out here, in the caller; `enter` only
carries it out.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits, Policy
from gpu_worker_processors.sandbox import enter, kernel, landlock, seccomp
from gpu_worker_processors.sandbox.landlock import DEVICE, READ, WORK, Access, Rule

REFUSALS = frozenset({"read", "write", "times", "tcp", "udp", "unix", "memory", "signal", "nice"})
"""Every way out that the sandbox must have shut; the names are those of `enter`."""

OWN_OPEN_FILES = 256
"""Beside the inputs: standard streams and output, the libraries while they load, the card's device
nodes."""
_CANARY_SECONDS = 30.0
_ENTER = "import sys; sys.path.insert(0, sys.argv.pop(1)); import enter; enter.main(sys.argv[1:])"
"""Imported, not run as a script: a script is compiled anew each time, which is a tenth of what a
start costs."""

_LIBRARIES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/etc/ld.so.cache",
)
_KERNEL_FACTS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
_GPU_FACTS = (
    "/usr/local/nvidia",
    "/usr/local/cuda",
    "/usr/share/nvidia",
    "/etc/nvidia",
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/modules",
    "/proc/sys/vm",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module",
)
_GPU_DEVICES = ("nvidia*", "dxg")
_GPU_VARIABLES = ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Confinement:
    """What one run may do."""

    work_dir: Path
    """Its current directory and home; nothing in it may be touched that is not listed below."""
    readable: tuple[Path, ...] = ()
    """Files, or folders with all in them."""
    writable: tuple[Path, ...] = ()
    """Files that exist."""
    folder: Path | None = None
    """In which it may make, change, rename and remove files and folders."""
    openings: int = 0
    """How many of those it has open at once, one that is read twice counted twice."""
    max_file_bytes: int = Limits.max_output_bytes
    """Larger a file cannot become: SIGXFSZ ends the program."""
    max_memory_bytes: int | None = None
    """Of its data (RLIMIT_DATA, not the address space: threads reserve much that they never
    touch)."""
    max_cpu_seconds: int | None = None
    """Of all its threads together: SIGXCPU, a second later SIGKILL."""
    gpu: bool = False
    """Opens the card's device nodes and what the CUDA driver needs. Its memory cannot be limited
    then."""
    variables: tuple[tuple[str, str], ...] = ()
    """Environment variables that the program gets besides its own few."""
    policy: Policy = "require"
    """What to do where a wall cannot be raised: refuse, go on with less, or raise none."""


@dataclass(frozen=True)
class Level:
    """How well a program is confined here."""

    policy: Policy
    landlock_abi: int = 0
    """The kernel's Landlock version; 0 is none."""
    seccomp: bool = False
    refused: frozenset[str] = frozenset()
    """The ways out that were tried and refused, of `REFUSALS`."""

    @property
    def name(self) -> Literal["off", "none", "partial", "full"]:
        """ "full": both filters, and every way out refused when it was tried."""
        if self.policy == "off":
            return "off"
        if self.landlock_abi and self.seccomp and self.refused == REFUSALS:
            return "full"
        return "partial" if self.refused else "none"


class Leashed(subprocess.Popen[bytes]):
    """A program whose life is tied to the thread that started it: `kill` lets that thread go, and
    the kernel does the rest. An engine may send no signal."""

    _leash: threading.Event

    @classmethod
    def start(cls, command: Sequence[str], **options: Any) -> Leashed:
        """As `Popen(command, **options)`, in a thread that lives until `kill` or `wait`."""
        started: Future[Leashed] = Future()

        def hold() -> None:
            try:
                child = cls(command, **options)
            except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                started.set_exception(error)
                return
            child._leash = leash = threading.Event()
            started.set_result(child)
            del child
            leash.wait()

        threading.Thread(target=hold, name="leash", daemon=True).start()
        return started.result()

    def kill(self) -> None:
        self._leash.set()

    def wait(self, timeout: float | None = None) -> int:
        status = super().wait(timeout)
        self._leash.set()
        return status


def start(
    program: Path,
    words: Sequence[str],
    confinement: Confinement,
    env: Mapping[str, str],
    *,
    stdout: int,
    stderr: int,
) -> Leashed:
    """Starts the program and returns once it runs behind its walls.

    Args:
        words: what follows the program's name.
        env: this process's variables; the program gets those of the CUDA driver with `gpu`, and
            none otherwise, besides `confinement.variables`.
        stdout, stderr: as `subprocess.Popen` takes them.

    Raises:
        TaskError: `sandbox_unavailable` when the policy is `require` and this system gives less
            than all.
    """
    if confinement.policy == "require":
        require(level(confinement.policy, gpu=confinement.gpu))
    return _start(
        str(program), words, confinement, _environment(confinement, env), program, stdout, stderr
    )


@lru_cache(maxsize=8)
def level(policy: Policy, *, gpu: bool = False) -> Level:
    """What a sandbox really keeps in here, found by trying: once in a process for each kind."""
    if policy == "off":
        return Level(policy)
    confinement = Confinement(Path("/"), gpu=gpu, policy="best_effort")
    try:
        child = _start("-", (), confinement, {}, None, subprocess.PIPE, subprocess.DEVNULL)
        output, _ = child.communicate(timeout=_CANARY_SECONDS)
    except (TaskError, subprocess.TimeoutExpired):
        output = b""
    refused = frozenset(filter(None, output.decode("ascii", "replace").split(",")))
    return Level(policy, landlock.abi(), bool(kernel.machine()), refused)


def require(found: Level) -> None:
    """
    Raises:
        TaskError: `sandbox_unavailable` unless the level is full.
    """
    if found.name != "full":
        raise TaskError(
            ErrorCode.sandbox_unavailable,
            "this system cannot confine FFmpeg and GPU_WORKER_RENDER_SANDBOX is `require`; run on a"
            " kernel with Landlock and seccomp, or set `best_effort`",
            level=found.name,
            not_refused=sorted(REFUSALS - found.refused),
        )


def _start(
    name: str,
    words: Sequence[str],
    confinement: Confinement,
    env: Mapping[str, str],
    program: Path | None,
    stdout: int,
    stderr: int,
) -> Leashed:
    ruleset = _ruleset(confinement, program)
    reading, report = os.pipe()
    with os.fdopen(reading, "rb") as problems:
        try:
            child = Leashed.start(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    _ENTER,
                    str(Path(enter.__file__).parent),
                    str(os.getpid()),
                    str(report),
                    str(ruleset),
                    _filter(confinement),
                    str(_own_rights(confinement)),
                    _limits(confinement),
                    name,
                    *words,
                ],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=dict(env),
                cwd=confinement.work_dir,
                pass_fds=[fd for fd in (report, ruleset) if fd >= 0],
            )
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise TaskError(
                ErrorCode.invalid_task,
                "the command with all its inputs is longer than the system takes; use fewer inputs,"
                " or join some first",
            ) from error
        finally:
            for fd in (report, ruleset):
                if fd >= 0:
                    os.close(fd)
        problem = problems.read().decode(
            "utf-8", "replace"
        )  # ends with `execve`, or with the process
    if problem:
        child.communicate()
        raise TaskError(
            ErrorCode.sandbox_unavailable,
            f"FFmpeg could not be confined ({problem}); `best_effort` goes on with less",
        )
    return child


def _ruleset(confinement: Confinement, program: Path | None) -> int:
    """File descriptor of a Landlock ruleset; -1 without one."""
    version = landlock.abi() if confinement.policy != "off" else 0
    if version == 0:
        return -1
    try:
        return landlock.create_ruleset(rules(confinement, program), version)
    except OSError as error:
        if confinement.policy == "require":
            problem = f"the kernel refused the rules ({error.strerror})"
            raise TaskError(
                ErrorCode.sandbox_unavailable, f"FFmpeg could not be confined: {problem}"
            ) from error
        return -1


def rules(confinement: Confinement, program: Path | None) -> list[Rule]:
    """The whole allow list."""
    listed = [Rule(Path(path), READ) for path in (*_LIBRARIES, *_KERNEL_FACTS)]
    listed += [Rule(Path("/dev/null"), DEVICE), Rule(Path("/dev/urandom"), READ)]
    listed += [Rule(path, READ) for path in confinement.readable]
    listed += [
        Rule(path, Access.READ_FILE | Access.WRITE_FILE | Access.TRUNCATE)
        for path in confinement.writable
    ]
    if confinement.folder is not None:
        listed.append(Rule(confinement.folder, WORK))
    if program is not None:
        listed += [Rule(path, READ | Access.EXECUTE) for path in (program, *_loaders())]
    if confinement.gpu:
        listed += [Rule(Path(path), READ) for path in _GPU_FACTS]
        listed += [
            Rule(node, DEVICE | READ)
            for pattern in _GPU_DEVICES
            for node in Path("/dev").glob(pattern)
        ]
    return listed


def _loaders() -> list[Path]:
    """The dynamic loader: the kernel executes it before any dynamically linked program."""
    return [path for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-*.so*")]


def _filter(confinement: Confinement) -> str:
    machine = kernel.machine()
    if confinement.policy == "off" or not machine:
        return ""
    return seccomp.packed(machine, seccomp.program_denials(gpu=confinement.gpu)).hex()


def _own_rights(confinement: Confinement) -> int:
    """The CUDA driver names its threads by writing /proc/self/task/*/comm."""
    return int(READ | Access.WRITE_FILE) if confinement.gpu else 0


def _limits(confinement: Confinement) -> str:
    wanted = {
        resource.RLIMIT_CORE: 0,  # a core file would hold the job's frames
        resource.RLIMIT_NOFILE: OWN_OPEN_FILES + confinement.openings,
        resource.RLIMIT_FSIZE: confinement.max_file_bytes,
    }
    if confinement.max_memory_bytes is not None and not confinement.gpu:
        wanted[resource.RLIMIT_DATA] = confinement.max_memory_bytes
    if confinement.max_cpu_seconds is not None:
        wanted[resource.RLIMIT_CPU] = confinement.max_cpu_seconds
    hard = {which: resource.getrlimit(which)[1] for which in wanted}
    allowed = {
        which: v if hard[which] == resource.RLIM_INFINITY else min(v, hard[which])
        for which, v in wanted.items()
    }
    return ",".join(f"{which}={value}" for which, value in allowed.items())


def _environment(confinement: Confinement, env: Mapping[str, str]) -> dict[str, str]:
    """FFREPORT, proxies, LD_PRELOAD and every key stay outside."""
    own = {"LC_ALL": "C", "HOME": str(confinement.work_dir), **dict(confinement.variables)}
    if confinement.gpu:
        own |= {
            name: value
            for name, value in env.items()
            if name in _GPU_VARIABLES or name.startswith("NVIDIA_")
        }
    return own


def stop(child: Leashed) -> None:
    """Ends the program at once and waits for its end."""
    child.kill()
    child.wait()
