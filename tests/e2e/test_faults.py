"""What goes wrong in real life: a cancel, a killed engine, a time limit, a shutdown. The next job
always succeeds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from support import clips
from support.e2e_stage import Stage

from gpu_worker_client import Job, JobCancelled, JobError
from gpu_worker_client.protocol import DetectScenesTask, SelftestTask, UpscaleParams, UpscaleTask

DEADLINE_SECONDS = 120.0
CANCEL_BAR_SECONDS = 5.0


def long_upscale(stage: Stage, tmp_path: Path) -> Job:
    """A job that runs for minutes: it is in the middle of its work whenever the test looks."""
    clip = clips.make(tmp_path / "long.mp4", clips.Clip(width=160, height=120, frames=1200))
    task = UpscaleTask(
        input_url=stage.upload("in/long.mp4", clip),
        output_url=stage.platform.gate.presign("PUT", "out/long.mp4"),
        params=UpscaleParams(model="realesr-animevideov3"),
    )
    return stage.client.submit(task)


def wait_until_it_computes(job: Job) -> None:
    """Returns at the first progress report of the processor."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    for event in job.events(timeout=DEADLINE_SECONDS):
        progress = getattr(event, "progress", None)
        if progress is not None and progress.stage == "process" and progress.done > 0:
            return
        assert time.monotonic() < deadline
    pytest.fail("the job ended before it was in the middle of its work")


def assert_the_next_job_succeeds(stage: Stage, tmp_path: Path) -> None:
    """An upscale, so that the new engine loads torch and a network."""
    url = stage.upload("in/next.mp4", clips.make(tmp_path / "next.mp4", clips.Clip(frames=4)))
    put = stage.platform.gate.presign("PUT", "out/next.mp4")
    task = UpscaleTask(input_url=url, output_url=put, params=UpscaleParams(model="lite"))
    assert stage.client.run(task, timeout=DEADLINE_SECONDS).stats.frames_processed == 4
    assert stage.job_directories() == []


def test_cancel_frees_the_engine(running: Stage, tmp_path: Path, weights_dir: Path) -> None:
    job = long_upscale(running, tmp_path)
    wait_until_it_computes(job)
    engine = running.engine()
    assert engine is not None
    job.cancel()
    _, alive = psutil.wait_procs([engine], timeout=CANCEL_BAR_SECONDS)
    assert alive == [], "the engine still runs after a cancel"
    with pytest.raises(JobCancelled):
        job.result(timeout=DEADLINE_SECONDS)
    assert running.platform.gate.read("out/long.mp4") is None
    assert_the_next_job_succeeds(running, tmp_path)


@pytest.mark.slow  # processors/engine/test_engine.py has the quick one
def test_a_killed_engine_is_a_retryable_error(
    running: Stage, tmp_path: Path, weights_dir: Path
) -> None:
    job = long_upscale(running, tmp_path)
    wait_until_it_computes(job)
    engine = running.engine()
    assert engine is not None
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(JobError) as caught:
        job.result(timeout=DEADLINE_SECONDS)
    assert caught.value.code == "resource_exhausted"
    assert caught.value.retryable is True
    assert caught.value.stage == "process"
    assert running.platform.gate.read("out/long.mp4") is None
    assert_the_next_job_succeeds(running, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [{"GPU_WORKER_JOB_TIME_LIMIT_SECONDS": "20"}], indirect=True)
def test_a_job_over_its_time_limit_ends_typed(
    fresh: Stage, tmp_path: Path, weights_dir: Path
) -> None:
    job = long_upscale(fresh, tmp_path)
    with pytest.raises(JobError) as caught:
        job.result(timeout=DEADLINE_SECONDS)
    assert (caught.value.code, caught.value.stage) == ("time_limit", "process")
    short = fresh.upload("in/short.mp4", clips.make(tmp_path / "short.mp4"))
    assert (
        fresh.client.run(
            DetectScenesTask(input_url=short), timeout=DEADLINE_SECONDS
        ).stats.total_frames
        == 50
    )
    assert fresh.job_directories() == []


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [{"GPU_WORKER_DRAIN_SECONDS": "1"}], indirect=True)
def test_sigterm_past_its_grace_answers_the_running_job(
    fresh: Stage, tmp_path: Path, weights_dir: Path
) -> None:
    job = long_upscale(fresh, tmp_path)
    wait_until_it_computes(job)
    worker = psutil.Process(fresh.worker.pid)
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(JobError) as caught:
        job.result(timeout=DEADLINE_SECONDS)
    assert caught.value.code == "cancelled"
    _, alive = psutil.wait_procs([worker], timeout=20)
    assert alive == []


def test_nothing_of_a_killed_worker_lives_on(fresh: Stage) -> None:
    """RunPod gives its job to another when the pings end."""
    fresh.platform.wait_ready(fresh.worker)
    worker = psutil.Process(fresh.worker.pid)
    children = worker.children(recursive=True)
    assert len(children) >= 2, "the heartbeat and the engine"
    worker.kill()
    _, alive = psutil.wait_procs([worker, *children], timeout=20)
    assert alive == []


@pytest.mark.slow
def test_sigterm_lets_a_short_job_finish(fresh: Stage, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "cuts.mp4", clips.Clip(width=640, height=480, frames=250))
    job = fresh.client.submit(DetectScenesTask(input_url=fresh.upload("in/cuts.mp4", clip)))
    for event in job.events(timeout=DEADLINE_SECONDS):
        if type(event).__name__ != "Queued":
            break
    psutil.Process(fresh.worker.pid).send_signal(signal.SIGTERM)
    assert job.result(timeout=DEADLINE_SECONDS).stats.total_frames == 250


def told_to_stop_while_its_poll_is_open(stage: Stage) -> psutil.Process:
    """The SDK stops what starts jobs within 0.1 s of a SIGTERM, and goes on waiting for the answer
    to its poll."""
    worker = psutil.Process(stage.worker.pid)
    stage.platform.wait_ready(stage.worker)
    worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "shutting down" not in stage.worker.log():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)  # nothing waits for this: it gives the SDK's 0.1 s the time to pass
    return worker


@pytest.mark.slow
@pytest.mark.parametrize(
    "fresh", [{"poll_seconds": 20.0, "GPU_WORKER_DRAIN_SECONDS": "100"}], indirect=True
)
def test_a_job_that_an_open_poll_still_brings_is_run(fresh: Stage) -> None:
    worker = told_to_stop_while_its_poll_is_open(fresh)
    assert fresh.client.run(SelftestTask(), timeout=DEADLINE_SECONDS).status == "completed"
    _, alive = psutil.wait_procs([worker], timeout=DEADLINE_SECONDS)
    assert alive == [], "it takes no further job"


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [{"poll_seconds": 100.0}], indirect=True)
def test_an_idle_worker_that_ends_before_its_poll_leaves_no_folder(fresh: Stage) -> None:
    worker = told_to_stop_while_its_poll_is_open(fresh)
    _, alive = psutil.wait_procs([worker], timeout=DEADLINE_SECONDS)
    assert (alive, list(fresh.work_root.iterdir())) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "fresh", [{"poll_seconds": 20.0, "GPU_WORKER_DRAIN_SECONDS": "0.1"}], indirect=True
)
def test_a_job_that_comes_after_the_grace_is_answered(fresh: Stage) -> None:
    worker = told_to_stop_while_its_poll_is_open(fresh)
    with pytest.raises(JobCancelled, match="submit it again") as caught:
        fresh.client.run(SelftestTask(), timeout=DEADLINE_SECONDS)
    assert caught.value.details["reason"] == "shutdown"
    _, alive = psutil.wait_procs([worker], timeout=DEADLINE_SECONDS)
    assert alive == []


def test_an_unreadable_input_leaves_nothing_and_the_next_job_is_fine(
    running: Stage, tmp_path: Path
) -> None:
    page = tmp_path / "error.mp4"
    page.write_bytes(b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>')
    job = running.client.submit(DetectScenesTask(input_url=running.upload("in/page.mp4", page)))
    with pytest.raises(JobError) as caught:
        job.result(timeout=DEADLINE_SECONDS)
    assert (caught.value.code, caught.value.retryable) == ("not_media", False)
    assert_the_next_job_succeeds(running, tmp_path)


def test_no_signature_reaches_a_log(running: Stage, tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "cuts.mp4", clips.Clip(frames=30))
    url = running.upload("in/secret.mp4", clip)
    signature = url.split("X-Amz-Signature=")[1][:64]
    running.client.run(DetectScenesTask(input_url=url), timeout=DEADLINE_SECONDS)
    log = running.worker.log()
    assert "Started" in log, "this is the worker's log"
    assert signature not in log
    assert "X-Amz-Signature" not in log
