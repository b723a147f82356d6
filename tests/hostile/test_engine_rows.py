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
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpu_worker.settings import Settings
from gpu_worker_client.protocol import DetectScenesTask, RenderTask
from gpu_worker_client.protocol.render import RenderParams
from gpu_worker_processors.engine import host
from gpu_worker_processors.engine.host import Engine, EngineJob
from gpu_worker_processors.engine.jobdir import JobDirectory
from gpu_worker_processors.engine.log import MAX_BYTES_A_COMMAND, MAX_LINE_BYTES

CAPTURED = """
import json, os, subprocess, sys, time

def say(text):
    print(text, flush=True)

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
    {attack}
    say('{{"event": "done", "seconds": 1.0, "device": {{"device": "cpu", "gpu": null}}}}')
"""
"""What stands in the engine's place. No sandbox is around it."""

WORKER = """
import os, sys
from pathlib import Path
from gpu_worker.settings import Settings
from gpu_worker_processors.engine import host

host._command = lambda: [sys.executable, sys.argv[1]]
host.Engine(Settings(work_root=Path(sys.argv[2]), sandbox="off"), os.environ).start()
print("up", flush=True)
sys.stdin.read()
"""


def ignore(*_: object) -> None:
    """Progress that nobody watches."""


Capture = Callable[[str], Path]


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Capture:
    """The next engine does this at every command."""

    def write(attack: str) -> Path:
        script = tmp_path / "captured.py"
        script.write_text(CAPTURED.format(attack=attack, marks=str(tmp_path)))
        monkeypatch.setattr(host, "_command", lambda: [sys.executable, str(script)])
        return script

    return write


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(Settings(work_root=tmp_path / "work", sandbox="off"), os.environ)
    yield engine
    engine.close()


@pytest.fixture
def job(tmp_path: Path) -> EngineJob:
    folder = tmp_path / "work" / "job-1"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    task = DetectScenesTask(input_url="https://example.com/in.mp4")
    return EngineJob(id="one", task=task, work_dir=folder, input_path=folder / "input")


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
    engine.run(job, ignore)
    engine.kill()
    assert is_gone(int((tmp_path / "escaped").read_text()))


@pytest.mark.parametrize("attack", ["escape()", "subprocess.Popen(['sleep', '60'])"])
def test_a_process_of_one_job_is_gone_before_the_next(
    engine: Engine, render_job: EngineJob, capture: Capture, attack: str
) -> None:
    capture(attack)
    engine.run(render_job, ignore)
    assert not engine.alive


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
            engine.run(replace(job, work_dir=folder), ignore)
            full = shutil.disk_usage(name).free
            engine.kill()
        assert shutil.disk_usage(name).free - full > 60_000_000


def test_an_end_of_the_engine_keeps_its_status(
    engine: Engine, job: EngineJob, capture: Capture
) -> None:
    capture("os.kill(os.getpid(), 11)")
    with pytest.raises(host.TaskError) as caught:
        engine.run(job, ignore)
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
    engine.run(job, ignore)
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
    engine.run(job, ignore)
    engine.close()
    said = capfd.readouterr().err
    assert said.startswith("the worker's own words\n")
    assert MAX_BYTES_A_COMMAND * 0.9 < len(said) < MAX_BYTES_A_COMMAND * 1.1
    assert "the rest is dropped" in said
