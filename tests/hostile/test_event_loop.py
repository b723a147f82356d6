"""The worker's event loop goes on whatever a job brings: no turn of it takes 50 ms, and nothing is
opened, listed, started or awaited in its thread."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from support import tracked
from support.loop_watch import LoopWatch, watched

from gpu_worker.app import Worker
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import TASKS, ErrorBody, track
from gpu_worker_client.protocol.boxes import BoxColumns
from gpu_worker_client.protocol.columnar import TrackHead, write_columnar
from gpu_worker_processors import limited_child, runner
from gpu_worker_processors.engine.host import EngineAnswer, EngineJob, OnProgress

MOST_SECONDS = 0.05
MANY_FILES = 100_000
SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "stats": {"total_scenes": 0, "avg_scene_length": 0.0, "total_frames": 1},
    "scenes": [],
}
TRACKS: dict[str, Any] = {
    "task": "track",
    "stats": {"total_frames": 1, "unique_tracks": 0},
    "idempotency_key": "k",
}
STORE = "https://a.r2.cloudflarestorage.com/bucket/"


def with_field(result: dict[str, Any], name: str, text: str) -> bytes:
    return (json.dumps(result)[:-1] + f',"{name}":{text}}}').encode()


def state(text: str) -> bytes:
    return with_field(TRACKS, "state_out", f'{{"a":{text}}}')


def columns(tracks: int, boxes: int) -> bytes:
    """A result whose tracks stand still: its columns take a thousandth of what they hold."""
    heads = [TrackHead(at + 1, "person", 0, boxes) for at in range(tracks)]
    still = BoxColumns()
    for frame in range(boxes):
        still.put(frame, [0, 0, 1, 1], 0.5, False)
    out = BytesIO()
    write_columnar(out, heads, (still for _ in heads))
    return json.dumps(
        TRACKS | {"tracks_columnar": base64.b64encode(out.getvalue()).decode()}
    ).encode()


class ManyFiles(tracked.Tracked):
    """An engine that leaves far more files than any job has."""

    def run(self, job: EngineJob, on_progress: OnProgress) -> EngineAnswer:
        for number in range(MANY_FILES):
            os.close(os.open(job.work_dir / str(number), os.O_CREAT | os.O_WRONLY))
        return super().run(job, on_progress)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(runner, "registry", tracked.REGISTRY)
    return Settings(work_root=tmp_path / "work", allow_local_files=True)


def watch(
    settings: Settings,
    task: dict[str, Any],
    made: bytes | None = None,
    kind: type[tracked.Tracked] = tracked.Tracked,
) -> dict[str, Any]:
    """The worker's answer, once it was given without holding the loop.

    Args:
        made: what the engine leaves as its result.
    """
    source = settings.work_root.with_name("in.mp4")
    source.touch()
    payload = {"id": "job", "input": {"input_url": str(source)} | task}
    left = json.dumps(SCENES).encode() if made is None else made

    async def run() -> tuple[LoopWatch, dict[str, Any]]:
        async with watched() as seen:
            return seen, await Worker(settings, kind(settings, left)).handle(payload)

    assert TASKS[task["task"]].request  # imported outside the loop, as the first job does it
    seen, answer = asyncio.run(run())
    assert seen.blocking == []
    assert seen.longest_seconds < MOST_SECONDS, seen.longest
    return answer


def again(stored: Path) -> dict[str, Any]:
    """A task whose result may lie there."""
    urls = {"result_url": str(stored), "result_get_url": str(stored)}
    return {"task": "track", "idempotency_key": "k"} | urls


def code(answer: dict[str, Any]) -> str:
    body = ErrorBody.from_wire(answer["error"])
    assert body is not None
    return body.code


EARLIER = {
    "deep": b"[" * 60_000,
    "a deep state": state("[" * 30_000 + "]" * 30_000),
    "a wide state": state("[" + ",".join(["[]"] * 20_000) + "]"),
    "long integers": state("[" + ",".join(["9" * 4300] * 14) + "]"),
    "short floats": state("[" + ",".join(["1e5"] * 15_000) + "]"),
    "many warnings": with_field(
        TRACKS, "warnings", "[" + ",".join(['{"code":"","message":""}'] * 2_500) + "]"
    ),
    "read by another process": state("[" + ",".join(["[]"] * 60_000) + "]"),
}


@pytest.mark.parametrize("found", EARLIER.values(), ids=EARLIER)
def test_an_earlier_result(settings: Settings, tmp_path: Path, found: bytes) -> None:
    stored = tmp_path / "result.json"
    stored.write_bytes(found)
    answer = watch(settings, again(stored), json.dumps(TRACKS).encode())
    assert answer["status"] == "completed"


def test_an_earlier_result_that_is_a_bomb(settings: Settings, tmp_path: Path) -> None:
    stored = tmp_path / "result.json.gz"
    stored.write_bytes(gzip.compress(b"[" * 15_000_000))
    assert stored.stat().st_size < 16_000
    answer = watch(settings, again(stored), json.dumps(TRACKS).encode())
    assert answer["status"] == "completed"


SCENE = '{"start_frame":0,"end_frame":1,"start_time":0.0,"end_time":1.0}'
MADE = {
    "15 MB": with_field(SCENES, "x", "[" + "{}," * 5_000_000 + "{}]"),
    "60 MB": with_field(SCENES, "x", "[" + "{}," * 20_000_000 + "{}]"),
    "3 MB of scenes": with_field(
        {name: value for name, value in SCENES.items() if name != "scenes"},
        "scenes",
        "[" + ",".join([SCENE] * 45_000) + "]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_the_result_that_a_captured_engine_leaves(settings: Settings, made: bytes) -> None:
    answer = watch(settings, {"task": "detect_scenes"}, made)
    assert "status" in answer or code(answer) == "result_too_large"


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A result of some kilobytes and a hundred thousand boxes, which are not unpacked here."""
    made = columns(100, 1_000)
    assert len(made) < limited_child.SMALL_BYTES

    def unpack(_: bytes) -> None:
        raise AssertionError("unpacked in the worker")

    monkeypatch.setattr(track, "read_columnar", unpack)
    return made


def test_boxes_packed_by_a_captured_engine(settings: Settings, packed: bytes) -> None:
    answer = watch(settings, {"task": "track"}, packed)
    assert answer["status"] == "completed"


def test_boxes_packed_in_an_earlier_result(
    settings: Settings, tmp_path: Path, packed: bytes
) -> None:
    stored = tmp_path / "result.json"
    stored.write_bytes(packed)
    assert watch(settings, again(stored))["deduplicated"]


@pytest.mark.slow
def test_a_hundred_thousand_files(settings: Settings) -> None:
    answer = watch(settings, {"task": "detect_scenes"}, kind=ManyFiles)
    assert answer["status"] == "completed"


def parts(count: int, **changed: Any) -> dict[str, Any]:
    listed = [{"n": n + 1, "url": f"https://a.bc/x?{n}"} | changed for n in range(count)]
    listed[-1]["url"] = "http://a.bc/not-allowed"
    return {"task": "upscale", "output_multipart": {"part_size": 5 << 20, "parts": listed}}


LARGE = {
    "parts": parts(5_000),
    "parts of wrong types": parts(9_000, n="a", url=1),
    "unknown keys": {"task": "detect_scenes"} | {f"k{at}": 1 for at in range(20_000)},
    "inputs": {
        "task": "render",
        "inputs": {f"{at}.mp4": f"https://a.bc/{at}" for at in range(6_000)},
        "output_url": f"{STORE}o.mp4",
        "params": {"command_args": ["-i", "1.mp4", "o.mp4"], "output_filename": "o.mp4"},
    },
    "words": {
        "task": "render",
        "inputs": {"a.mp4": f"{STORE}a.mp4"},
        "output_url": f"{STORE}o.mp4",
        "params": {"command_args": ["a"] * 50_000, "output_filename": "o.mp4"},
    },
    "overrides": {
        "task": "auto_crop",
        "output_url": f"{STORE}o.mp4",
        "params": {"overrides": [{"start_time": 0, "end_time": 1, "x": 0}] * 6_000},
    },
    "headers": {
        "task": "detect_scenes",
        "headers": {"input": {f"x-amz-{at}": "1" for at in range(12_000)}},
    },
    "quotes": {"task": "detect_scenes", "x": '\\"' * 60_000},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", LARGE.values(), ids=LARGE)
def test_a_task_of_a_quarter_of_a_megabyte(settings: Settings, task: dict[str, Any]) -> None:
    assert "error" in watch(settings, task)
