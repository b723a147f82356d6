"""The queue's state machine under a clock that the test moves. The rules are RunPod's documented
ones."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_worker.devserver import ManualClock, PlatformLimits
from gpu_worker.devserver.endpoint.job import Job, Status
from gpu_worker.devserver.endpoint.jobs import JobQueue, NotRetryable, UnknownJob
from gpu_worker.devserver.limits import PolicyError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=0.0)


@pytest.fixture
def queue(clock: ManualClock) -> JobQueue:
    return JobQueue(PlatformLimits(lost_worker_seconds=30), clock)


def submit(queue: JobQueue, *, sync: bool = False, **fields: Any) -> Job:
    return queue.submit({"input": {"n": 1}, **fields}, sync=sync)


def running(queue: JobQueue, **fields: Any) -> Job:
    job = submit(queue, **fields)
    assert queue.take("w1") == [job]
    return job


def test_from_queue_to_completed_with_times_in_milliseconds(
    queue: JobQueue, clock: ManualClock
) -> None:
    job = submit(queue)
    assert job.public() == {"id": job.id, "status": "IN_QUEUE"}
    clock.advance(2)
    queue.take("w1")
    assert job.public() == {
        "id": job.id,
        "status": "IN_PROGRESS",
        "delayTime": 2000,
        "workerId": "w1",
    }
    clock.advance(3.5)
    queue.finish(job.id, "w1", {"output": {"answer": 42}})
    expected = {
        "delayTime": 2000,
        "executionTime": 3500,
        "workerId": "w1",
        "output": {"answer": 42},
    }
    assert job.public() == {"id": job.id, "status": "COMPLETED", **expected}


def test_jobs_are_taken_in_order_each_once(queue: JobQueue) -> None:
    jobs = [submit(queue) for _ in range(3)]
    assert queue.take("w1") + queue.take("w2", 5) == jobs
    assert queue.take("w1") == []


def test_ids_tell_run_from_runsync(queue: JobQueue) -> None:
    assert submit(queue).id.endswith("-u1")
    assert submit(queue, sync=True).id.startswith("sync-")


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        ({"output": {"a": 1}}, Status.COMPLETED, {"output": {"a": 1}}),
        ({"output": False}, Status.COMPLETED, {"output": False}),
        ({}, Status.COMPLETED, {}),
        ({"error": "boom"}, Status.FAILED, {"error": "boom"}),
        (
            {"error": "boom", "output": {"detail": 1}},
            Status.FAILED,
            {"error": "boom", "output": {"detail": 1}},
        ),
        ({"error": {"code": "boom"}, "output": {"a": 1}}, Status.COMPLETED, {}),
    ],
)
def test_what_a_result_becomes(
    queue: JobQueue, body: dict[str, Any], status: Status, answer: dict[str, Any]
) -> None:
    job = running(queue)
    queue.finish(job.id, "w1", body)
    assert (job.status, job.answer) == (status, answer)


def test_progress_shows_while_running_and_never_after_the_end(queue: JobQueue) -> None:
    job = running(queue)
    queue.progress(job.id, "w1", {"seq": 1})
    assert job.public()["output"] == {"seq": 1}
    queue.finish(job.id, "w1", {"output": {"answer": 42}})
    queue.progress(job.id, "w1", {"seq": 2})
    assert (job.status, job.answer) == (Status.COMPLETED, {"output": {"answer": 42}})
    assert job.history == ["IN_QUEUE", "IN_PROGRESS", "progress", "COMPLETED", "late_progress"]


def test_execution_timeout_counts_running_time_and_stops_the_worker(
    queue: JobQueue, clock: ManualClock
) -> None:
    job = submit(queue, policy={"executionTimeout": 5000})
    clock.advance(1000)
    queue.take("w1")
    clock.advance(5)
    queue.seen("w1")
    assert queue.get(job.id).status is Status.IN_PROGRESS
    clock.advance(0.1)
    assert queue.get(job.id).status is Status.TIMED_OUT
    assert queue.take_stops("w1") == [job.id]
    assert queue.take_stops("w1") == []
    queue.finish(job.id, "w1", {"output": "too late"})
    assert (job.status, job.history[-1]) == (Status.TIMED_OUT, "late_result")


def test_the_default_execution_timeout_is_ten_minutes(queue: JobQueue, clock: ManualClock) -> None:
    job = running(queue)
    for _ in range(30):
        clock.advance(20)
        queue.seen("w1")
    assert queue.get(job.id).status is Status.IN_PROGRESS
    clock.advance(1)
    assert queue.get(job.id).status is Status.TIMED_OUT


@pytest.mark.parametrize("taken", [False, True])
def test_ttl_deletes_even_a_running_job(queue: JobQueue, clock: ManualClock, taken: bool) -> None:
    job = submit(queue, policy={"ttl": 20_000})
    if taken:
        queue.take("w1")
    clock.advance(20.1)
    with pytest.raises(UnknownJob):
        queue.get(job.id)
    assert queue.take_stops("w1") == ([job.id] if taken else [])
    assert queue.take("w1") == []


@pytest.mark.parametrize(("sync", "kept_seconds"), [(False, 1800), (True, 60)])
def test_results_expire(
    queue: JobQueue, clock: ManualClock, sync: bool, kept_seconds: float
) -> None:
    job = running(queue, sync=sync)
    queue.finish(job.id, "w1", {"output": 1})
    clock.advance(kept_seconds)
    assert queue.get(job.id) is job
    clock.advance(0.1)
    with pytest.raises(UnknownJob):
        queue.get(job.id)
    with pytest.raises(UnknownJob):
        queue.retry(job.id)


def test_jobs_of_a_silent_worker_are_delivered_again_first(
    queue: JobQueue, clock: ManualClock
) -> None:
    job, waiting = running(queue), submit(queue)
    clock.advance(20)
    queue.seen("w1")
    clock.advance(30)
    assert queue.get(job.id).status is Status.IN_PROGRESS
    clock.advance(1)
    assert queue.get(job.id).status is Status.IN_QUEUE
    assert queue.take("w2", 2) == [job, waiting]
    assert job.deliveries == 2
    assert queue.health()["jobs"]["retried"] == 1


def test_of_two_results_the_first_wins_and_the_other_worker_is_stopped(
    queue: JobQueue, clock: ManualClock
) -> None:
    job = running(queue)
    clock.advance(31)
    assert queue.take("w2") == [job]
    queue.finish(job.id, "w1", {"output": "first"})
    assert queue.take_stops("w2") == [job.id]
    queue.finish(job.id, "w2", {"output": "second"})
    assert job.answer == {"output": "first"}
    assert job.history[-2:] == ["COMPLETED", "late_result"]


def test_cancel_in_the_queue_and_while_running(queue: JobQueue) -> None:
    queued = submit(queue)
    assert queue.cancel(queued.id).status is Status.CANCELLED
    assert queue.take("w1") == []
    job = running(queue)
    assert queue.cancel(job.id).status is Status.CANCELLED
    assert queue.take_stops("w1") == [job.id]
    queue.finish(job.id, "w1", {"output": 1})
    assert queue.cancel(job.id).status is Status.CANCELLED


def test_cancel_leaves_a_finished_job_alone(queue: JobQueue) -> None:
    job = running(queue)
    queue.finish(job.id, "w1", {"output": 1})
    assert queue.cancel(job.id).status is Status.COMPLETED


def test_retry_keeps_id_and_input_and_forgets_the_answer(queue: JobQueue) -> None:
    job = running(queue)
    queue.add_stream(job.id, "w1", {"output": "half"}, 10)
    queue.finish(job.id, "w1", {"error": "boom"})
    again = queue.retry(job.id)
    assert queue.take_stream(again) == []
    assert again.public() == {"id": job.id, "status": "IN_QUEUE"}
    assert queue.take("w1")[0].input == {"n": 1}
    queue.finish(job.id, "w1", {"output": 1})
    with pytest.raises(NotRetryable):
        queue.retry(job.id)


def test_retry_after_a_timeout(queue: JobQueue, clock: ManualClock) -> None:
    job = running(queue, policy={"executionTimeout": 5000})
    clock.advance(6)
    assert queue.retry(job.id).status is Status.IN_QUEUE
    queue.take("w2")
    clock.advance(4)
    assert queue.get(job.id).status is Status.IN_PROGRESS


def test_purge_takes_what_waits_and_leaves_what_runs(queue: JobQueue) -> None:
    job = running(queue)
    waiting = [submit(queue), submit(queue)]
    assert queue.purge() == 2
    assert [item.status for item in waiting] == [Status.CANCELLED] * 2
    assert job.status is Status.IN_PROGRESS
    assert queue.take("w2") == []


def test_a_worker_that_asked_for_a_refresh_gets_no_more_jobs(queue: JobQueue) -> None:
    job = running(queue)
    queue.finish(job.id, "w1", {"error": "gpu_oom", "stopPod": True})
    waiting = submit(queue)
    assert queue.take("w1") == []
    assert queue.stopping == ["w1"]
    assert queue.take("w2") == [waiting]


def test_a_webhook_is_due_once_per_end_and_echoes_the_input(queue: JobQueue) -> None:
    job = running(queue, webhook="http://127.0.0.1:9/hook")
    assert queue.webhooks == []
    queue.finish(job.id, "w1", {"output": 1})
    ((url, body),) = queue.webhooks
    assert url == "http://127.0.0.1:9/hook"
    assert body == {**job.public(), "input": {"n": 1}, "webhook": url}


def test_health_counts(queue: JobQueue) -> None:
    running(queue)
    submit(queue)
    queue.seen("w2")
    health = queue.health()
    assert health["jobs"] == {
        "completed": 0,
        "failed": 0,
        "inProgress": 1,
        "inQueue": 1,
        "retried": 0,
    }
    assert (health["workers"]["idle"], health["workers"]["running"]) == (1, 1)


def test_other_top_level_keys_are_kept_for_the_worker(queue: JobQueue) -> None:
    job = submit(queue, s3Config={"bucketName": "b"}, id="chosen by the caller")
    assert job.extra == {"s3Config": {"bucketName": "b"}}
    assert job.id != "chosen by the caller"


@pytest.mark.parametrize(
    "policy",
    [{"ttl": 9999}, {"ttl": 604_800_001}, {"executionTimeout": 4999}, {"ttl": "1h"}, {"ttl": True}],
)
def test_policies_out_of_range_are_refused(queue: JobQueue, policy: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        submit(queue, policy=policy)


def test_stream_chunks_are_given_once_and_at_most_a_megabyte_at_a_time(queue: JobQueue) -> None:
    job = running(queue)
    for number in range(3):
        queue.add_stream(job.id, "w1", {"output": number}, 600_000)
    assert queue.take_stream(job) == [{"output": 0}]
    assert queue.take_stream(job) == [{"output": 1}]
    queue.add_stream(job.id, "w1", {"output": 3}, 10)
    assert queue.take_stream(job) == [{"output": 2}, {"output": 3}]
    assert queue.take_stream(job) == []
