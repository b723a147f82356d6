"""The sandbox around a foreign program, tried with FFmpeg itself and with a shell's usual ways
out."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.sandbox import landlock, program
from gpu_worker_processors.sandbox.program import REFUSALS, Confinement, Level

FFMPEG = Path(get_ffmpeg_exe())
CARD = ("-f", "lavfi", "-i", "testsrc2=size=64x48:duration=1")

needs_sandbox = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


def run(confinement: Confinement, *words: str, ffmpeg: Path = FFMPEG) -> tuple[int, str]:
    """Exit status and what was said."""
    quiet = ("-nostdin", "-hide_banner", "-v", "error")
    env = dict(os.environ)
    child = program.start(
        ffmpeg, (*quiet, *words), confinement, env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = child.communicate(timeout=60)
    return child.returncode, said.decode()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("in.wav", "out.mp4", "secret"):
        (tmp_path / name).write_bytes(b"")
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", "-y", tmp_path / "in.wav"],
        check=True,
        timeout=60,
    )
    (tmp_path / "secret").write_text("SECRET_LINE_42\n")
    return tmp_path


@pytest.fixture
def confinement(work: Path) -> Confinement:
    return Confinement(work, (work / "in.wav",), (work / "out.mp4",), max_memory_bytes=4 * 1024**3)


@pytest.fixture
def listener() -> Iterator[tuple[int, threading.Event]]:
    """A server on loopback: its port, and whether anybody came."""
    came = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)

        def accept() -> None:
            while server.fileno() >= 0:
                try:
                    server.accept()[0].close()
                    came.set()
                except OSError:
                    continue

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], came


@needs_sandbox
def test_the_walls_are_whole_here() -> None:
    found = program.level("require")
    assert found.refused == REFUSALS
    assert found.name == "full"


@needs_sandbox
def test_a_transcode_works_and_may_move_its_index_to_the_front(
    confinement: Confinement, work: Path
) -> None:
    words = (
        *CARD,
        "-i",
        str(work / "in.wav"),
        "-movflags",
        "+faststart",
        "-y",
        str(work / "out.mp4"),
    )
    assert run(confinement, *words) == (0, "")
    assert (work / "out.mp4").stat().st_size > 1000


@needs_sandbox
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-i", "/etc/passwd"), id="a system file"),
        pytest.param(("-i", "{work}/secret"), id="a file beside the inputs"),
        pytest.param((*CARD, "-vf", "movie={work}/secret"), id="through a filter"),
        pytest.param((*CARD, "-/vf", "{work}/secret"), id="as an option's value"),
        pytest.param(("-i", "concat:{work}/secret|{work}/secret"), id="through a protocol"),
        pytest.param(("-i", "/proc/{parent}/environ"), id="the parent's environment"),
    ],
)
def test_nothing_but_the_inputs_is_read(
    confinement: Confinement, work: Path, words: tuple[str, ...]
) -> None:
    filled = [word.format(work=work, parent=os.getpid()) for word in words]
    status, said = run(confinement, *filled, "-f", "null", "-")
    assert status != 0
    assert any(
        sign in said
        for sign in ("Permission denied", "Operation not permitted", "Error opening file")
    )
    assert "SECRET" not in said


def test_without_the_sandbox_a_file_comes_out_in_the_log(
    confinement: Confinement, work: Path
) -> None:
    """What the rows above would show if the walls had a hole."""
    _, said = run(
        replace(confinement, policy="off"), *CARD, "-/vf", str(work / "secret"), "-f", "null", "-"
    )
    assert "SECRET_LINE_42" in said


@needs_sandbox
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-y", "{work}/other.mp4"), id="a new file"),
        pytest.param(("-y", "{work}/in.wav"), id="an input"),
        pytest.param(
            ("-vf", "metadata=print:file={work}/other.mp4", "-f", "null", "-"),
            id="through a filter",
        ),
        pytest.param(
            ("-vstats_file", "{work}/other.mp4", "-f", "null", "-"), id="through an option"
        ),
        pytest.param(("-f", "tee", "[f=mpegts]{work}/other.mp4|[f=null]x"), id="through a muxer"),
    ],
)
def test_nothing_but_the_output_is_written(
    confinement: Confinement, work: Path, words: tuple[str, ...]
) -> None:
    before = (work / "in.wav").read_bytes()
    status, _ = run(confinement, *CARD, *(word.format(work=work) for word in words))
    assert status != 0
    assert not (work / "other.mp4").exists()
    assert (work / "in.wav").read_bytes() == before


@needs_sandbox
def test_no_connection_is_made(
    confinement: Confinement, listener: tuple[int, threading.Event]
) -> None:
    port, came = listener
    for scheme in ("http", "tcp", "rtmp"):
        status, said = run(confinement, "-i", f"{scheme}://127.0.0.1:{port}/x", "-f", "null", "-")
        assert status != 0
        assert "Operation not permitted" in said
    assert not came.is_set()


@needs_sandbox
def test_the_canaries_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the list of what may be read is found by trying, and `require` then refuses to
    start anything."""
    program.level.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(program, "_KERNEL_FACTS", ("/etc",))
        leaky = program.level("require")
    program.level.cache_clear()
    assert leaky.refused == REFUSALS - {"read"}
    with pytest.raises(TaskError) as caught:
        program.require(leaky)
    assert caught.value.code is ErrorCode.sandbox_unavailable
    assert caught.value.details["not_refused"] == ["read"]


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (Level("off"), "off"),
        (Level("best_effort"), "none"),
        (Level("best_effort", 0, True, frozenset({"tcp", "udp"})), "partial"),
        (Level("require", 6, True, REFUSALS), "full"),
    ],
)
def test_names_of_levels(found: Level, name: str) -> None:
    assert found.name == name


def test_a_file_above_its_limit_ends_the_program(confinement: Confinement, work: Path) -> None:
    small = replace(confinement, max_file_bytes=20_000, policy="best_effort")
    words = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=duration=5",
        "-c:v",
        "mpeg4",
        "-q:v",
        "2",
        "-y",
        str(work / "out.mp4"),
    )
    status, _ = run(small, *words)
    assert status == -signal.SIGXFSZ
    assert (work / "out.mp4").stat().st_size <= 20_000


def test_no_variable_crosses(
    confinement: Confinement, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFREPORT alone makes FFmpeg write a log file wherever it says."""
    monkeypatch.setenv("FFREPORT", f"file={work}/report.log")
    assert run(replace(confinement, policy="off"), *CARD, "-f", "null", "-")[0] == 0
    assert not (work / "report.log").exists()


def test_the_program_ends_with_its_caller(work: Path) -> None:
    """A killed engine cannot clean up: the program it started must be gone all the same."""
    caller = (
        "import subprocess, sys\nfrom pathlib import Path\n"
        "from gpu_worker_processors.sandbox import program\n"
        "c = program.start(Path(sys.argv[1]), sys.argv[3:],"
        " program.Confinement(Path(sys.argv[2]), policy='best_effort'), {},"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\nprint(c.pid, flush=True)\nc.wait()"
    )
    endless = ("-re", "-f", "lavfi", "-i", "testsrc2", "-f", "null", "-")
    command = [sys.executable, "-c", caller, str(FFMPEG), str(work), *endless]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        descriptor = os.pidfd_open(child)
        process.kill()
    try:
        ended, _, _ = select.select([descriptor], [], [], 10)
        assert ended
    finally:
        os.close(descriptor)


def test_a_program_that_cannot_be_started_is_said(confinement: Confinement, work: Path) -> None:
    with pytest.raises(TaskError) as caught:
        run(confinement, ffmpeg=work / "absent")
    assert caught.value.code is ErrorCode.sandbox_unavailable
    assert "No such file" in caught.value.message
