"""Path in, path out, over real HTTP: the local platform, the R2 gate, and a worker whose requests
are real and whose work is a toy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT
from support.toy_worker import PAYLOAD_BYTES, ToyWorker, inputs_in, storage_of

from gpu_worker.devserver import Fault, LocalPlatform
from gpu_worker_client import (
    Client,
    ConfigError,
    Finished,
    InvalidTask,
    Policy,
    StorageError,
    Transfer,
    UnsupportedMedia,
    split,
)
from gpu_worker_client.files import transfer
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.protocol import ErrorCode, TaskError


def test_a_path_becomes_a_path(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    serving = worker.serve()
    told: list[Any] = []
    result = client.upscale(
        clip, clip.with_name("out.mp4"), scale=2.0, model="lite", on_event=told.append
    )
    serving.join()
    assert clip.with_name("out.mp4").read_bytes() == clip.read_bytes()[::-1]
    assert result.stats.output_resolution == "8x8"
    assert worker.tasks[0]["params"] == {"scale": 2.0, "model": "lite"}
    assert platform.gate.keys() == inputs_in(platform), (
        "output and result are deleted, the input is kept"
    )
    directions = [event.direction for event in told if isinstance(event, Transfer)]
    assert directions == sorted(directions, reverse=True) and {"upload", "download"} == set(
        directions
    )
    assert told[-1] == Transfer("download", "out.mp4", 3000, 3000)
    assert any(isinstance(event, Finished) for event in told)


def test_a_clip_is_uploaded_once_for_all_tasks(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    worker.serve(3)
    assert client.detect_scenes(clip, threshold=27.0).stats.total_scenes == 0
    assert client.track(str(clip)).stats.unique_tracks == 0
    client.beat(clip, clip.with_name("clicks.wav"))
    assert clip.with_name("clicks.wav").exists()
    assert len(inputs_in(platform)) == 1
    assert (
        sum(
            seen.method == "PUT" and seen.key.startswith("gpu-worker/in/")
            for seen in platform.gate.log
        )
        == 1
    )


def test_inputs_are_deleted_when_they_shall_not_stay(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    client.storage = storage_of(platform, keep_inputs=False)
    worker.serve()
    client.detect_scenes(clip)
    assert platform.gate.keys() == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c, clip: c.upscale(clip, clip.with_name("o.mp4"), scael=4), InvalidTask),
        (lambda c, clip: c.upscale(clip, clip.with_name("o.mp4"), scale=9.0), InvalidTask),
        (
            lambda c, clip: c.upscale(clip.with_name("none.mp4"), clip.with_name("o.mp4")),
            FileNotFoundError,
        ),
        (lambda c, clip: c.upscale(clip, clip.parent / "none" / "o.mp4"), FileNotFoundError),
        (lambda c, clip: c.upscale(clip, clip), ConfigError),
        (lambda c, clip: c.upscale(clip, clip.with_name("o.avi")), ConfigError),
        (lambda c, clip: c.beat(clip, clip.with_name("o.aiff")), ConfigError),
        (
            lambda c, clip: c.render(
                ["-i", "in.mp4", "o.mp4"], [clip, clip.parent / "sub" / "in.mp4"], "o.mp4"
            ),
            ConfigError,
        ),
        (lambda c, clip: c.render(["-i", "in.mp4", "o.mp4"], str(clip), "o.mp4"), TypeError),
        (lambda c, clip: c.render("-i in.mp4 o.mp4", [clip], "o.mp4"), TypeError),
        (lambda c, clip: c.render(["-i", "in.mp4", "o.mp4"], [clip]), TypeError),
        (
            lambda c, clip: c.render(
                ["-i", "in.mp4", "o.mp4"], [clip], "o.mp4", output_url="https://h/o.mp4"
            ),
            TypeError,
        ),
    ],
    ids=[
        "misspelt",
        "out of range",
        "no input",
        "no folder",
        "onto itself",
        "no container",
        "no sound",
        "two of one name",
        "text for list",
        "one text",
        "no output",
        "two outputs",
    ],
)
def test_what_cannot_work_is_found_before_anything_is_sent(
    client: Client,
    platform: LocalPlatform,
    clip: Path,
    call: Callable[[Client, Path], object],
    expected: type[Exception],
) -> None:
    with pytest.raises(expected):
        call(client, clip)
    assert not platform.gate.log and not platform.control.log


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder.mp4", IsADirectoryError),
        ("in.mp4/o.mp4", NotADirectoryError),
        ("in.mp4/sub/o.mp4", NotADirectoryError),
        ("none/o.mp4", FileNotFoundError),
    ],
)
def test_a_place_where_no_output_can_be_is_named_before_anything_is_sent(
    client: Client, platform: LocalPlatform, clip: Path, name: str, expected: type[OSError]
) -> None:
    clip.with_name("folder.mp4").mkdir()
    output = clip.parent / name
    with pytest.raises(expected) as caught:
        client.upscale(clip, output, timeout=10)
    assert caught.value.filename == str(output)
    assert not platform.gate.log and not platform.control.log


def test_a_failed_job_leaves_nothing_behind(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    failure = TaskError(ErrorCode.corrupt_media, "frame 3 is broken").body().to_wire()
    worker.answer = lambda _: {"error": failure}
    worker.serve()
    with pytest.raises(UnsupportedMedia):
        client.upscale(clip, clip.with_name("out.mp4"))
    assert platform.gate.keys() == inputs_in(platform)
    assert [path.name for path in clip.parent.iterdir()] == ["in.mp4"]


def test_a_result_that_the_endpoint_drops_is_found_in_the_bucket(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    worker.answer = lambda whole: {"output": whole | {"padding": "x" * PAYLOAD_BYTES}}
    worker.serve()
    assert client.upscale(clip, clip.with_name("out.mp4")).stats.frames_processed == 1
    assert clip.with_name("out.mp4").exists()


class Killed(BaseException):
    """The process ends here."""


def test_a_call_that_was_killed_costs_no_second_job(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    def die(event: object) -> None:
        if isinstance(event, Transfer) and event.direction == "download":
            raise Killed

    worker.serve(2)
    out = clip.with_name("out.mp4")
    with pytest.raises(Killed):
        client.upscale(clip, out, on_event=die)
    assert not out.exists()
    result = client.upscale(clip, out)
    assert (worker.worked, result.deduplicated) == (1, True)
    assert out.read_bytes() == clip.read_bytes()[::-1]
    assert platform.gate.keys() == inputs_in(platform)


def test_a_finished_job_whose_output_is_gone_is_done_again(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    worker.serve(2)
    out = clip.with_name("out.mp4")
    platform.gate.faults.add(Fault.status(403, method="GET", path="*/output.mp4"))
    with pytest.raises(StorageError):
        client.upscale(clip, out)
    (output,) = set(platform.gate.keys()) & {
        f"gpu-worker/out/{worker.tasks[0]['idempotency_key']}/output.mp4"
    }
    platform.gate.delete(output)
    assert not client.upscale(clip, out).deduplicated
    assert (worker.worked, out.exists()) == (2, True)


def test_other_work_has_other_keys(client: Client, worker: ToyWorker, clip: Path) -> None:
    worker.serve(4)
    client.detect_scenes(clip)
    client.detect_scenes(clip, threshold=20.0)
    client.track(clip)
    client.track(clip, clip.with_name("drawn.mp4"))
    keys = [task["idempotency_key"] for task in worker.tasks]
    assert len(set(keys)) == 4


def test_a_large_output_comes_in_parts(
    client: Client,
    worker: ToyWorker,
    platform: LocalPlatform,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "SINGLE_PUT_BYTES", 1000)
    monkeypatch.setattr(transfer, "OUTPUT_PARTS", 4)  # the platform here takes small payloads
    worker.serve()
    client.upscale(clip, clip.with_name("out.mp4"))
    assert clip.with_name("out.mp4").read_bytes() == clip.read_bytes()[::-1]
    assert "output_url" not in worker.tasks[0]
    assert platform.gate.open_uploads() == []
    assert platform.gate.keys() == inputs_in(platform)


def test_parts_hold_what_an_output_may_have() -> None:
    for input_bytes in (130 * 1024**2, 4 * 1024**3, 100 * 1024**3):
        likely = transfer.OUTPUT_GROWTH * input_bytes
        part = max(transfer.MIN_OUTPUT_PART_BYTES, -(-likely // transfer.OUTPUT_PARTS))
        assert transfer.OUTPUT_PARTS * part >= likely
    assert transfer.OUTPUT_PARTS * 800 < 256 * 1024


def test_urls_outlive_the_job(client: Client, worker: ToyWorker, clip: Path) -> None:
    worker.serve(3)
    client.detect_scenes(clip)
    client.detect_scenes(clip, policy=Policy(ttl_seconds=3600))
    client.detect_scenes(clip, policy=Policy(ttl_seconds=7 * 24 * 3600))
    seconds = [
        int(task["input_url"].partition("X-Amz-Expires=")[2].partition("&")[0])
        for task in worker.tasks
    ]
    assert seconds == [25 * 3600, 3600, 604_800], (
        "a day in the queue and an hour of work unless a policy says otherwise"
    )


def test_a_command_on_files(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    second = clip.with_name("b.mov")
    second.write_bytes(b"second")
    out = clip.with_name("film.mp4")
    worker.serve(3)
    client.render(["-i", "in.mp4", "-i", "b.mov", "film.mp4"], [clip, second], out)
    assert out.read_bytes() == (clip.read_bytes() + b"second")[::-1]
    client.render(["-i", "x.mp4", "film.mp4"], inputs={"x.mp4": second}, output=str(out))
    assert out.read_bytes() == b"dnoces"
    client.render(["-i", "x.mp4", "film.mp4"], {"x.mp4": clip}, output_url=out)
    assert out.read_bytes() == clip.read_bytes()[::-1]
    assert [set(task["inputs"]) for task in worker.tasks] == [
        {"in.mp4", "b.mov"},
        {"x.mp4"},
        {"x.mp4"},
    ]


def test_urls_are_passed_on_and_need_no_bucket(
    client: Client, worker: ToyWorker, platform: LocalPlatform, clip: Path
) -> None:
    client.storage = None
    gate = platform.gate
    gate.put("a.mp4", b"from a url")
    get, put = gate.presign("GET", "a.mp4"), gate.presign("PUT", "b.mp4")
    worker.serve(2)
    client.render(["-i", "a.mp4", "b.mp4"], {"a.mp4": get}, put)
    assert gate.read("b.mp4") == b"lru a morf"
    assert worker.tasks[0] == {
        "task": "render",
        "inputs": {"a.mp4": get},
        "output_url": put,
        "params": {"command_args": ["-i", "a.mp4", "b.mp4"], "require_hardware": False},
    }
    client.storage = storage_of(platform)
    client.upscale(get, clip.with_name("out.mp4"))
    assert clip.with_name("out.mp4").read_bytes() == b"lru a morf"
    assert worker.tasks[1]["input_url"] == get


def test_without_a_bucket_the_variables_are_named(
    client: Client, platform: LocalPlatform, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "R2_ENDPOINT_URL",
        "R2_ACCOUNT_ID",
        "R2_BUCKET_NAME",
        "R2_ACCESS_KEY_ID",
        "R2_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    client.storage = None
    with pytest.raises(ConfigError, match="R2_BUCKET_NAME"):
        client.detect_scenes(clip)


def test_what_is_staged_shows_no_url(platform: LocalPlatform, clip: Path) -> None:
    work = FileWork("detect_scenes", {}, {"input_url": clip})
    prepared = transfer.prepare(work, lambda: storage_of(platform), None, lambda _: None)
    assert "X-Amz-Signature" in prepared.task.urls()["input_url"]
    assert "X-Amz" not in repr(prepared)


def test_the_documents_program_runs(
    worker: ToyWorker,
    platform: LocalPlatform,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/files.md").read_text(encoding="utf-8"), re.DOTALL
    )
    keys = platform.gate.credentials
    environment = {
        "GPU_WORKER_ENDPOINT_ID": platform.endpoint_id,
        "GPU_WORKER_BASE_URL": platform.base_url,
        "RUNPOD_API_KEY": platform.api_key,
        "R2_ENDPOINT_URL": platform.gate.base_url,
        "R2_BUCKET_NAME": platform.gate.bucket,
        "R2_ACCESS_KEY_ID": keys.access_key,
        "R2_SECRET_ACCESS_KEY": keys.secret_key,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(clip.parent)
    worker.serve(2)
    exec(compile(program, "docs/files.md", "exec"), {})  # our own document
    assert clip.with_name("out.mp4").read_bytes() == clip.read_bytes()[::-1]
    assert [task["params"] for task in worker.tasks] == [
        {"model": "lite", "scale": 2.0},
        {"threshold": 27.0},
    ]
    assert "download" in capsys.readouterr().err


def test_pyav_is_loaded_when_a_split_is_asked_for() -> None:
    program = (
        "import sys; from gpu_worker_client import Client; assert 'av' not in sys.modules;"
        " from gpu_worker_client.split import SplitPlan; assert 'av' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_split_without_pyav_names_the_extra(
    client: Client, platform: LocalPlatform, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"gpu-worker-client\[split\]"):
        client.upscale(clip, clip.with_name("out.mp4"), split=True)
    assert not platform.gate.log and not platform.control.log


def test_a_file_call_without_an_output_asks_for_a_path(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(b"1")
    with pytest.raises(InvalidTask, match="give an output path, or dry_run=True"):
        FileWork("auto_crop", {}, {"input_url": tmp_path / "in.mp4"}).check()
    FileWork("auto_crop", {"dry_run": True}, {"input_url": tmp_path / "in.mp4"}).check()
