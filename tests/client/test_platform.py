"""The client against the local RunPod platform over HTTP; the worker is played by hand, one act
each time the client waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.hand_worker import HandWorker

from gpu_worker.devserver.clock import ManualClock
from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.limits import PlatformLimits
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import (
    APIConnectionError,
    AuthenticationError,
    Client,
    Event,
    JobCancelled,
    JobExpired,
    JobTimedOut,
    NotFoundError,
    OutOfMemory,
    PayloadTooLargeError,
    Policy,
    ProgressEvent,
    RateLimitError,
    ResultLost,
    State,
    Timing,
    WaitTimeout,
)
from gpu_worker_client.protocol import (
    DetectScenesResult,
    DetectScenesTask,
    ErrorCode,
    SelftestTask,
    TaskError,
)

SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}],
    "stats": {"total_scenes": 1, "avg_scene_length": 1.0},
}
TASK = DetectScenesTask(input_url="https://h/in.mp4")
LIMITS = PlatformLimits(run_payload_bytes=2000)


class Acts:
    """What happens each time the client waits, in order. A wait with nothing left to happen would
    be endless: it fails."""

    def __init__(self) -> None:
        self.left: list[Callable[[], object]] = []
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.left.pop(0)()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def platform(clock: ManualClock) -> Iterator[LocalPlatform]:
    with LocalPlatform(clock=clock, limits=LIMITS, poll_seconds=0.05) as platform:
        yield platform


@pytest.fixture
def worker(platform: LocalPlatform) -> Iterator[HandWorker]:
    worker = HandWorker(platform)
    with worker.http:
        yield worker


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def client(platform: LocalPlatform, acts: Acts) -> Iterator[Client]:
    timing = Timing(clock=lambda: acts.seconds, sleep=acts.sleep, random=lambda: 0.5)
    with Client(platform.endpoint_id, platform.api_key, platform.base_url, timing=timing) as client:
        yield client


def test_a_job_from_submit_to_its_typed_result(
    client: Client, worker: HandWorker, acts: Acts, platform: LocalPlatform
) -> None:
    job = client.submit(TASK, policy=Policy(execution_timeout_seconds=120, ttl_seconds=900))
    assert platform.job(job.id).policy.execution_timeout_seconds == 120
    assert platform.job(job.id).policy.ttl_seconds == 900
    acts.left = [
        lambda: worker.take(),
        lambda: worker.progress(job.id, 2),
        lambda: worker.progress(job.id, 1),
        lambda: worker.progress(job.id, 3),
        lambda: worker.post(job.id, {"output": SCENES}),
    ]
    told = [
        event.progress.seq if isinstance(event, ProgressEvent) else type(event).__name__
        for event in job.events()
    ]
    assert told == ["Queued", "Started", 2, 3, "Finished"]
    assert worker.progress(job.id, 9) == 200  # late, as runpod-python #250 shows
    result = job.result()
    assert isinstance(result, DetectScenesResult)
    assert (result.stats.total_scenes, job.status().state) == (1, State.completed)
    assert platform.job(job.id).input == {"task": "detect_scenes", "input_url": "https://h/in.mp4"}


def test_a_job_taken_up_by_another_client(
    client: Client, worker: HandWorker, platform: LocalPlatform
) -> None:
    job_id = client.submit(TASK).id
    worker.take()
    worker.post(job_id, {"output": SCENES})
    with Client(platform.endpoint_id, platform.api_key, platform.base_url) as other:
        assert isinstance(other.job(job_id).result(), DetectScenesResult)


def test_the_workers_error_is_typed(client: Client, worker: HandWorker) -> None:
    job = client.submit(TASK)
    worker.take()
    error = TaskError(ErrorCode.gpu_oom, "no tile fits", stage="process")
    worker.post(job.id, {"error": error.body().to_wire(), "stopPod": True})
    with pytest.raises(OutOfMemory) as caught:
        job.result()
    assert caught.value.retryable


def test_cancel_reaches_the_worker_and_a_late_result_changes_nothing(
    client: Client, worker: HandWorker
) -> None:
    job = client.submit(TASK)
    worker.take()
    assert job.cancel().state is State.cancelled
    stops = worker.http.get(f"{worker.endpoint}/job-stop/w1?gpu=local", timeout=10).json()
    assert stops == {"jobsToStop": [job.id]}
    worker.post(job.id, {"output": SCENES})
    with pytest.raises(JobCancelled):
        client.job(job.id).result()


def test_cancel_of_a_finished_job_keeps_its_result(client: Client, worker: HandWorker) -> None:
    job = client.submit(TASK)
    worker.take()
    worker.post(job.id, {"output": SCENES})
    assert job.cancel().state is State.completed
    assert job.result().stats.total_scenes == 1


def test_execution_timeout(
    client: Client, worker: HandWorker, acts: Acts, clock: ManualClock
) -> None:
    job = client.submit(TASK, policy=Policy(execution_timeout_seconds=20))
    # Less than LIMITS.lost_worker_seconds: the worker counts as alive.
    acts.left = [lambda: worker.take(), lambda: clock.advance(21)]
    with pytest.raises(JobTimedOut, match="executionTimeout"):
        job.result()


def test_ttl_deletes_even_a_running_job(
    client: Client, worker: HandWorker, acts: Acts, clock: ManualClock
) -> None:
    job = client.submit(TASK, policy=Policy(ttl_seconds=60))
    acts.left = [lambda: worker.take(), lambda: clock.advance(61)]
    with pytest.raises(JobExpired):
        job.result()


def test_a_result_is_gone_after_retention_but_not_from_the_handle_that_saw_it(
    client: Client, worker: HandWorker, clock: ManualClock
) -> None:
    job = client.submit(TASK)
    worker.take()
    worker.post(job.id, {"output": SCENES})
    assert job.wait().state is State.completed
    clock.advance(31 * 60)
    assert job.result().stats.total_scenes == 1
    with pytest.raises(JobExpired):
        client.job(job.id).result()


def test_a_result_over_the_limit_is_lost_with_a_word(client: Client, worker: HandWorker) -> None:
    job = client.submit(TASK)
    worker.take()
    assert worker.post(job.id, {"output": {**SCENES, "padding": "x" * 3000}}) == 400
    with pytest.raises(ResultLost, match="result_url"):
        job.result()


def test_a_task_over_the_endpoints_limit(client: Client) -> None:
    with pytest.raises(PayloadTooLargeError):
        client.submit(DetectScenesTask(input_url="https://h/" + "x" * 3000))


def test_a_lost_worker_gives_the_job_to_another(
    client: Client, worker: HandWorker, acts: Acts, clock: ManualClock
) -> None:
    job = client.submit(TASK)
    acts.left = [
        lambda: worker.take("w1"),
        lambda: worker.progress(job.id, 7, "w1"),
        lambda: clock.advance(LIMITS.lost_worker_seconds + 1),
        lambda: worker.take("w2"),
        lambda: worker.progress(job.id, 1, "w2"),
        lambda: worker.post(job.id, {"output": SCENES}, "w2"),
    ]
    told = [
        event.progress.seq if isinstance(event, ProgressEvent) else type(event).__name__
        for event in job.events()
    ]
    assert told == ["Queued", "Started", 7, "Queued", "Started", 1, "Finished"]


def test_faults_while_waiting_are_survived(
    client: Client, worker: HandWorker, acts: Acts, platform: LocalPlatform
) -> None:
    job = client.submit(TASK)
    worker.take()
    worker.post(job.id, {"output": SCENES})
    faults = [
        platform.faults.add(Fault.status(503, path="status/*", times=2)),
        platform.faults.add(Fault.lose_response(path="status/*")),
        platform.faults.add(Fault.truncated(path="status/*", after_bytes=5)),
        platform.faults.add(Fault.status(429, path="status/*", headers={"Retry-After": "3"})),
    ]
    acts.left = [lambda: None] * 5
    assert job.result().stats.total_scenes == 1
    assert [fault.hits for fault in faults] == [2, 1, 1, 1]
    assert acts.left == []


def test_a_submit_whose_answer_is_lost_is_queued_once(
    client: Client, platform: LocalPlatform
) -> None:
    platform.faults.add(Fault.lose_response(path="run"))
    with pytest.raises(APIConnectionError, match="may have taken"):
        client.submit(TASK)
    assert len(platform.control.hub.queue.jobs) == 1


def test_with_a_stored_result_it_is_sent_again(
    client: Client, acts: Acts, platform: LocalPlatform
) -> None:
    platform.faults.add(Fault.lose_response(path="run"))
    acts.left = [lambda: None]
    gate = platform.gate
    put, get = gate.presign("PUT", "r.json"), gate.presign("GET", "r.json")
    job = client.submit(SelftestTask(idempotency_key="once", result_url=put, result_get_url=get))
    assert job.id in platform.control.hub.queue.jobs


def test_rate_limits_are_waited_out(client: Client, acts: Acts, platform: LocalPlatform) -> None:
    platform.faults.add(Fault.status(429, path="run", times=2, headers={"Retry-After": "2"}))
    acts.left = [lambda: None] * 2
    client.submit(TASK)
    assert acts.seconds == pytest.approx(4 + 0.25 + 0.5)
    platform.faults.add(Fault.status(429, path="run", headers={"Retry-After": "9999"}))
    with pytest.raises(RateLimitError):
        client.submit(TASK)


def test_a_redirect_is_refused(client: Client, platform: LocalPlatform) -> None:
    platform.faults.add(Fault.redirect(f"{platform.base_url}/elsewhere/run", path="run"))
    with pytest.raises(Exception, match="redirects are refused"):
        client.submit(TASK)
    assert [call.path for call in platform.control.log] == ["run"]


def test_wrong_key_and_wrong_endpoint(platform: LocalPlatform) -> None:
    with (
        Client(platform.endpoint_id, "wrong", platform.base_url) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.submit(TASK)
    with Client("other", platform.api_key, platform.base_url) as lost, pytest.raises(NotFoundError):
        lost.submit(TASK)


def test_health(client: Client, worker: HandWorker) -> None:
    client.submit(TASK)
    client.submit(TASK)
    worker.take()
    health = client.health()
    assert (
        health["jobs"]["inQueue"],
        health["jobs"]["inProgress"],
        health["workers"]["running"],
    ) == (1, 1, 1)


def test_run_times_out_and_the_worker_is_told(
    client: Client, worker: HandWorker, acts: Acts
) -> None:
    events: list[Event] = []
    taken: list[dict[str, Any]] = []
    acts.left = [lambda: taken.append(worker.take()), *[lambda: None] * 20]
    with pytest.raises(WaitTimeout) as caught:
        client.run(TASK, timeout=30, on_event=events.append)
    assert [type(event).__name__ for event in events] == ["Queued", "Started"]
    assert caught.value.job.id == taken[0]["id"]
    assert caught.value.job.status().state is State.cancelled
