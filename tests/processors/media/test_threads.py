"""The three-stage pipe: order, bounds, and that no failure of any stage hangs or leaves a
thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.threads import Channel, drained, mapped, prefetched

pytestmark = pytest.mark.timeout(30)


class Broke(TaskError):
    def __init__(self, where: str) -> None:
        super().__init__(ErrorCode.internal, where)


def counting(
    limit: int, break_at: int | None = None, closed: list[str] | None = None
) -> Iterator[int]:
    try:
        for number in range(limit):
            if number == break_at:
                raise Broke("source")
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


def pipe(
    *,
    source_breaks: int | None = None,
    middle_breaks: int | None = None,
    sink_breaks: int | None = None,
) -> list[int]:
    """1000 numbers through a pipe whose stages may fail at a number."""
    taken: list[int] = []

    def consume(number: int) -> None:
        if number == sink_breaks:
            raise Broke("sink")
        taken.append(number)

    with prefetched(counting(1000, source_breaks), 3) as numbers, drained(consume, 2) as put:
        for number in numbers:
            if number == middle_breaks:
                raise Broke("middle")
            put(number)
    return taken


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_every_item_arrives_once_and_in_order() -> None:
    assert pipe() == list(range(1000))


@pytest.mark.parametrize("stage", ["source", "middle", "sink"])
@pytest.mark.parametrize("at", [0, 1, 7, 999])
def test_the_error_of_any_stage_reaches_the_caller_as_raised(stage: str, at: int) -> None:
    with pytest.raises(Broke, match=stage):
        pipe(**{f"{stage}_breaks": at})


def test_the_first_of_two_failures_counts() -> None:
    with pytest.raises(Broke, match="sink"):
        pipe(sink_breaks=0, middle_breaks=900)


def test_the_source_never_runs_further_ahead_than_the_depth() -> None:
    produced: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            produced.append(number)
            yield number

    with prefetched(source(), 4) as numbers:
        for number in numbers:
            # taken, `depth` queued, one in the producer's hand waiting for room
            assert len(produced) <= number + 1 + 4 + 1


def test_the_producer_never_runs_further_ahead_than_the_depth() -> None:
    gate = threading.Semaphore(0)
    consumed: list[int] = []

    def consume(number: int) -> None:
        gate.acquire()
        consumed.append(number)

    sent: list[int] = []
    with drained(consume, 2) as put:
        for number in range(20):
            if (
                number >= 3
            ):  # one in the consumer's hand and two queued: from here each needs one to be consumed
                gate.release()
            put(number)
            sent.append(number)
            assert len(sent) - len(consumed) <= 4
        for _ in range(20):
            gate.release()
    assert consumed == list(range(20))


def test_leaving_early_closes_the_source_in_its_own_thread() -> None:
    closed: list[str] = []
    with prefetched(counting(10**9, closed=closed), 2) as numbers:
        assert next(numbers) == 0
    assert len(closed) == 1
    assert closed[0].startswith("prefetch")


def test_a_failing_block_drops_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    started, dropped = threading.Event(), threading.Event()
    consumed: list[int] = []
    close = Channel.close

    def close_and_tell(channel: Channel[int]) -> None:
        close(channel)
        dropped.set()

    monkeypatch.setattr(Channel, "close", close_and_tell)

    def consume(number: int) -> None:
        started.set()
        dropped.wait()
        consumed.append(number)

    with pytest.raises(Broke, match="block"), drained(consume, 5) as put:
        for number in range(4):
            put(number)
        started.wait()
        raise Broke("block")
    assert consumed == [0]


def test_an_empty_source_ends_at_once() -> None:
    with prefetched(iter(()), 1) as items:
        assert list(items) == []


def test_put_after_close_says_so() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.put(1)
    channel.close()
    assert not channel.put(2)
    assert list(channel) == []


def test_mapped_keeps_the_order_and_its_window() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    gates = [threading.Event() for _ in range(50)]

    def work(number: int) -> int:
        # An even number waits for its successor: without order in the results they would come out
        # in pairs, reversed.
        if number % 2 == 0:
            assert gates[number + 1].wait(10)
        gates[number].set()
        return number * number

    results: list[int] = []
    for result in mapped(source(), work, 3, ahead=2):
        results.append(result)
        assert len(taken) <= len(results) + 4
    assert results == [number * number for number in range(50)]


def test_mapped_raises_in_the_place_of_the_item_that_failed() -> None:
    started: list[int] = []

    def work(number: int) -> float:
        return 12 / (number - 6)

    results = mapped(range(1000), work, 2, start=lambda: started.append(1))
    assert [next(results) for _ in range(6)] == [12 / (number - 6) for number in range(6)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(started) == 2
