"""The sandbox from outside: a real decode + torch job runs inside it, and everything a stranger's
code would try is refused."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import clips
from support.paths import TESTS

from gpu_worker_client.protocol import ErrorCode
from gpu_worker_processors.sandbox import identity, landlock
from gpu_worker_processors.sandbox.level import SandboxSpec

JOB = TESTS / "support" / "sandboxed_job.py"
MAX_OUTPUT_BYTES = 4_000_000

needs_sandbox = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """Port of a loopback listener: a connection that is refused by the kernel is not the same as
    one that finds nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Path]:
    """A work directory with a clip, and beside it a secret and a foreign directory."""
    paths = {name: tmp_path / name for name in ("work", "home", "outside")}
    for path in paths.values():
        path.mkdir()
    clips.make(paths["work"] / "clip.mp4", clips.Clip(frames=12))
    (paths["home"] / "secret.txt").write_text("canary-7431")
    return paths


def spec_for(place: dict[str, Path], **changes: Any) -> SandboxSpec:
    spec = SandboxSpec.for_engine(
        policy="require",
        work_root=place["work"],
        weights_dir=None,
        max_output_bytes=MAX_OUTPUT_BYTES,
    )
    return replace(spec, **changes)


def run_job(
    spec: SandboxSpec,
    place: dict[str, Path],
    port: int,
    *,
    compute: bool = False,
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "abi": None,
        "user": None,
        "compute": compute,
        "only": only,
        "secret": str(place["home"] / "secret.txt"),
        "clip": str(place["work"] / "clip.mp4"),
        "outside": str(place["outside"]),
        "port": port,
    }
    finished = subprocess.run(
        [sys.executable, str(JOB), spec.to_json(), json.dumps(wanted)],
        extra_groups=[4] if spec.user is not None else None,  # adm: the engine must lose it
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def enter(spec: SandboxSpec, before: str = "pass") -> dict[str, Any]:
    """A fresh process runs a line of code, enters the sandbox, and says the level or the error."""
    code = (
        "import sys, threading, json\n"
        "from gpu_worker_processors.sandbox.level import *\n"
        "from gpu_worker_client.protocol import TaskError\n"
        f"{before}\n"
        "try: print(json.dumps(apply(SandboxSpec.from_json(sys.argv[1])).summary()))\n"
        "except TaskError as error: print(error.body().to_wire())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, spec.to_json()],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@needs_sandbox
def test_a_job_runs_inside_and_nothing_gets_out(place: dict[str, Path], listener: int) -> None:
    answer = run_job(spec_for(place), place, listener, compute=True)

    assert answer["level"]["level"] == "full"
    assert all(answer["level"]["canaries"].values()), answer["level"]["canaries"]
    assert answer["decoded"] == 12
    assert answer["compute"] == {"conv": [1, 8, 256, 256], "resized": [32, 32, 3]}
    assert (place["work"] / "result.bin").stat().st_size == 1000
    assert answer["scratch"].startswith(str(place["work"]))

    let_through = {
        name: said
        for name, said in answer["attempts"].items()
        if said not in ("EACCES", "EPERM", "EXDEV")
    }
    assert not let_through
    assert len(answer["attempts"]) == 53
    assert answer["thread_read"] == "EACCES"
    assert (place["home"] / "secret.txt").read_text() == "canary-7431"
    assert list(place["outside"].iterdir()) == []

    assert answer["too_large"] == "EFBIG"
    assert answer["status"]["NoNewPrivs"] == "1"
    assert answer["status"]["Seccomp"] == "2"
    assert int(answer["status"]["CapEff"], 16) == 0


@needs_sandbox
def test_the_attempts_do_succeed_without_a_sandbox(place: dict[str, Path], listener: int) -> None:
    """Else the test above would prove nothing about the sandbox."""
    harmless = (
        "read_secret",
        "parent_environment",
        "connect",
        "udp",
        "unix",
        "write_outside",
        "write_tmp",
    )
    harmless += (
        "chmod_outside",
        "symlink",
        "hardlink",
        "signal_parent",
        "limit_parent",
        "fork",
        "exec",
    )
    answer = run_job(spec_for(place, policy="off"), place, listener, only=harmless)
    assert answer["attempts"] == dict.fromkeys(harmless, "done")
    assert answer["level"]["level"] == "off"
    Path(f"/tmp/gpu-worker-test-{answer['status']['Pid']}").unlink()


@needs_sandbox
def test_a_file_that_may_be_read_where_it_lies_can_be_read_and_no_more(
    place: dict[str, Path], listener: int
) -> None:
    """The input of a run on local files. Its folder, and every change to it, stay shut."""
    answer = run_job(spec_for(place, readable=(place["home"] / "secret.txt",)), place, listener)
    assert answer["attempts"].pop("read_secret") == "done"
    assert set(answer["attempts"].values()) <= {"EACCES", "EPERM", "EXDEV"}, answer["attempts"]
    assert (place["home"] / "secret.txt").read_text() == "canary-7431"


@needs_sandbox
def test_only_the_named_program_may_be_started(place: dict[str, Path], listener: int) -> None:
    """The job is told to run the first program of its list, and tries /bin/true on its own
    account."""
    answer = run_job(spec_for(place, executables=(Path("/bin/true"),)), place, listener)
    assert (answer["ran"], answer["attempts"]["exec"]) == ("done", "done")
    assert answer["attempts"]["read_secret"] == "EACCES"
    assert answer["attempts"]["signal_parent"] == "EPERM"


@needs_sandbox
def test_a_program_that_was_not_named_is_refused(place: dict[str, Path], listener: int) -> None:
    answer = run_job(spec_for(place, executables=(Path("/bin/echo"),)), place, listener)
    assert (answer["ran"], answer["attempts"]["exec"]) == ("done", "EACCES")


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
def test_root_becomes_a_user_of_its_own(place: dict[str, Path], listener: int) -> None:
    with tempfile.TemporaryDirectory(
        dir="/tmp"
    ) as folder:  # pytest's own directory is closed to other users
        Path(folder).chmod(0o755)
        work = Path(folder, "work")
        work.mkdir(mode=0o755)
        clips.make(work / "clip.mp4", clips.Clip(frames=12))
        spec = SandboxSpec.for_engine(
            policy="require",
            work_root=work,
            weights_dir=None,
            max_output_bytes=MAX_OUTPUT_BYTES,
            slot=3,
        )
        if spec.user is None:
            pytest.skip(spec.user_reason)
        identity.hand_over(work, spec.user)
        answer = run_job(spec, place | {"work": work}, listener)
        assert (answer["uid"], answer["decoded"], answer["status"]["Groups"]) == (60003, 12, "")
        assert (work / "result.bin").stat().st_uid == 60003


@needs_sandbox
def test_a_user_who_could_not_read_the_weights_is_not_chosen(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir(mode=0o700)
    spec = SandboxSpec.for_engine(
        policy="require", work_root=tmp_path, weights_dir=weights, max_output_bytes=1, slot=0
    )
    assert spec.user is None
    assert spec.user_reason


@needs_sandbox
def test_the_engine_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed cannot clean up: the sandboxed grandchild must notice by itself."""
    child = (
        "import sys, threading; from gpu_worker_processors.sandbox.level import *;"
        " apply(SandboxSpec.from_json(sys.argv[1])); print('in'); threading.Event().wait()"
    )
    parent = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-u', '-c', sys.argv[1],"
        " sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True);"
        " p.stdout.readline(); print(p.pid, flush=True); input()"
    )
    spec = SandboxSpec.for_engine(
        policy="require", work_root=tmp_path, weights_dir=None, max_output_bytes=1
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child, spec.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        engine = os.pidfd_open(int(process.stdout.readline()))
        process.kill()
    ended, _, _ = select.select([engine], [], [], 10)
    if not ended:
        signal.pidfd_send_signal(engine, signal.SIGKILL)
    os.close(engine)
    assert ended


def test_require_refuses_where_a_filter_is_missing(tmp_path: Path) -> None:
    """K14: a machine without Landlock, played by a child that was already threaded when it asked to
    be locked in."""
    before = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    answers = {
        policy: enter(SandboxSpec(policy, tmp_path), before)
        for policy in ("require", "best_effort")
    }
    assert answers["require"]["code"] == ErrorCode.sandbox_unavailable.value
    assert not answers["require"]["retryable"]
    assert answers["best_effort"]["level"] in ("partial", "none")
    assert any("Landlock" in reason for reason in answers["best_effort"]["reasons"])


@needs_sandbox
def test_the_canaries_find_a_hole(tmp_path: Path) -> None:
    """A slip of the operator, WEIGHTS_DIR=/, opens every file to the engine: the filters are on and
    yet the sandbox is none."""
    answers = {
        policy: enter(SandboxSpec(policy, tmp_path, weights_dir=Path("/")))
        for policy in ("require", "best_effort")
    }
    assert answers["require"]["code"] == ErrorCode.sandbox_unavailable.value
    assert "read_outside" in answers["require"]["details"]["not_refused"]
    assert answers["best_effort"]["level"] == "broken"
    assert answers["best_effort"]["canaries"]["write_outside"] is True


@needs_sandbox
def test_an_engine_that_could_not_work_is_refused_under_any_policy(tmp_path: Path) -> None:
    """Its temporary directory lies below the work root and is closed to it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory that another user cannot write")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        answer = enter(SandboxSpec("best_effort", Path(folder), user=60004))
    assert answer["code"] == ErrorCode.sandbox_unavailable.value
    assert "cannot write" in answer["message"]
