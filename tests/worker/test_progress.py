"""Progress: numbered, throttled, in order, never after the answer."""

from __future__ import annotations

import asyncio

import pytest

from gpu_worker.progress import Reporter, measure


def test_reports_are_numbered_and_the_newest_wins() -> None:
    sent: list[dict[str, object]] = []

    async def scenario() -> None:
        arrived = asyncio.Event()

        async def send(report: dict[str, object]) -> None:
            sent.append(report)
            arrived.set()

        reporter = Reporter(send, interval_seconds=0)
        for done in range(1, 101):
            reporter.report("process", done, 100, "frames")
        await arrived.wait()
        await reporter.close()

    asyncio.run(scenario())
    assert sent[-1]["done"] == 100
    assert len(sent) < 100, "a hundred reports in one turn of the loop are one message"
    assert [r["seq"] for r in sent] == sorted({int(str(r["seq"])) for r in sent})


def test_close_waits_for_the_report_in_flight_and_sends_nothing_after() -> None:
    events: list[str] = []

    async def scenario() -> None:
        started, finish = asyncio.Event(), asyncio.Event()

        async def send(_: dict[str, object]) -> None:
            started.set()
            await finish.wait()
            events.append("report arrived")

        reporter = Reporter(send, interval_seconds=0)
        reporter.report("fetch", 1)
        await started.wait()
        reporter.report("fetch", 2)  # queued behind the one in flight
        closing = asyncio.ensure_future(reporter.close())
        await asyncio.sleep(0)
        finish.set()
        await closing
        events.append("answer")
        reporter.report("fetch", 3)
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert events == ["report arrived", "answer"]


def test_at_most_one_report_per_interval() -> None:
    sent: list[object] = []

    async def scenario() -> None:
        first = asyncio.Event()

        async def send(report: dict[str, object]) -> None:
            sent.append(report["done"])
            first.set()

        reporter = Reporter(send, interval_seconds=3600)
        reporter.report("process", 1)
        await first.wait()
        for done in range(2, 50):
            reporter.report("process", done)
        await asyncio.sleep(0)
        await reporter.close()

    asyncio.run(scenario())
    assert sent == [1]


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "fraction", "fps", "eta"),
    [
        (0, 100, 0.0, 0.0, None, None),  # nothing done yet: no rate, no estimate
        (50, 100, 10.0, 0.5, 5.0, 10.0),  # half way
        (100, 100, 10.0, 1.0, 10.0, 0.0),  # the end
        (120, 100, 10.0, 1.0, 12.0, 0.0),  # the header promised fewer frames than there are
        (30, None, 10.0, None, 3.0, None),  # length unknown
        (40, 40, 57e-6, 1.0, None, None),  # over at once: a rate would be noise
    ],
)
def test_measure(
    done: int,
    total: int | None,
    elapsed: float,
    fraction: float | None,
    fps: float | None,
    eta: float | None,
) -> None:
    report = measure(1, "process", done, total, "frames", elapsed)
    assert (report.fraction, report.fps, report.eta_sec) == (fraction, fps, eta)
