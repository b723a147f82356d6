"""A plan carried out, from the first cut to the file at its path.

Beside the output stands a folder, `out.mp4.split`, for as long as the work goes on: the ids of the
jobs, and segments on their way out and back. A client that was killed is simply started again. When
the work fails or is cancelled, the jobs that run are cancelled, and the folder stays, so that the
next call goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpu_worker_client._blocking import as_they_end, in_thread
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.estimate import execution_timeout_seconds
from gpu_worker_client.files.client import TaskClient
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.protocol.presigned import MAX_EXPIRES_SECONDS
from gpu_worker_client.split.cut import cut_segments
from gpu_worker_client.split.output_lock import locked
from gpu_worker_client.split.plan import SplitPlan, plan_split
from gpu_worker_client.split.remux import join
from gpu_worker_client.split.segment_job import Done, SegmentEvent, SegmentRunner
from gpu_worker_client.split.verify import check_output
from gpu_worker_client.storage import Storage

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class SplitResult:
    """A video that was made in parts."""

    output_path: Path
    frames: int
    segments: int
    deduplicated: int
    """Segments whose result had been paid for before."""
    gpu_seconds: float
    """Of all jobs, as the workers count them; what was found done costs nothing again and counts
    all the same."""
    usd: float | None
    """Of all jobs; None where a worker knows no price."""
    seconds: float
    """Wall time of this call."""
    warnings: tuple[str, ...]
    """The plan's, the workers', and what the output's container does not carry."""


@dataclass(frozen=True)
class Order:
    """What is to be made, checked as far as that is possible before anything leaves this
    machine."""

    plan: SplitPlan
    output: Path
    in_flight: int
    started: float
    """Of `time.monotonic`."""

    @property
    def folder(self) -> Path:
        return self.output.with_name(self.output.name + ".split")

    @property
    def suffix(self) -> str:
        return self.output.suffix.lower()


def order(
    source: Path | str | SplitPlan,
    output: Path | str,
    params: UpscaleParams | None,
    *,
    segments: int,
    in_flight: int,
    gpu: str | None,
    prices: Mapping[str, float] | None,
) -> Order:
    """Arguments and errors as of `split_upscale`; reads the source."""
    started = time.monotonic()
    path = source.source.path if isinstance(source, SplitPlan) else Path(source)
    FileWork(
        "upscale", {}, {"input_url": path}, output=output
    ).check()  # what a video in one piece is refused for
    if in_flight < 1:
        raise ConfigError("in_flight must be at least 1")
    plan = (
        source
        if isinstance(source, SplitPlan)
        else plan_split(source, params, segments=segments, gpu=gpu, prices=prices)
    )
    return Order(plan, Path(output), in_flight, started)


async def carried_out(
    order: Order,
    client: TaskClient,
    storage: Storage,
    policy: Policy | None,
    on_event: Callable[[SegmentEvent], object] | None,
) -> SplitResult:
    """The jobs, the joining, the file at its path. Arguments and errors as of `split_upscale`."""
    policy = checked_policy(policy) or _policy(order.plan, order.in_flight)
    with locked(order.output):
        order.folder.mkdir(exist_ok=True)
        runner = SegmentRunner(
            client,
            storage,
            order.plan,
            order.folder,
            suffix=order.suffix,
            policy=policy,
            expires_seconds=min(MAX_EXPIRES_SECONDS, round(policy.ttl_seconds or DAY_SECONDS)),
            on_event=on_event,
        )
        done = await _all_done(order, runner)
        joined = order.folder / f"joined{order.suffix}"
        notes = await in_thread(partial(_joined, order.plan, done, joined))
        joined.replace(order.output)  # not in a thread: a call that was cancelled leaves no output
        await in_thread(partial(storage.delete, *(key for part in done for key in part.keys)))
        await in_thread(partial(shutil.rmtree, order.folder))
        return _result(order, done, notes)


async def _all_done(order: Order, runner: SegmentRunner) -> list[Done]:
    """Every segment through its job, in the plan's order. A segment is cut when its turn comes. The
    first failure ends all."""

    async def runs() -> AsyncGenerator[Coroutine[Any, Any, Done], None]:
        cuts = cut_segments(order.plan, order.folder)
        while (cut := await in_thread(partial(next, cuts, None))) is not None:
            yield runner.run(*cut)

    async with aclosing(as_they_end(runs(), order.in_flight)) as ended:
        done = [part async for part in ended]
    return sorted(done, key=lambda part: part.piece.segment.index)


def _joined(plan: SplitPlan, done: list[Done], path: Path) -> list[str]:
    """Joins and checks. Returns what is to be said of the output."""
    copied, notes = join(plan, [part.piece for part in done], path)
    check_output(plan, path, copied)
    return notes


def _policy(plan: SplitPlan, in_flight: int) -> Policy:
    """Room for the longest segment to run, and for every job to wait until those before it have run
    on a single worker."""
    source = plan.source
    longest = max(segment.duration_seconds for segment in plan.segments)
    limit = execution_timeout_seconds(
        {"task": "upscale", "params": plan.params.model_dump()},
        longest,
        width=source.width,
        height=source.height,
        fps=source.fps,
        gpu=plan.gpu,
    )
    assert limit is not None, "the duration is known"
    waiting = min(in_flight, len(plan.segments))
    return Policy(
        execution_timeout_seconds=limit,
        ttl_seconds=min(MAX_EXPIRES_SECONDS, max(DAY_SECONDS, (waiting + 1) * limit)),
    )


def _result(order: Order, done: list[Done], notes: list[str]) -> SplitResult:
    costs = [part.result.cost for part in done]
    prices = [cost.usd if cost else None for cost in costs]
    said = [warning.message for part in done for warning in part.result.warnings]
    return SplitResult(
        output_path=order.output,
        frames=order.plan.frames,
        segments=len(done),
        deduplicated=sum(part.result.deduplicated for part in done),
        gpu_seconds=sum(cost.gpu_seconds for cost in costs if cost),
        usd=None if None in prices else sum(price for price in prices if price is not None),
        seconds=time.monotonic() - order.started,
        warnings=tuple(dict.fromkeys([*order.plan.warnings, *said, *notes])),
    )
