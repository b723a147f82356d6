"""A task in a child process on this machine: by the worker or by the processors alone, ended whole,
every failure typed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import psutil
import pytest
from support import clips

from gpu_worker_client import (
    ConfigError,
    FFmpegRenderJob,
    JobTimedOut,
    SceneDetectionJob,
    UnsupportedMedia,
    WorkerFault,
)
from gpu_worker_client._blocking import in_thread
from gpu_worker_client.filejobs import local
from gpu_worker_client.filejobs.local import run_local
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.protocol import DetectScenesResult, ErrorCode, TaskError
from gpu_worker_client.protocol.errors import GpuWorkerError


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return clips.make(
        tmp_path / "film.mp4", clips.Clip(frames=50), clips.flat((255, 0, 0), (0, 0, 255), every=25)
    )


def scenes_of(film: Path) -> FileWork:
    return FileWork("detect_scenes", {"threshold": 30.0}, {"input_url": film})


def test_a_failed_task_in_a_child_process_is_typed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    with pytest.raises(UnsupportedMedia) as caught:
        run_local(scenes_of(broken))
    assert caught.value.code == ErrorCode.not_media.value
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


def test_a_task_that_fits_no_pipe_reaches_the_child(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    path = [{"frame": n, "x": float(n)} for n in range(4000)]
    with pytest.raises(UnsupportedMedia):
        work = FileWork("auto_crop", {"dry_run": True, "keyframes": path}, {"input_url": broken})
        run_local(work, timeout=120)


def test_a_child_that_takes_too_long_is_ended_whole(film: Path, tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    out = tmp_path / "out.mp4"
    slow = FileWork("upscale", {"model": "lite"}, {"input_url": film}, output=out)
    with pytest.raises(JobTimedOut, match="within 1 s"):
        run_local(slow, timeout=1)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert not out.exists()


def stand_in(folder: Path, program: str) -> None:
    """A package by the worker's name whose command is another program."""
    package = folder / "gpu_worker"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(program)


def test_a_child_that_does_not_listen_is_killed(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "STOP_SECONDS", 0.2)
    stand_in(
        tmp_path,
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(600)",
    )
    before = {process.pid for process in psutil.Process().children()}
    with pytest.raises(JobTimedOut):
        run_local(scenes_of(film), timeout=1, env={"PYTHONPATH": str(tmp_path)})
    assert {process.pid for process in psutil.Process().children()} <= before


def test_a_child_that_dies_says_its_last_words(film: Path, tmp_path: Path) -> None:
    stand_in(
        tmp_path, "import sys\nsys.exit('no disk left at https://h/in.mp4?X-Amz-Signature=CANARY')"
    )
    with pytest.raises(
        WorkerFault, match="ended with 1 .* no disk left at https://h/in.mp4"
    ) as caught:
        run_local(scenes_of(film), env={"PYTHONPATH": str(tmp_path)})
    assert "CANARY" not in str(caught.value)


def test_a_child_gets_no_key(film: Path, tmp_path: Path) -> None:
    """What the worker is started with is written down by a stand-in for it."""
    stand_in(
        tmp_path, "import json, os\nprint(json.dumps({'error': json.dumps(dict(os.environ))}))"
    )
    env = {
        "PYTHONPATH": str(tmp_path),
        "RUNPOD_API_KEY": "CANARY",
        "R2_SECRET_ACCESS_KEY": "CANARY",
        "WEIGHTS_DIR": "w",
    }
    with pytest.raises(GpuWorkerError) as caught:
        run_local(scenes_of(film), env=env)
    assert "WEIGHTS_DIR" in str(caught.value) and "CANARY" not in str(caught.value)


def test_a_child_that_is_stopped_ends_at_once(film: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}

    def children() -> set[int]:
        return {process.pid for process in psutil.Process().children(recursive=True)}

    async def program() -> None:
        run = asyncio.create_task(in_thread(partial(run_local, scenes_of(film))))
        while children() <= before:
            await asyncio.sleep(0.01)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(program())
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("absent", "source", "said"),
    [
        (
            ["gpu_worker", "gpu_worker_processors"],
            "film.mp4",
            "needs the processors: pip install gpu-worker-processors",
        ),
        (
            ["gpu_worker"],
            "https://h/in.mp4",
            "with a URL for a file needs the worker: pip install gpu-worker",
        ),
    ],
)
def test_without_what_it_needs_the_pip_line_is_said(
    film: Path, absent: list[str], source: str, said: str
) -> None:
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "from gpu_worker_client.filejobs.jobs import SceneDetectionJob\n"
        f"job = SceneDetectionJob({source!r}, output_path='scenes.json', mode='local')\n"
        "print(job.execute().error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=film.parent,
    )
    assert done.stdout.strip() == f"running on this machine {said}"
    assert [path.name for path in film.parent.iterdir()] == [film.name]


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install gpu-worker-client gpu-worker-processors`."""
    installed = local._is_installed
    monkeypatch.setattr(
        local, "_is_installed", lambda package: package != "gpu_worker" and installed(package)
    )


@pytest.mark.usefixtures("no_worker")
def test_the_processors_alone_do_it_and_the_result_says_so(film: Path) -> None:
    job = SceneDetectionJob(film, mode="local", env={"GPU_WORKER_HISTORY": "off"})
    result = job.execute()
    assert result.success and result.output_path is not None, result.error
    scenes = DetectScenesResult.from_json(result.output_path.read_bytes()).scenes
    assert [scene.start_frame for scene in scenes] == [0, 25]
    assert (result.metadata["where"], result.metadata["worker"]["package"]) == (
        "local",
        "gpu-worker-processors",
    )
    assert result.metadata["worker"]["sandbox"] in ("full", "partial", "none")


@pytest.mark.usefixtures("no_worker")
def test_nothing_is_written_through_a_link_that_somebody_laid(film: Path, tmp_path: Path) -> None:
    """In a folder that others write in, a name that can be guessed may be a link to a file that
    they cannot write."""
    own = tmp_path / "own.txt"
    own.write_text("mine")
    made = film.with_name("s" * 245 + ".json")  # a name with as many bytes as there can be, nearly
    for place in (made, film.with_name(".s.json.part")):
        place.symlink_to(own)
    for output in (made, film.with_name("s.json")):
        result = SceneDetectionJob(
            film, mode="local", output_path=output, env={"GPU_WORKER_HISTORY": "off"}
        ).execute()
        assert result.success, result.error
        assert (
            len(DetectScenesResult.from_json(output.read_bytes()).scenes) == 2
            and not output.is_symlink()
        )
    assert own.read_text() == "mine"


@pytest.mark.usefixtures("no_worker")
def test_a_failure_of_the_processors_alone_is_typed_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    mixed = FileWork("beat", {}, {"input_url": broken}, output=tmp_path / "out.wav")
    with pytest.raises(UnsupportedMedia) as caught:
        run_local(mixed)
    assert caught.value.code == ErrorCode.not_media.value
    assert [path.name for path in tmp_path.iterdir()] == ["broken.mp4"]


@pytest.mark.usefixtures("no_worker")
def test_a_run_by_the_processors_alone_ends_whole(film: Path, tmp_path: Path) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    words = [
        "-stream_loop",
        "-1",
        "-i",
        film.name,
        "-t",
        "3600",
        "-vf",
        "scale=1920:1080",
        "-preset",
        "veryslow",
        "out.mp4",
    ]
    params = {"command_args": words, "output_filename": "out.mp4"}
    endless = FileWork("render", params, {}, inputs={film.name: film}, output=tmp_path / "out.mp4")
    work = tmp_path / "work"
    with pytest.raises(JobTimedOut, match="within 2 s"):
        run_local(
            endless, timeout=2, env={"PATH": os.environ["PATH"], "GPU_WORKER_WORK_ROOT": str(work)}
        )
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert [path for path in tmp_path.rglob("*") if path not in (film, work)] == []


@pytest.mark.parametrize("package", ["gpu-worker", "gpu-worker-processors"])
def test_the_variables_of_a_job_reach_the_work(
    film: Path, package: str, request: pytest.FixtureRequest
) -> None:
    if package != "gpu-worker":
        request.getfixturevalue("no_worker")
    result = SceneDetectionJob(
        film, mode="local", env={"GPU_WORKER_HISTORY": "off", "GPU_WORKER_MAX_FRAMES": "10"}
    ).execute()
    assert result.metadata.get("code") == ErrorCode.media_limit.value, result.error


@pytest.mark.parametrize("absent", ["none", "gpu_worker"])
def test_nothing_is_imported_from_the_folder_that_a_program_stands_in(
    film: Path, tmp_path: Path, absent: str
) -> None:
    """Videos that came from anywhere lie in it, and whatever came with them."""
    trap = "open('TRAPPED', 'w').close()\nraise SystemExit(3)"
    for name in (
        "argparse",
        "json",
        "logging",
        "numpy",
        "av",
        "gpu_worker_processors",
        "gpu_worker",
        "runpy",
    ):
        (film.parent / f"{name}.py").write_text(trap)
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(
        "import sys\nfrom gpu_worker_client import SceneDetectionJob\n"
        "from gpu_worker_client.filejobs import local\ninstalled ="
        " local._is_installed\nlocal._is_installed = lambda package: package != sys.argv[1] and"
        " installed(package)\nprint(SceneDetectionJob('film.mp4', output_path='scenes.json',"
        " mode='local').execute().error)"
    )
    run = [sys.executable, program, absent]
    done = subprocess.run(
        run, capture_output=True, text=True, timeout=60, check=True, cwd=film.parent
    )
    assert (done.stdout.strip(), (film.parent / "TRAPPED").exists()) == ("None", False)


@pytest.mark.parametrize("package", ["gpu-worker", "gpu-worker-processors"])
def test_a_variable_that_does_not_parse_is_named(
    film: Path, package: str, request: pytest.FixtureRequest
) -> None:
    if package != "gpu-worker":
        request.getfixturevalue("no_worker")
    with pytest.raises(ConfigError, match="GPU_WORKER_MAX_PIXELS must be a whole number") as caught:
        run_local(scenes_of(film), env={"GPU_WORKER_MAX_PIXELS": "CANARY"})
    assert "CANARY" not in str(caught.value)


ENDLESS = """
import sys
from gpu_worker_client import FFmpegRenderJob
from gpu_worker_client.filejobs import local
installed = local._is_installed
local._is_installed = lambda package: package != sys.argv[1] and installed(package)
words = "-stream_loop -1 -i film.mp4 -t 3600 -vf scale=1920:1080 -preset veryslow out.mp4".split()
FFmpegRenderJob(["film.mp4"], words, "out.mp4", mode="local").execute()
"""


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("absent", ["none", pytest.param("gpu_worker", marks=pytest.mark.slow)])
def test_what_it_started_ends_with_a_program_that_is_killed(
    film: Path, tmp_path: Path, absent: str
) -> None:
    work = tmp_path / "work"
    env = os.environ | {"GPU_WORKER_WORK_ROOT": str(work), "TMPDIR": str(tmp_path)}
    program = psutil.Popen([sys.executable, "-c", ENDLESS, absent], cwd=film.parent, env=env)
    started: list[psutil.Process] = []
    try:
        while not any("veryslow" in command_of(process) for process in started):
            assert program.poll() is None
            started = program.children(recursive=True)
    finally:
        program.kill()
        program.wait(60)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert list(work.glob("*/output*")) == [] and not (film.parent / "out.mp4").exists()


@pytest.mark.usefixtures("no_worker")
def test_a_command_says_files_by_whatever_names_they_have(film: Path, tmp_path: Path) -> None:
    source = film.rename(tmp_path / "mein Film (1) é.mp4")
    made = tmp_path / "kürzer, kleiner.mp4"
    job = FFmpegRenderJob(
        [source], ["-i", source.name, "-frames:v", "5", made.name], made, mode="local"
    )
    result = job.execute()
    assert (result.error, result.output_path) == (None, made)
    with av.open(str(made)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_the_traceback_of_a_bug_is_logged(
    film: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bug = TaskError(ErrorCode.internal, "incident 1").body().to_wire()
    stand_in(
        tmp_path,
        "import sys\nprint('Traceback: the cause',"
        f" file=sys.stderr)\nprint({json.dumps({'error': bug})!r})",
    )
    with pytest.raises(WorkerFault, match="incident 1"):
        run_local(scenes_of(film), env={"PYTHONPATH": str(tmp_path)})
    assert "Traceback: the cause" in caplog.text
