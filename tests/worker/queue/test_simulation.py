"""The worker's real loop and the queue's real protocol over a bucket that loses, delays and repeats
requests, on machines that stand still, have a wrong clock or are gone: no job is lost, none is
published twice, no output is partial. A failure prints its seed; the same seed fails again."""

from __future__ import annotations

import pytest
from support.bucket_sim import CRASH_POINTS, Faults
from support.queue_sim import Outcome, Simulation

from gpu_worker_client.queue.lease import LEASE_SECONDS


def check(outcome: Outcome) -> None:
    assert not outcome.problems, str(outcome)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_done_twice(seed: int) -> None:
    check(Simulation(seed, job_count=50, workers=4).run())


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (Simulation(7, job_count=12, workers=3).run() for _ in range(2))
    assert str(first) == str(second) and first.bucket.writes == second.bucket.writes


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_machine_that_is_gone(point: str) -> None:
    outcome = Simulation(1, job_count=16, workers=2, faults=Faults(crash={point: 0.4})).run()
    check(outcome)
    assert outcome.lives > 2


def test_a_machine_that_stands_still_publishes_nothing_late() -> None:
    outcome = Simulation(3, job_count=30, workers=4, faults=Faults(pause=0.05)).run()
    check(outcome)
    assert len(outcome.bucket.keys("claims/")) > 30, "no pause made a lease run out"


def test_a_bucket_that_answers_429() -> None:
    check(Simulation(5, job_count=30, workers=4, faults=Faults(storm=0.05)).run())


def test_a_quiet_bucket_gives_each_job_once_and_at_once() -> None:
    outcome = Simulation(2, job_count=30, workers=4, faults=Faults()).run()
    check(outcome)
    assert outcome.hours * 3600 < 30 / 4 * 100 + 10 * LEASE_SECONDS
    spoiled = outcome.states["failed"] + outcome.states["cancelled"]
    assert len(outcome.bucket.keys("claims/")) <= 30 + 2 * spoiled + outcome.lives


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_ten_thousand_jobs(seed: int) -> None:
    check(Simulation(seed, job_count=500, workers=4 + seed % 5).run())
