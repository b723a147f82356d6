"""An engine under foreign control, where no filter holds it: what it starts does not outlive it,
and what it says in the log looks like its own words."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import RenderTask
from gpu_worker_client.protocol.render import RenderParams
from gpu_worker_processors.base import ignore_progress
from gpu_worker_processors.engine import host
from gpu_worker_processors.engine.host import Engine, EngineJob
from gpu_worker_processors.engine.jobdir import JobDirectory
from gpu_worker_processors.engine.log import MAX_BYTES_A_COMMAND, MAX_LINE_BYTES
from gpu_worker_processors.sandbox import supervisor

CAPTURED = """
import json, os, pathlib, subprocess, sys, time

def say(text):
    print(text, flush=True)

def done(number):
    device = {{"device": "cpu", "gpu": None}}
    return json.dumps({{"event": "done", "number": number, "seconds": 1.0, "device": device}})

def error(number):
    body = {{"code": "corrupt_media", "message": "not yours"}}
    return json.dumps({{"event": "error", "number": number, "error": body}})

def leave_modules():
    for name in ("json", "sitecustomize", "usercustomize", "gpu_worker"):
        text = "open(" + repr({marks!r} + "/run") + ", 'w')\\nraise SystemExit\\n"
        pathlib.Path(os.environ["HOME"], name + ".py").write_text(text)

def escape():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open({marks!r} + "/new", "w") as file:
                file.write(str(os.getpid()))
            os.rename({marks!r} + "/new", {marks!r} + "/escaped")
            time.sleep(60)
        os._exit(0)
    os.wait()
    while not os.path.exists({marks!r} + "/escaped"):
        time.sleep(0.01)

def fill(command):
    # A child with much to put away at its end holds the output.
    code = "import sys; b = b'x' * 64_000_000; f = open(sys.argv[1], 'wb'); f.write(b); f.flush()"
    code += "; print(flush=True); c = bytearray(b) * 8; sys.stdin.read()"
    output = json.loads(command)["work_dir"] + "/output"
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    subprocess.Popen([sys.executable, "-c", code, output], **pipes).stdout.readline()

say('{{"event": "ready", "sandbox": {{}}}}')
for line in sys.stdin:
    number = json.loads(line)["number"]
    {attack}
    say(done(number))
"""
"""What stands in the engine's place. No sandbox is around it."""

WORKER = """
import os, sys
from pathlib import Path
from gpu_worker.settings import Settings
from gpu_worker_processors.engine import host

host.isolated = lambda module: [sys.executable, sys.argv[1]]
host.Engine(Settings(work_root=Path(sys.argv[2]), sandbox="off"), os.environ).start()
print("up", flush=True)
sys.stdin.read()
"""


Capture = Callable[[str], Path]


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Capture:
    """The next engine does this at every command."""

    def write(attack: str) -> Path:
        script = tmp_path / "captured.py"
        script.write_text(CAPTURED.format(attack=attack, marks=str(tmp_path)))
        monkeypatch.setattr(host, "isolated", lambda module: [sys.executable, str(script)])
        return script

    return write


@pytest.fixture
def job(job: EngineJob) -> EngineJob:
    """One whose result is there already."""
    (job.work_dir / "result.json").write_text("{}")
    return job


@pytest.fixture
def render_job(job: EngineJob) -> EngineJob:
    params = RenderParams(command_args=["-i", "in.mp4", "out.mp4"])
    task = RenderTask(
        inputs={"in.mp4": "https://example.com/in.mp4"},
        output_url="https://example.com/out.mp4",
        params=params,
    )
    return EngineJob(id="one", task=task, work_dir=job.work_dir)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_a_process_that_left_the_group_ends_with_the_engine(
    engine: Engine, job: EngineJob, capture: Capture, tmp_path: Path
) -> None:
    capture("escape()")
    engine.run(job, ignore_progress)
    engine.kill()
    assert is_gone(int((tmp_path / "escaped").read_text()))


@pytest.mark.parametrize("attack", ["escape()", "subprocess.Popen(['sleep', '60'])"])
def test_a_process_of_one_job_is_gone_before_the_next(
    engine: Engine, render_job: EngineJob, capture: Capture, attack: str
) -> None:
    capture(attack)
    engine.run(render_job, ignore_progress)
    assert not engine.alive


def test_what_it_says_ahead_is_no_answer_to_the_next_job(
    engine: Engine, job: EngineJob, capture: Capture
) -> None:
    capture("say(done(number) + chr(10) + error(number + 1)); continue")
    for _ in range(3):
        assert engine.run(job, ignore_progress).seconds == 1


def test_what_it_left_in_its_home_is_gone_before_the_next_engine_starts(
    engine: Engine,
    job: EngineJob,
    capture: Capture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The next one starts as the worker's user and unsandboxed."""
    capture("leave_modules()")
    engine.run(job, ignore_progress)
    monkeypatch.undo()
    home = next((tmp_path / "work").glob("engine-*"))
    assert len(list(home.iterdir())) == 4
    engine.kill()
    engine.start()
    assert not home.exists()
    (home,) = (tmp_path / "work").glob("engine-*")
    assert list(home.iterdir()) == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("wanted", "engines"), [(True, 3), (False, 1)])
def test_every_job_gets_an_engine_of_its_own_where_it_is_wanted(
    job: EngineJob, capture: Capture, tmp_path: Path, wanted: bool, engines: int
) -> None:
    """A captured one that says nothing wrong is not found out: it reads the inputs of later
    jobs."""
    seen = f"open({str(tmp_path / 'seen')!r}, 'a').write(str(os.getpid()) + chr(10))"
    capture(seen)
    settings = Settings(work_root=tmp_path / "work", sandbox="off", fresh_engine=wanted)
    with closing(Engine(settings, os.environ)) as engine:
        for _ in range(3):
            engine.run(job, ignore_progress)
    assert len(set((tmp_path / "seen").read_text().split())) == engines


def test_it_is_ended_before_the_worker_when_memory_is_full(
    engine: Engine, job: EngineJob, capture: Capture, tmp_path: Path
) -> None:
    """With what it starts."""
    capture(f"subprocess.call(['cp', '/proc/self/oom_score_adj', {str(tmp_path)!r}])")
    engine.run(job, ignore_progress)
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert int((tmp_path / "oom_score_adj").read_text()) == min(own + 500, 1000)


def test_its_group_is_ended_before_all_processes_are_read() -> None:
    """It may start them faster than they are read."""
    code = """
import os, select, signal, supervisor

engine = os.posix_spawn("/bin/sleep", ["sleep", "60"], {}, setsid=True)
ended = os.pidfd_open(engine)
wake, wish = os.pipe()
os.write(wish, bytes([signal.SIGTERM]))

def descendants(pid):
    print(bool(select.select([ended], [], [], 20)[0]))
    return [engine]

supervisor.descendants = descendants
assert supervisor._supervise(engine, [wake]) == signal.SIGKILL
"""
    folder = Path(supervisor.__file__).parent
    said = subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True)
    assert said.split()[0] == "True"


def test_a_process_that_left_the_group_ends_with_a_killed_worker(
    tmp_path: Path, capture: Capture
) -> None:
    script = capture("pass")
    script.write_text(script.read_text().replace("\nsay(", "\nescape()\nsay("))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(script), str(tmp_path / "work")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "up\n"
        escaped = os.pidfd_open(int((tmp_path / "escaped").read_text()))
        worker.kill()
    ended, _, _ = select.select([escaped], [], [], 20)
    if not ended:
        signal.pidfd_send_signal(escaped, signal.SIGKILL)
    os.close(escaped)
    assert ended


def test_the_disk_of_a_stopped_job_is_free_for_the_next_one(
    job: EngineJob, capture: Capture
) -> None:
    capture("fill(line)")
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as name,
        closing(  # noqa: S108
            Engine(Settings(work_root=Path(name), sandbox="off"), os.environ)
        ) as engine,
    ):
        with JobDirectory(Path(name)) as folder:
            (folder / "result.json").write_text("{}")
            engine.run(replace(job, work_dir=folder), ignore_progress)
            full = shutil.disk_usage(name).free
            engine.kill()
        assert shutil.disk_usage(name).free - full > 60_000_000


def test_an_end_of_the_engine_keeps_its_status(
    engine: Engine, job: EngineJob, capture: Capture
) -> None:
    capture("os.kill(os.getpid(), 11)")
    with pytest.raises(host.TaskError) as caught:
        engine.run(job, ignore_progress)
    assert caught.value.details["status"] == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        pytest.param("ordinary words", "engine: ordinary words\n", id="a line"),
        pytest.param(
            "INFO x: a\\nINFO gpu_worker.app: job done",
            "engine: INFO x: a\nengine: INFO gpu_worker.app: job done\n",
            id="the worker's own line",
        ),
        pytest.param(
            "\\x1b[2J\\rINFO worker\\u2028\\u202e",
            "engine: \\x1b[2J\\rINFO worker\\u2028\\u202e\n",
            id="terminal controls",
        ),
        pytest.param(
            "x" * (MAX_LINE_BYTES + 1), f"engine: {'x' * MAX_LINE_BYTES}\nengine: x\n", id="long"
        ),
    ],
)
def test_its_words_in_the_log_are_marked_as_its_own(
    engine: Engine,
    job: EngineJob,
    capture: Capture,
    capsys: pytest.CaptureFixture[str],
    written: str,
    seen: str,
) -> None:
    capture(f"sys.stderr.write('{written}\\n')")
    engine.run(job, ignore_progress)
    engine.close()
    assert capsys.readouterr().err == seen


def test_it_cannot_fill_or_cut_the_log(
    engine: Engine,
    job: EngineJob,
    capture: Capture,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cut = "subprocess.call(['truncate', '-s', '0', '/proc/self/fd/2'])"
    capture(f"sys.stderr.write('x' * 4_000_000); {cut}")
    print("the worker's own words", file=sys.stderr)
    engine.run(job, ignore_progress)
    engine.close()
    said = capfd.readouterr().err
    assert said.startswith("the worker's own words\n")
    assert MAX_BYTES_A_COMMAND * 0.9 < len(said) < MAX_BYTES_A_COMMAND * 1.1
    assert "the rest is dropped" in said
