"""Hostile commands through the whole way of a render job. Each ends in a typed error or is contained: no canary file is read or
written, nobody connects to a server on loopback, no process is left, and the next job on the same engine is fine."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import clips
import psutil
import pytest

from gpu_worker.app import Worker
from gpu_worker.engine import Engine
from gpu_worker.platform.local import LocalPlatform
from gpu_worker.platform.r2_gate import R2Gate
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody
from gpu_worker_processors.jail import landlock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"),
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
        task = {
            "task": "render",
            "inputs": {"a.mp4": self.gate.presign("GET", "good.mp4")},
            "output_url": self.gate.presign("PUT", "out.mp4"),
            "params": {"command_args": list(words)},
        }
        if not changed:
            return asyncio.run(Worker(self.settings, self.engine).handle({"id": "job", "input": task}))
        settings = replace(self.settings, **changed)
        engine = Engine(settings, os.environ)
        try:
            return asyncio.run(Worker(settings, engine).handle({"id": "job", "input": task}))
        finally:
            engine.close()

    def refusal(self, *words: str, **changed: Any) -> ErrorBody:
        """The typed error of a job that must fail, after the checks that hold for every failure."""
        answer = self.run(*words, **changed)
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
    with LocalPlatform(data_dir=root / "platform") as platform, socket.create_server(("127.0.0.1", 0)) as server:
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
    pytest.param(("-i", "a.mp4", "-filter_complex", "[0:v]null[o];movie={canary},nullsink", "out.mp4"), id="F03 hidden"),
    pytest.param(("-i", "a.mp4", "-vf", "drawtext=textfile={canary}", "out.mp4"), id="F04 text from a file"),
    pytest.param(("-i", "a.mp4", "-vf", "drawtext=/text={canary}", "out.mp4"), id="F04 an option from a file"),
    pytest.param(("-i", "a.mp4", "-vf", "subtitles={canary}", "out.mp4"), id="F05 subtitles by path"),
    pytest.param(("-i", "a.mp4", "-vf", "lut3d=file={canary}", "out.mp4"), id="F05 a table by path"),
    pytest.param(("-i", "a.mp4", "-vf", "metadata=print:file={folder}/new", "out.mp4"), id="F06 a filter that writes"),
    pytest.param(("-i", "a.mp4", "-vf", "psnr=f={folder}/new", "out.mp4"), id="F06 another"),
    pytest.param(("-i", "a.mp4", "-vf", "zmq=bind_address=tcp\\://127.0.0.1\\:{port}", "out.mp4"), id="F07 a socket"),
    pytest.param(("-i", "a.mp4", "-f", "tee", "[f=mp4]{folder}/new|[f=null]x"), id="F08 two files"),
    pytest.param(("-i", "a.mp4", "-f", "hls", "-hls_segment_filename", "{folder}/s%d.ts", "out.m3u8"), id="F08 segments"),
    pytest.param(("-i", "a.mp4", "-progress", "tcp://127.0.0.1:{port}", "out.mp4"), id="F09 progress to a server"),
    pytest.param(("-i", "a.mp4", "-vstats_file", "{folder}/new", "out.mp4"), id="F09 statistics"),
    pytest.param(("-i", "a.mp4", "-attach", "{canary}", "out.mkv"), id="F10 an attachment"),
    pytest.param(("-i", "a.mp4", "-x264-params", "stats={folder}/new:pass=1", "out.mp4"), id="F11 x264's own files"),
    pytest.param(("-i", "a.mp4", "-x265-params", "csv={folder}/new", "-c:v", "libx265", "out.mp4"), id="F11 x265's own"),
    pytest.param(("-protocol_whitelist", "all", "-i", "a.mp4", "out.mp4"), id="F12 the guards"),
    pytest.param(("-f", "x11grab", "-i", ":0", "out.mp4"), id="F13 a device"),
    pytest.param(("-i", "a.mp4", "-vf", "scale=w='1:movie={canary}'", "out.mp4"), id="F14 quotes"),
    pytest.param(("-i", "a.mp4", "-vf", "select='while(1,1)'", "out.mp4"), id="F15 a loop in an expression"),
    pytest.param(("-stream_loop", "-1", "-i", "a.mp4", *FAST, "out.mp4"), id="F16 a loop of the input"),
    pytest.param(("-i", "a.mp4", "-vf", "scale=32000:32000", "out.mp4"), id="F17 a picture that is too large"),
    pytest.param(("-i", "a.mp4"), id="F24 no output"),
    pytest.param(("-i", "a.mp4", "-foo", "1", "out.mp4"), id="F25 an unknown option"),
]


@pytest.mark.parametrize("words", ATTACKS)
def test_an_attack_is_refused_before_ffmpeg_starts(house: House, words: tuple[str, ...]) -> None:
    port = house.server.getsockname()[1]
    filled = [word.format(canary=house.canary, folder=house.canary.parent, port=port) for word in words]
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


def test_k14_the_jail_is_required_unless_the_operator_says_otherwise(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPU_WORKER_RENDER_SANDBOX", raising=False)
    assert house.run("-i", "a.mp4", "-c", "copy", "out.mp4")["stats"]["sandbox"] == "full"
    house.gate.delete("out.mp4")


def test_after_all_that_the_engine_still_works(house: House) -> None:
    answer = house.run("-i", "a.mp4", *FAST, "-movflags", "+faststart", "out.mp4")
    assert (answer["stats"]["frames"], answer["stats"]["sandbox"]) == (50, "full")
    content = house.gate.read("out.mp4") or b""
    assert content.index(b"moov") < content.index(b"mdat")
