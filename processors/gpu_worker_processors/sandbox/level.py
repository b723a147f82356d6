"""The sandbox around an engine: `apply` locks the calling process in and says, in a `SandboxLevel`,
what was really achieved.

It is called once, in a fresh single-threaded child, before anything of a job is opened. Afterwards
the process can read its own interpreter, packages, libraries and weights, can write only under
`work_root`, has no network and no way to other processes. Unprivileged containers refuse
namespaces, so bubblewrap and the like are out; Landlock, seccomp, rlimits and a spare user need no
privilege. Under `require` anything less than both filters with every canary refused is
`sandbox_unavailable`; `best_effort` takes what the kernel gives and reports it; `off` only ties the
engine to its parent.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskError
from gpu_worker_processors.base import Limits, Policy
from gpu_worker_processors.sandbox import (
    canaries,
    identity,
    kernel,
    landlock,
    lifeline,
    paths,
    rlimits,
    seccomp,
)


@dataclass(frozen=True)
class SandboxSpec:
    """What the parent wants; crosses to the child as JSON."""

    policy: Policy
    work_root: Path
    """The one folder that can be written to. Must exist. What the engine gets in it must belong to
    `user` when there is one."""
    weights_dir: Path | None = None
    max_output_bytes: int = Limits.max_output_bytes
    """Largest file the engine can write."""
    executables: tuple[Path, ...] = ()
    """Programs it may start. Empty: it cannot start a process at all."""
    readable: tuple[Path, ...] = ()
    """Files outside `work_root` that it may read as well."""
    user: int | None = None
    """User id to become, from `identity.spare_user`; None keeps the worker's."""
    user_reason: str = ""
    """Why `user` is None."""

    @classmethod
    def for_engine(
        cls,
        *,
        policy: Policy,
        work_root: Path,
        weights_dir: Path | None,
        max_output_bytes: int,
        executables: tuple[Path, ...] = (),
        readable: tuple[Path, ...] = (),
        slot: int | None = None,
    ) -> SandboxSpec:
        """The sandbox of one engine.

        With a `slot` and a worker that is root, the engine becomes user 60000 + slot, provided that
        user can read all it needs. The parent then gives it its home and every job's directory:
        `identity.hand_over(path, spec.user)`.
        """
        work_root = work_root.resolve()
        user, reason = None, "no slot was given"
        if slot is not None and policy != "off":
            needed = [
                *paths.read_roots(weights_dir),
                *paths.files_in(weights_dir),
                *executables,
                *readable,
                work_root,
            ]
            user, reason = identity.spare_user(slot, needed)
        return cls(
            policy, work_root, weights_dir, max_output_bytes, executables, readable, user, reason
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> SandboxSpec:
        data = cast(dict[str, Any], json.loads(text))
        weights_dir = data.pop("weights_dir")
        return cls(
            work_root=Path(data.pop("work_root")),
            weights_dir=Path(weights_dir) if weights_dir else None,
            executables=tuple(Path(path) for path in data.pop("executables")),
            readable=tuple(Path(path) for path in data.pop("readable")),
            **data,
        )


@dataclass
class SandboxLevel:
    """What was achieved."""

    policy: Policy
    landlock_abi: int = 0
    """The kernel's Landlock version; 0 is none."""
    landlock: bool = False
    seccomp: bool = False
    user: int | None = None
    """User id the engine became, None when it stayed the worker's."""
    capabilities_dropped: bool = False
    tied_to_parent: bool = False
    canaries: dict[str, bool] = field(default_factory=dict[str, bool])
    """Attempt -> refused."""
    reasons: list[str] = field(default_factory=list[str])
    """Why something is missing, one sentence each."""
    seconds: float = 0.0
    """What entering the sandbox cost."""

    @property
    def name(self) -> Literal["off", "none", "partial", "full", "broken"]:
        """ "full": both filters, every canary refused. "broken": both filters are said to be on and
        a canary got through."""
        if self.policy == "off":
            return "off"
        if self.landlock and self.seccomp:
            return "full" if all(self.canaries.values()) else "broken"
        return "partial" if self.landlock or self.seccomp else "none"

    def summary(self) -> dict[str, Any]:
        """JSON for the engine's `ready` event, the worker's status, `doctor` and `selftest`."""
        return {"level": self.name, **asdict(self)}


def apply(spec: SandboxSpec) -> SandboxLevel:
    """Locks this process in.

    Raises:
        TaskError: `sandbox_unavailable` when the policy requires more than this system gives, or
            when the sandboxed process could not even write in `work_root`.
    """
    started = time.perf_counter()
    level = SandboxLevel(spec.policy)
    # built now: a process that can read nothing any more must still be able to say why
    ErrorBody.model_rebuild()
    if spec.policy != "off":
        _lock(spec, level)
        level.canaries = canaries.run(spec.work_root)
        if paths.has_gpu() and not level.canaries.pop("read_network_state"):
            level.reasons.append(
                "the GPU's driver needs all of /proc/self, which lists the container's sockets"
            )
        _judge(spec, level)
    level.tied_to_parent = lifeline.tie_to_parent()
    level.seconds = time.perf_counter() - started
    return level


def _lock(spec: SandboxSpec, level: SandboxLevel) -> None:
    """The order matters: paths are opened while they still can be, the user changes before the
    filters forbid it."""
    os.umask(0o077)
    _settle(spec.work_root)
    os.chdir(os.environ["TMPDIR"])
    rlimits.apply(spec.max_output_bytes, os.getuid() if spec.user is None else spec.user)
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names only
    ruleset = _open_ruleset(spec, level, threads)
    _change_identity(spec, level)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if ruleset is not None:
        level.landlock = _try(level, "Landlock", lambda: landlock.restrict(ruleset))
    if kernel.machine():
        denied = seccomp.denials(may_spawn=bool(spec.executables), pid=os.getpid())
        level.seccomp = _try(level, "seccomp", lambda: seccomp.install(kernel.machine(), denied))
    else:
        level.reasons.append(f"seccomp: no system call table for {os.uname().machine}")


def _settle(work_root: Path) -> None:
    """Points what asks for a home, a user name or a temporary directory at the one writable folder.
    A home below it that the parent chose stays."""
    home = str(work_root)
    for variable in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        if not os.environ.get(variable, "").startswith(home + os.sep):
            os.environ[variable] = home
    os.environ["USER"] = os.environ["LOGNAME"] = "engine"  # the user database cannot be read
    tempfile.tempdir = None
    sys.dont_write_bytecode = True


def _open_ruleset(spec: SandboxSpec, level: SandboxLevel, threads: int) -> int | None:
    level.landlock_abi = landlock.abi()
    if level.landlock_abi == 0:
        level.reasons.append(
            "Landlock: this kernel has none or does not offer it (Linux 5.13 or newer,"
            " lsm=landlock)"
        )
        return None
    if threads != 1:
        level.reasons.append(f"Landlock: {threads} threads already run and would stay outside")
        return None
    gpu = paths.has_gpu()
    _keep_alive(rule.path for rule in paths.own_process(gpu=gpu))
    allowed = paths.rules(
        spec.work_root, spec.weights_dir, spec.executables, spec.readable, gpu=gpu
    )
    try:
        return landlock.create_ruleset(allowed, level.landlock_abi)
    except OSError as error:
        level.reasons.append(f"Landlock: the kernel refused the rules ({error.strerror})")
        return None


def _keep_alive(in_proc: Iterable[Path]) -> None:
    """Rules bind to an inode, and /proc makes a new one once nobody holds the old: hold them for
    the life of the process."""
    for path in in_proc:
        os.open(path, os.O_PATH | os.O_CLOEXEC)


def _change_identity(spec: SandboxSpec, level: SandboxLevel) -> None:
    if spec.user is not None:
        if _try(level, "user change", lambda: identity.become(cast(int, spec.user))):
            level.user = spec.user
    else:
        level.reasons.append(f"user kept: {spec.user_reason}")
        if os.getuid() == 0:
            level.reasons.append("the number of processes is not limited: the user is root")
    if kernel.machine():
        drop = _try(level, "capabilities", lambda: identity.drop_capabilities(kernel.machine()))
        level.capabilities_dropped = drop


def _try(level: SandboxLevel, what: str, step: Callable[[], None]) -> bool:
    try:
        step()
    except OSError as error:
        level.reasons.append(f"{what}: the kernel refused it ({error.strerror})")
        return False
    return True


def _judge(spec: SandboxSpec, level: SandboxLevel) -> None:
    if not canaries.can_work(Path(os.environ["TMPDIR"])):
        raise TaskError(
            ErrorCode.sandbox_unavailable,
            "the sandboxed engine cannot write in its work directory; choose another with"
            " GPU_WORKER_WORK_ROOT",
        )
    if spec.policy == "require" and level.name != "full":
        passed = [name for name, refused in level.canaries.items() if not refused]
        raise TaskError(
            ErrorCode.sandbox_unavailable,
            "this system cannot confine the engine and GPU_WORKER_SANDBOX is `require`; "
            "run on a kernel with Landlock and seccomp, or set `best_effort`",
            level=level.name,
            reasons=level.reasons,
            not_refused=passed,
        )
