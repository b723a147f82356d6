"""The rules that the protocol builds on, held by every store: the real one, by boto3 over HTTP to
the strict gate, and the one of the simulation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import pytest
from support import bucket_sim
from support.bucket_sim import Bucket, Machine, VirtualLoop
from support.toy_worker import storage_of

from gpu_worker.devserver import Fault, LocalPlatform, ManualClock
from gpu_worker_client import Timing
from gpu_worker_client.queue import bucket_store
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.store import InDoubt, LostRace, Store

T = TypeVar("T")


class World(Protocol):
    store: Store

    def run(self, call: Coroutine[Any, Any, T]) -> T: ...
    def wait(self, seconds: float) -> None: ...


class Real:
    """boto3 signs with the system's clock; the gate's runs ahead of it by what was waited."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.platform = LocalPlatform(clock=self.clock)

    def __enter__(self) -> Real:
        self.platform.__enter__()
        timing = Timing(sleep=lambda _: None)
        self.store: Store = BucketStore(storage_of(self.platform, prefix="q", timing=timing))
        return self

    def __exit__(self, *error: Any) -> None:
        self.platform.__exit__(*error)

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(call)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


class Simulated:
    def __enter__(self) -> Simulated:
        self.loop = VirtualLoop()
        self.store: Store = Machine("m", Bucket(), random.Random(0))
        return self

    def __exit__(self, *error: Any) -> None:
        self.loop.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


@pytest.fixture(params=[Real, Simulated])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with request.param() as world:
        yield world


def test_what_is_written_is_read(world: World) -> None:
    etag = world.run(world.store.put("jobs/a.json", b"one"))
    found = world.run(world.store.get("jobs/a.json"))
    assert found is not None and (found.body, found.etag) == (b"one", etag)
    assert found.key == "jobs/a.json" and -1.0 <= found.age_seconds <= 300.0
    head = world.run(world.store.head("jobs/a.json"))
    assert head is not None and head.etag == etag
    world.run(world.store.delete("jobs/a.json"))
    world.run(world.store.delete("jobs/a.json"))
    assert world.run(world.store.get("jobs/a.json")) is None
    assert world.run(world.store.head("jobs/a.json")) is None


def test_one_creates_a_key(world: World) -> None:
    store = world.store

    async def race() -> list[Any]:
        calls = (store.put("claims/a/1", b"%d" % n, if_absent=True) for n in range(8))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = world.run(race())
    won = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, str)]
    assert len(won) == 1
    assert all(isinstance(o, LostRace) for o in outcomes if not isinstance(o, str)), outcomes
    world.wait(2)
    with pytest.raises(LostRace):
        world.run(store.put("claims/a/1", b"late", if_absent=True))
    found = world.run(store.get("claims/a/1"))
    assert found is not None and found.body == b"%d" % won[0]


def test_a_version_is_replaced_once(world: World) -> None:
    store = world.store
    first = world.run(store.put("leases/a.json", b"1"))
    world.wait(2)
    world.run(store.put("leases/a.json", b"2", if_match=first))
    world.wait(2)
    for etag in (first, "0" * 32):
        with pytest.raises(LostRace):
            world.run(store.put("leases/a.json", b"3", if_match=etag))
    with pytest.raises(LostRace):
        world.run(store.put("leases/none.json", b"3", if_match=first))
    found = world.run(store.get("leases/a.json"))
    assert found is not None and found.body == b"2"


def test_a_key_takes_one_write_a_second(world: World) -> None:
    world.run(world.store.put("wake", b"1"))
    with pytest.raises(LostRace):
        world.run(world.store.put("wake", b"2"))
    world.run(world.store.put("other", b"2"))
    world.wait(1.5)
    world.run(world.store.put("wake", b"3"))


def test_lists_are_in_order_and_in_pages(world: World) -> None:
    keys = [f"open/{n:04d}" for n in (3, 1, 2)]
    for key in [*keys, "opener", "jobs/0001.json"]:
        world.run(world.store.put(key, b""))
    page = world.run(world.store.list_page("open/"))
    assert [item.key for item in page.objects] == sorted(keys) and page.is_last
    page = world.run(world.store.list_page("open/", after="open/0001"))
    assert [item.key for item in page.objects] == ["open/0002", "open/0003"]


def test_more_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bucket_store, bucket_sim):
        monkeypatch.setattr(module, "PAGE_KEYS", 5)
    with Simulated() as simulated, Real() as real:
        assert isinstance(simulated.store, Machine)
        for n in range(6):
            real.platform.gate.put(f"q/open/{n:05d}", b"")
            simulated.loop.run_until_complete(simulated.store.put(f"open/{n:05d}", b""))
        for world in (real, simulated):
            first = world.run(world.store.list_page("open/"))
            assert len(first.objects) == 5 and not first.is_last
            rest = world.run(world.store.list_page("open/", after=first.objects[-1].key))
            assert [item.key for item in rest.objects] == ["open/00005"]
            assert rest.is_last


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda: Fault.lose_response(method="PUT"), InDoubt),
        (lambda: Fault.status(503, method="PUT"), InDoubt),
        (lambda: Fault.status(409, method="PUT"), LostRace),
        (lambda: Fault.status(429, method="PUT"), LostRace),
    ],
    ids=["no answer", "503", "409", "429"],
)
def test_a_write_is_sent_once(fault: Any, expected: type[Exception]) -> None:
    with Real() as real:
        real.platform.gate.faults.add(fault())
        with pytest.raises(expected):
            real.run(real.store.put("results/a.json", b"x", if_absent=True))
        assert sum(seen.method == "PUT" for seen in real.platform.gate.log) == 1


def test_a_read_is_made_again() -> None:
    with Real() as real:
        real.platform.gate.put("q/results/a.json", b"x" * 100_000)
        real.platform.gate.faults.add(Fault.status(503, method="GET", times=2))
        real.platform.gate.faults.add(Fault.reset_download(after_bytes=1000, method="GET"))
        found = real.run(real.store.get("results/a.json"))
        assert found is not None and len(found.body) == 100_000
