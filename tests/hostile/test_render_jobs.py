"""Hostile commands through the whole way of a render job. Each ends in a typed error or is
contained: no canary file is read or written, nobody connects to a server on loopback, no process is
left, and the next job on the same engine is fine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from support import clips

from gpu_worker.app import Worker
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.devserver.store.gate import R2Gate
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.sandbox import landlock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
    ),
]

SECRET = "CANARY_LINE_42"
FAST = ("-c:v", "libx264", "-preset", "ultrafast")
ENDLESS = ("-f", "lavfi", "-i", "testsrc2=size=1280x720:duration=3000", *FAST, "out.mp4")


@dataclass
class House:
    """One worker, its engine, the gate it talks to, and the canaries around it."""

    gate: R2Gate
    settings: Settings
    engine: Engine
    canary: Path
    """A file of the worker's machine that no job may read or change."""
    server: socket.socket
    """Listens on loopback; nobody may come."""

    def run(self, *words: str, **changed: Any) -> dict[str, Any]:
        """A render job's answer; `changed` replaces settings of the worker."""
        return self.run_task(self.task(*words), **changed)

    def task(self, *words: str, **inputs: str) -> dict[str, Any]:
        """A render job of the good clip and of more inputs, keys of the store by their names."""
        return {
            "task": "render",
            "inputs": {
                name: self.gate.presign("GET", key)
                for name, key in {"a.mp4": "good.mp4", **inputs}.items()
            },
            "output_url": self.gate.presign("PUT", "out.mp4"),
            "params": {"command_args": list(words)},
        }

    def run_task(self, task: dict[str, Any], **changed: Any) -> dict[str, Any]:
        if not changed:
            return asyncio.run(
                Worker(self.settings, self.engine).handle({"id": "job", "input": task})
            )
        settings = replace(self.settings, **changed)
        engine = Engine(settings, os.environ)
        try:
            return asyncio.run(Worker(settings, engine).handle({"id": "job", "input": task}))
        finally:
            engine.close()

    def refusal(self, *words: str, **changed: Any) -> ErrorBody:
        """The typed error of a command that must fail, after the checks that hold for every
        failure."""
        return self.failure(self.task(*words), **changed)

    def failure(self, task: dict[str, Any], **changed: Any) -> ErrorBody:
        answer = self.run_task(task, **changed)
        assert "error" in answer, answer
        assert SECRET not in json.dumps(answer)
        assert self.gate.read("out.mp4") is None, "something was delivered"
        assert list(self.settings.work_root.glob("job-*")) == []
        assert self.canary.read_text() == SECRET + "\n"
        assert sorted(path.name for path in self.canary.parent.iterdir()) == [self.canary.name]
        assert not connected(self.server)
        assert programs() == []
        body = ErrorBody.from_wire(answer["error"])
        assert body is not None and body.message
        return body


def connected(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def programs() -> list[str]:
    """FFmpegs below this process."""
    children = psutil.Process().children(recursive=True)
    return [name for child in children if child.is_running() and "ffmpeg" in (name := child.name())]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    canary = root / "secrets" / "canary.txt"
    canary.parent.mkdir()
    canary.write_text(SECRET + "\n")
    with (
        LocalPlatform(data_dir=root / "platform") as platform,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        server.setblocking(False)
        hosts = frozenset({platform.gate.base_url.removeprefix("http://")})
        settings = Settings(work_root=root / "work", exempt_hosts=hosts)
        engine = Engine(settings, os.environ)
        platform.gate.put("good.mp4", clips.make(root / "good.mp4", clips.Clip(audio_seconds=2)))
        try:
            yield House(platform.gate, settings, engine, canary, server)
        finally:
            engine.close()


ATTACKS = [
    pytest.param(("-i", "{canary}", *FAST, "out.mp4"), id="F01 a path"),
    pytest.param(("-i", "http://127.0.0.1:{port}/x", *FAST, "out.mp4"), id="F01 a URL"),
    pytest.param(("-i", "concat:{canary}|{canary}", *FAST, "out.mp4"), id="F01 a protocol"),
    pytest.param(("-i", "a.mp4", "-/vf", "{canary}", "out.mp4"), id="F02 a value from a file"),
    pytest.param(("-i", "a.mp4", "-vf", "movie={canary}", "out.mp4"), id="F03 a source that opens"),
    pytest.param(
        ("-i", "a.mp4", "-filter_complex", "[0:v]null[o];movie={canary},nullsink", "out.mp4"),
        id="F03 hidden",
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "drawtext=textfile={canary}", "out.mp4"), id="F04 text from a file"
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "drawtext=/text={canary}", "out.mp4"), id="F04 an option from a file"
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "subtitles={canary}", "out.mp4"), id="F05 subtitles by path"
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "lut3d=file={canary}", "out.mp4"), id="F05 a table by path"
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "metadata=print:file={folder}/new", "out.mp4"),
        id="F06 a filter that writes",
    ),
    pytest.param(("-i", "a.mp4", "-vf", "psnr=f={folder}/new", "out.mp4"), id="F06 another"),
    pytest.param(
        ("-i", "a.mp4", "-vf", "zmq=bind_address=tcp\\://127.0.0.1\\:{port}", "out.mp4"),
        id="F07 a socket",
    ),
    pytest.param(("-i", "a.mp4", "-f", "tee", "[f=mp4]{folder}/new|[f=null]x"), id="F08 two files"),
    pytest.param(
        ("-i", "a.mp4", "-f", "hls", "-hls_segment_filename", "{folder}/s%d.ts", "out.m3u8"),
        id="F08 segments",
    ),
    pytest.param(
        ("-i", "a.mp4", "-progress", "tcp://127.0.0.1:{port}", "out.mp4"),
        id="F09 progress to a server",
    ),
    pytest.param(("-i", "a.mp4", "-vstats_file", "{folder}/new", "out.mp4"), id="F09 statistics"),
    pytest.param(("-i", "a.mp4", "-attach", "{canary}", "out.mkv"), id="F10 an attachment"),
    pytest.param(
        ("-i", "a.mp4", "-x264-params", "stats={folder}/new:pass=1", "out.mp4"),
        id="F11 x264's own files",
    ),
    pytest.param(
        ("-i", "a.mp4", "-x265-params", "csv={folder}/new", "-c:v", "libx265", "out.mp4"),
        id="F11 x265's own",
    ),
    pytest.param(("-protocol_whitelist", "all", "-i", "a.mp4", "out.mp4"), id="F12 the guards"),
    pytest.param(("-f", "x11grab", "-i", ":0", "out.mp4"), id="F13 a device"),
    pytest.param(("-i", "a.mp4", "-vf", "scale=w='1:movie={canary}'", "out.mp4"), id="F14 quotes"),
    pytest.param(
        ("-i", "a.mp4", "-vf", "select='while(1,1)'", "out.mp4"), id="F15 a loop in an expression"
    ),
    pytest.param(
        ("-stream_loop", "-1", "-i", "a.mp4", *FAST, "out.mp4"), id="F16 a loop of the input"
    ),
    pytest.param(
        ("-i", "a.mp4", "-vf", "scale=32000:32000", "out.mp4"), id="F17 a picture that is too large"
    ),
    pytest.param(("-i", "a.mp4"), id="F24 no output"),
    pytest.param(("-i", "a.mp4", "-foo", "1", "out.mp4"), id="F25 an unknown option"),
]


@pytest.mark.parametrize("words", ATTACKS)
def test_an_attack_is_refused_before_ffmpeg_starts(house: House, words: tuple[str, ...]) -> None:
    port = house.server.getsockname()[1]
    filled = [
        word.format(canary=house.canary, folder=house.canary.parent, port=port) for word in words
    ]
    body = house.refusal(*filled)
    assert body.code in ("ffmpeg_arg_denied", "media_limit")
    assert body.code != "ffmpeg_arg_denied" or isinstance(body.details.get("token_index"), int)


def test_f16_work_without_end_is_ended_in_time(house: House) -> None:
    body = house.refusal(*ENDLESS, job_time_limit_seconds=3.0)
    assert body.code == "time_limit"


def test_f18_a_file_above_the_limit(house: House) -> None:
    body = house.refusal(*ENDLESS, max_output_bytes=200_000)
    assert body.code == "output_too_large"


def test_f19_a_start_behind_the_end(house: House) -> None:
    body = house.refusal("-ss", "100", "-i", "a.mp4", *FAST, "out.mp4")
    assert (body.code, body.details["reason"]) == ("output_invalid", "empty_output")


@pytest.mark.parametrize(
    "flags", ["+faststart", "+faststart+frag_keyframe", "+empty_moov", "+hybrid_fragmented"]
)
def test_f20_an_index_is_written_to_a_file_and_never_to_a_pipe(
    house: House, flags: str, tmp_path: Path
) -> None:
    """Onto a pipe, FFmpeg's +faststart gives a broken file and a status of 0."""
    answer = house.run("-i", "a.mp4", "-c", "copy", "-movflags", flags, "out.mp4")
    delivered = tmp_path / "out.mp4"
    delivered.write_bytes(house.gate.read("out.mp4") or b"")
    house.gate.delete("out.mp4")
    assert "error" not in answer
    with av.open(str(delivered)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50
        assert container.duration is not None and abs(container.duration / av.time_base - 2) < 0.1


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["x" * 500_000], id="one word of 500 KB"),
        pytest.param(["x" * 8000] * 60, id="480 KB in all"),
        pytest.param(["-y"] * 100_000, id="100,000 words"),
        pytest.param(["-i", "a.mp4", "-vf", "drawtext=text=a\0b", "out.mp4"], id="NUL"),
        pytest.param(
            ["-i", "a.mp4", "-vf", "drawtext=text=a\x1b]0;b", "out.mp4"], id="a terminal's escape"
        ),
        pytest.param(
            ["-i", "a.mp4", "-metadata", "title=\ud800", "out.mp4"], id="half a character"
        ),
    ],
)
def test_f21_words_that_no_command_has(house: House, words: list[str]) -> None:
    assert house.refusal(*words).code == "invalid_task"


def test_f22_metadata_of_a_megabyte_is_refused_and_what_passes_is_kept_and_never_logged(
    house: House,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert (
        house.refusal("-i", "a.mp4", "-metadata", f"title={'<script>' * 131072}", "out.mp4").code
        == "invalid_task"
    )
    assert (
        house.refusal("-i", "a.mp4", "-metadata", f"title={'<script>' * 100}", "out.mp4").code
        == "ffmpeg_arg_denied"
    )
    title = f"<script>{SECRET}</script>;'-i /etc/passwd'\\=#\n[CHAPTER]"
    with caplog.at_level(0):
        answer = house.run("-i", "a.mp4", "-c", "copy", "-metadata", f"title={title}", "out.mp4")
    delivered = tmp_path / "out.mp4"
    delivered.write_bytes(house.gate.read("out.mp4") or b"")
    house.gate.delete("out.mp4")
    with av.open(str(delivered)) as container:
        assert container.metadata["title"] == title
        assert not container.chapters()
    assert SECRET not in json.dumps(answer) + caplog.text + "".join(capfd.readouterr())


SECRETS_IN_FILES = {
    "subtitles": (
        "s.srt",
        "1\n00:00:00,000 --> 00:00:09,000\n<font face='CANARY'>{\\fn%s}x\n\n2\n%s --> x\n",
        "subtitles=s.srt",
    ),
    "a colour table": ("t.cube", "TITLE x\nLUT_3D_SIZE %s\n%s\n", "lut3d=t.cube"),
    "a noise model": ("n.rnnn", "rnnoise-nu model file version 1\n%s %s\n", ""),
}


@pytest.mark.parametrize("name", list(SECRETS_IN_FILES))
def test_f23_what_ffmpeg_says_of_a_file_stays_inside(
    house: House, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg quotes what it cannot read; a caller with somebody else's file for an input must not
    get to see it."""
    file, content, graph = SECRETS_IN_FILES[name]
    house.gate.put(file, (content % (SECRET, SECRET)).encode())
    words = ("-vf", graph) if graph else ("-af", f"arnndn=m={file}")
    with caplog.at_level(0):
        answer = house.run_task(house.task("-i", "a.mp4", *words, *FAST, "out.mp4", **{file: file}))
    house.gate.delete("out.mp4")
    assert SECRET not in json.dumps(answer) + caplog.text + "".join(capfd.readouterr())
    assert ("error" in answer) == (name != "subtitles")
    assert programs() == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-vf", "scale=w=iw*400:h=ih*400"), id="a size by an expression"),
        pytest.param(("-vf", "pad=iw*500:ih*500"), id="a border by an expression"),
        pytest.param(("-vf", "rotate=0:ow=iw*600:oh=ih*600"), id="a frame to turn in"),
        pytest.param(("-vf", "zoompan=s=hd1080:d=1e9"), id="a picture without an end"),
        pytest.param(("-vf", "scale=4096:4096,loop=loop=10000:size=1024"), id="17 GB of frames"),
        pytest.param(("-vf", "scale=4096:4096,thumbnail=n=1000"), id="frames to choose from"),
        pytest.param(
            ("-vf", "scale=4096:4096,tmix=frames=64,tile=10x10"), id="a mosaic of large ones"
        ),
        pytest.param(("-vf", "setpts=PTS*1e9,fps=240"), id="gaps to fill"),
        pytest.param(("-af", "adelay=delays=99999999999S:all=1"), id="a long silence before"),
        pytest.param(("-af", "aecho=1:1:90000|89999:1|1"), id="long echoes"),
        pytest.param(("-af", "aresample=384000,apad=whole_dur=900000"), id="a long silence behind"),
        pytest.param(
            ("-vf", "geq='gauss(X*Y)+random(1)*hypot(X,Y)',minterpolate=fps=240,nlmeans=r=33:p=99"),
            id="hard work",
        ),
        pytest.param(
            (
                "-filter_complex",
                "[0:v]split=16"
                + "".join(f"[s{n}]" for n in range(16))
                + ";"
                + "".join(f"[s{n}]scale=6000:6000[t{n}];" for n in range(16))
                + "".join(f"[t{n}]" for n in range(16))
                + "xstack=16:grid=4x4",
            ),
            id="a wall of large pictures",
        ),
    ],
)
def test_what_the_tables_allow_and_costs_too_much_is_contained(
    house: House, words: tuple[str, ...]
) -> None:
    """Bounded in time, memory and disk: it ends with a typed error, or with a file that is as small
    as it should be. The memory of the host is the bound of none."""
    limits = {"job_time_limit_seconds": 6.0, "max_output_bytes": 20_000_000}
    answer = house.run_task(house.task("-i", "a.mp4", *words, *FAST, "out.mp4"), **limits)
    house.gate.delete("out.mp4")
    body = ErrorBody.from_wire(answer["error"]) if "error" in answer else None
    assert body is None or body.code in (
        "time_limit",
        "resource_exhausted",
        "output_too_large",
        "media_limit",
        "invalid_task",
    )
    assert programs() == []
    assert list(house.settings.work_root.glob("job-*")) == []


def test_k14_the_sandbox_is_required_unless_the_operator_says_otherwise(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPU_WORKER_RENDER_SANDBOX", raising=False)
    assert house.run("-i", "a.mp4", "-c", "copy", "out.mp4")["stats"]["sandbox"] == "full"
    house.gate.delete("out.mp4")


def test_after_all_that_the_engine_still_works(house: House) -> None:
    answer = house.run("-i", "a.mp4", *FAST, "-movflags", "+faststart", "out.mp4")
    assert (answer["stats"]["frames"], answer["stats"]["sandbox"]) == (50, "full")
    content = house.gate.read("out.mp4") or b""
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_where_the_worker_is_root_ffmpeg_is_a_spare_user_without_powers(house: House) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o755)
        settings = replace(house.settings, work_root=Path(name), job_time_limit_seconds=5.0)
        engine = Engine(settings, os.environ)
        job = {"id": "job", "input": house.task(*ENDLESS)}
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(lambda: asyncio.run(Worker(settings, engine).handle(job)))
            found: dict[str, str] = {}
            while not found and not running.done():
                found = status_of_ffmpeg()
            answer = running.result()
        engine.close()
    if engine.sandbox["user"] is None:
        pytest.skip(f"the user is kept here: {engine.sandbox['reasons']}")
    assert "time_limit" in answer["error"]
    assert found["Uid"].split() == [str(engine.sandbox["user"])] * 4
    assert (int(found["CapEff"], 16), found["NoNewPrivs"], found["Seccomp"]) == (0, "1", "2")


def status_of_ffmpeg() -> dict[str, str]:
    """proc(5) status of the FFmpeg that runs `ENDLESS` below this process, {} without one."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            if "ffmpeg" in child.name() and any("testsrc2" in word for word in child.cmdline()):
                pairs = (
                    line.split(":", 1)
                    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
                )
                return {key: value.strip() for key, value in pairs}
    return {}
