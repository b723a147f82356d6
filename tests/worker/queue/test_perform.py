"""A manifest becomes a task of presigned URLs, an answer a result of the queue."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from gpu_worker.queue.perform import pull_settings, result_of, task_json
from gpu_worker.settings import Settings
from gpu_worker_client import ErrorCode, Storage
from gpu_worker_client.protocol import TaskError, parse_task
from gpu_worker_client.queue.documents import Manifest
from gpu_worker_client.queue.states import QueueState


@pytest.fixture(scope="module")
def storage() -> Storage:
    return Storage("https://acc.r2.cloudflarestorage.com", "media", "id", "secret", prefix="q")


def paths(task: dict[str, object]) -> dict[str, str]:
    urls = parse_task(task).urls()
    assert all("X-Amz-Signature=" in url for url in urls.values())
    return {where: urlsplit(url).path for where, url in urls.items()}


def test_a_manifest_of_the_first_design_is_a_track_task(storage: Storage) -> None:
    manifest = Manifest(
        job_id="abc-123", parameters={"sample_interval": 3, "confidence_threshold": 0.25}
    )
    task = task_json(manifest, None, storage)
    assert paths(task) == {"input_url": "/media/q/videos/abc-123.mp4"}
    assert task["params"] == {"frame_stride": 3, "confidence_threshold": 0.25}


def test_each_file_stands_where_the_task_has_it(storage: Storage) -> None:
    manifest = Manifest(
        job_id="r",
        task="render",
        parameters={"command_args": ["-i", "a.mp4", "out.mp4"], "output_filename": "out.mp4"},
        files={"inputs.a.mp4": "videos/r/a.mp4"},
        output="out.mp4",
    )
    assert paths(task_json(manifest, "outputs/r/1-n/out.mp4", storage)) == {
        "inputs.a.mp4": "/media/q/videos/r/a.mp4",
        "output_url": "/media/q/outputs/r/1-n/out.mp4",
    }


def test_a_task_may_read_nothing(storage: Storage) -> None:
    task = task_json(Manifest(job_id="s", task="selftest", files={}), None, storage)
    assert parse_task(task).task == "selftest"


def test_the_worker_reaches_its_bucket_and_no_other_host(storage: Storage) -> None:
    settings = pull_settings(Settings(), storage)
    assert settings.allowed_hosts == ("acc.r2.cloudflarestorage.com",)
    assert settings.exempt_hosts == {"acc.r2.cloudflarestorage.com:443"}


def test_an_answer_is_the_result() -> None:
    answer = {"task": "track", "stats": {"total_frames": 9}}
    result = result_of("a", answer, "outputs/a/1-n/out.mp4")
    assert (result.status, result.frames_processed) == (QueueState.completed, 9)
    assert result.output_key == "outputs/a/1-n/out.mp4" and result.result == answer


def test_a_failure_keeps_its_code() -> None:
    error = TaskError(ErrorCode.not_media, "no video").body().to_wire()
    result = result_of("a", {"error": error}, "outputs/a/1-n/out.mp4")
    assert result.status is QueueState.failed and result.output_key is None
    assert result.error is not None and result.error.code == "not_media"
    crash = result_of("a", {"error": "Traceback"}, None).error
    assert crash is not None and crash.retryable
