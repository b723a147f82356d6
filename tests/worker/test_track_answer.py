"""A result of tracks on its way out: inline, at `result_url`, in the worker's bucket or as columns,
and nothing lost on any."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import tracked

from gpu_worker.answer import reused_answer
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.settings import Settings
from gpu_worker_client import Storage
from gpu_worker_client.protocol import ErrorBody, TaskError, TrackResult, TrackStats
from gpu_worker_processors import runner
from gpu_worker_processors.results import AnswerLimits, answer_bytes, fit_answer, summary

BOXES = 3000
Answer = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> TrackResult:
    return tracked.make_result(tmp_path_factory.mktemp("made"), BOXES)


@pytest.fixture(scope="module")
def expected(packed: TrackResult) -> TrackResult:
    return packed.unpacked()


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: TrackResult) -> Answer:
    """Sends a task through the worker, with settings changed."""
    monkeypatch.setattr(runner, "registry", tracked.REGISTRY)
    source = tmp_path / "in.mp4"
    source.touch()
    settings = Settings(work_root=tmp_path / "work", allow_local_files=True)

    def call(
        result: bytes | None = None, task: dict[str, Any] | None = None, **changes: Any
    ) -> dict[str, Any]:
        found = tracked.answer(
            dataclasses.replace(settings, **changes),
            result or packed.model_dump_json().encode(),
            source,
            **(task or {}),
        )
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert [path.name for path in settings.work_root.iterdir()] == [], "nothing is left behind"
        return found

    return call


def error(answer: dict[str, Any]) -> ErrorBody:
    body = ErrorBody.from_wire(answer["error"])
    assert body is not None
    return body


def test_a_small_result_is_inline(ask: Answer, expected: TrackResult) -> None:
    answer = ask()
    assert answer["tracks_columnar"] is None and answer["output_url"] is None
    assert answer["tracks"][0]["class"] == "person"
    assert answer["tracks"][0]["frames"][0].keys() == {
        "frame",
        "bbox",
        "confidence",
        "interpolated",
    }
    assert answer["tracks"][0]["frames"][1].keys() == {"frame", "bbox", "confidence"}
    assert TrackResult.model_validate(answer).tracks == expected.tracks


@pytest.mark.parametrize("name", ["r.json", "r.json.gz"])
def test_a_large_one_goes_to_result_url(
    ask: Answer, expected: TrackResult, tmp_path: Path, name: str
) -> None:
    answer = ask(task={"result_url": str(tmp_path / name)}, inline_result_bytes=20_000)
    assert not {"tracks", "cuts"} & set(answer)
    assert (answer["tracks_count"], answer["cuts_count"], answer["tracks_columnar"]) == (
        len(expected.tracks),
        0,
        None,
    )
    assert answer["stats"]["boxes"] == BOXES and answer["video"]["width"] == 1920
    stored = (tmp_path / name).read_bytes()
    whole = TrackResult.from_json(gzip.decompress(stored) if name.endswith(".gz") else stored)
    assert whole.tracks == expected.tracks
    assert whole.timings is not None and whole.worker is not None


def test_a_small_one_goes_to_result_url_as_well(
    ask: Answer, expected: TrackResult, tmp_path: Path
) -> None:
    answer = ask(task={"result_url": str(tmp_path / "r.json")})
    for found in (
        TrackResult.model_validate(answer),
        TrackResult.from_json((tmp_path / "r.json").read_bytes()),
    ):
        assert found.tracks == expected.tracks


def test_without_a_place_it_is_columns(ask: Answer, expected: TrackResult) -> None:
    answer = ask(inline_result_bytes=40_000, max_answer_bytes=80_000)
    assert answer["tracks"] == [] and answer_bytes(answer) < 80_000
    assert TrackResult.model_validate(answer).tracks == expected.tracks


def test_without_a_place_and_too_large_for_columns_it_says_so(ask: Answer) -> None:
    failed = error(ask(inline_result_bytes=1000, max_answer_bytes=10_000))
    assert (failed.code, failed.retryable) == ("result_too_large", False)
    assert failed.details["limit"] == 10_000 < failed.details["size"] < 60_000, (
        "the size is that of the columns"
    )
    assert "result_url" in failed.message


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(data_dir=tmp_path_factory.mktemp("platform")) as platform:
        yield platform


def bucket(platform: LocalPlatform) -> dict[str, str]:
    """The variables that name the gate's bucket."""
    gate = platform.gate
    return {
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
    }


def test_the_workers_own_bucket_takes_it(
    ask: Answer, expected: TrackResult, platform: LocalPlatform
) -> None:
    import requests

    exempt = frozenset({platform.gate.base_url.removeprefix("http://")})
    answer = ask(
        inline_result_bytes=1000, bucket=Storage.from_env(bucket(platform)), exempt_hosts=exempt
    )
    assert answer["tracks_count"] == len(expected.tracks) and "tracks" not in answer
    stored = requests.get(answer["result_url"], timeout=10)
    assert stored.status_code == 200
    assert TrackResult.from_json(stored.content).tracks == expected.tracks


def forged(packed: TrackResult, **fields: Any) -> bytes:
    return json.dumps(packed.model_dump(mode="json") | fields).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"tracks_columnar": "aGVsbG8="},
        {"tracks_columnar": "no base64"},
        {"tracks_columnar": ""},
        {"tracks": [{"track_id": 1, "class": "a", "frames": []}]},
        {
            "tracks_columnar": None,
            "tracks": [{"track_id": 1, "class": "a", "frames": [{"frame": 1}]}],
        },
    ],
    ids=["no columns", "no base64", "empty", "twice", "no box"],
)
def test_what_a_captured_engine_leaves_is_read_with_care(
    ask: Answer, packed: TrackResult, fields: dict[str, Any]
) -> None:
    assert error(ask(forged(packed, **fields))).code == "internal"


def test_a_number_that_is_not_finite_is_found(ask: Answer, packed: TrackResult) -> None:
    broken = forged(packed, stats=packed.stats.model_dump() | {"fps": float("nan")})
    for changes in ({}, {"inline_result_bytes": 1000}):
        assert error(ask(broken, **changes)).code == "internal", "it is no JSON"
        infinite = broken.replace(b"NaN", b"1e999")
        assert error(ask(infinite, **changes)).code == "output_invalid"


# An earlier result with the same key


@pytest.mark.usefixtures("ask")
def test_an_earlier_result_is_answered_by_its_summary_or_whole(expected: TrackResult) -> None:
    whole = expected.model_copy(update={"idempotency_key": "k", "result_url": "https://h/r.json"})
    text = "".join(whole.json_pieces()).encode()
    again = reused_answer(text, "track", "k", Settings())
    assert again is not None and again["deduplicated"] is True
    assert TrackResult.model_validate(again).tracks == expected.tracks
    again = reused_answer(text, "track", "k", Settings(inline_result_bytes=10_000))
    assert (
        again is not None
        and again["tracks_count"] == len(expected.tracks)
        and "tracks" not in again
    )
    assert reused_answer(text, "track", "another", Settings()) is None


@pytest.mark.usefixtures("ask")
@pytest.mark.parametrize(
    "text", [b"", b"[" * 200_000, b'{"tracks":' + b"[" * 200_000, b'{"status": NaN}', b"\xff"]
)
def test_what_is_no_earlier_result_means_that_the_work_is_done(text: bytes) -> None:
    assert reused_answer(text, "track", "k", Settings()) is None


# Other results


def test_a_summary_counts_whatever_is_long() -> None:
    result = TrackResult.model_validate(
        {
            "stats": {"total_frames": 1, "unique_tracks": 0},
            "later": [1, 2, 3],
            "warnings": [{"code": "a", "message": "b"}],
        }
    )
    found = summary(result, "https://h/r.json")
    assert (found["later_count"], found["tracks_count"], found["cuts_count"]) == (3, 0, 0)
    assert found["warnings"] and found["result_url"] == "https://h/r.json"
    assert not {"later", "tracks", "cuts"} & set(found)


def test_one_without_a_compact_form_is_whole_up_to_the_answers_limit() -> None:
    result = TrackResult(stats=TrackStats(total_frames=1, unique_tracks=0)).model_copy(
        update={"cuts": []}
    )
    whole = result.model_dump(mode="json")
    size = answer_bytes(whole)
    assert fit_answer(result, AnswerLimits(10, size), stored=False).answer == whole
    with pytest.raises(TaskError):
        fit_answer(result, AnswerLimits(10, size - 1), stored=False)


# A million


PEAK_MB = 300


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("million")
    said = step(folder, "engine", folder, "1000000")
    print(
        f"{said['characters'] * 0.75 / 1e6:.2f} bytes a box, {said['characters'] / 1e6:.2f} in"
        " base64"
    )
    assert said["characters"] * 0.75 < 6e6
    return folder


def step(folder: Path, *args: object, **env: str) -> dict[str, Any]:
    command = [sys.executable, tracked.__file__, *map(str, args)]
    done = subprocess.run(
        command,
        env={**os.environ, **env},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
    )
    said = json.loads(done.stdout)
    print(args[0], *[Path(str(arg)).name for arg in args[2:]], said)
    assert said["peak_mb"] < PEAK_MB
    assert not said.get("error")
    return said


@pytest.mark.slow
@pytest.mark.parametrize("way", ["r.json", "r.json.gz", "bucket", "columns"])
def test_a_million_boxes_take_little_memory_on_every_way(
    million: Path, platform: LocalPlatform, way: str
) -> None:
    """An hour of ten players: engine, worker and client each in a process of its own."""
    env, where = {}, [str(million / way)] if way.startswith("r.") else []
    if way == "bucket":
        exempt = platform.gate.base_url.removeprefix("http://")
        env = bucket(platform) | {"GPU_WORKER_EXEMPT_HOSTS": exempt}
    said = step(million, "worker", million, *where, **env)
    answer = json.loads((million / "answer.json").read_text())
    assert answer_bytes(answer) < Settings().max_answer_bytes
    if way == "columns":
        assert "tracks_count" not in said["keys"]
        kept = million / "answer.json"
    else:
        assert answer["tracks_count"] == 1670 and "tracks" not in answer
        kept = million / "r.json" if way != "bucket" else stored_in(platform, answer["result_url"])
    if way != "r.json.gz":
        read = step(million, "client", kept)
        assert (read["boxes"], read["tracks"]) == (1_000_000, 1670)


def stored_in(platform: LocalPlatform, url: str) -> Path:
    return platform.gate.path(url.split("?")[0].split(f"/{platform.gate.bucket}/")[1])
