"""`split_upscale`: a plan carried out, from the first cut to the file at its place.

Beside the output stands a folder, `out.mp4.split`, for as long as the work goes on: the ids of the jobs, and segments on their
way out and back. A client that was killed is simply started again. When the work fails, what runs is cancelled and the folder
stays, so that the next call goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gpu_worker_client._client_core import check_task
from gpu_worker_client._stage import FileWork
from gpu_worker_client.client import Client
from gpu_worker_client.estimate import execution_timeout_seconds
from gpu_worker_client.exceptions import ConfigError
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import UpscaleParams, UpscaleTask
from gpu_worker_client.split.check import check_output
from gpu_worker_client.split.cut import cut_segments
from gpu_worker_client.split.join import join
from gpu_worker_client.split.plan import DEFAULT_SEGMENTS, SplitPlan, plan_split
from gpu_worker_client.split.segments import Done, SegmentEvent, SegmentRunner
from gpu_worker_client.storage import MAX_EXPIRES_SECONDS, Storage

DEFAULT_IN_FLIGHT = 16
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
    """Of all jobs, as the workers count them; what was found done costs nothing again and counts all the same."""
    usd: float | None
    """Of all jobs; None where a worker knows no price."""
    seconds: float
    """Wall time of this call."""
    warnings: tuple[str, ...]
    """The plan's, the workers', and what the output's container does not carry."""


def split_upscale(
    client: Client,
    storage: Storage,
    source: Path | str | SplitPlan,
    output: Path | str,
    params: UpscaleParams | None = None,
    *,
    segments: int = DEFAULT_SEGMENTS,
    in_flight: int = DEFAULT_IN_FLIGHT,
    max_usd: float | None = None,
    gpu: str | None = None,
    prices: Mapping[str, float] | None = None,
    policy: Policy | None = None,
    on_plan: Callable[[SplitPlan], object] | None = None,
    on_event: Callable[[SegmentEvent], object] | None = None,
) -> SplitResult:
    """Upscales one video by many workers, and joins what they made.

    Every frame has the time that the source gave it, sound and subtitles are the source's own packets. The output appears
    whole, after it was checked, or not at all.

    Args:
        source: the video; or its plan, and then `params`, `segments`, `gpu` and `prices` are the plan's.
        output: .mp4, .m4v, .mov or .mkv; without a suffix it is mp4. Its folder must be there.
        params: of the `upscale` task.
        segments, gpu, prices: as of `plan_split`.
        in_flight: jobs queued or running at the same time.
        max_usd: the most that the estimate may be; without a known price it is refused. Nothing is submitted above it.
        policy: of every job; None makes one from the estimate.
        on_plan: shown the plan and its cost before anything leaves this machine; what it raises ends the call. `print` will do.
        on_event: told of every `SegmentEvent`, in other threads than this, one at a time.

    Raises:
        SplitError: the video cannot be split or joined, or is too dear.
        JobError: a segment failed for good; the others were cancelled, and what is done is kept for the next call.
        FileNotFoundError: the source, or the output's folder, is not there.
        ConfigError, StorageError, APIConnectionError, APIError: as their names say.
    """
    started = time.monotonic()
    output = Path(output)
    path = source.source.path if isinstance(source, SplitPlan) else Path(source)
    FileWork("upscale", {}, {"input_url": path}, output=output).check()  # what a video in one piece is refused for
    if in_flight < 1:
        raise ConfigError("in_flight must be at least 1")
    plan = source if isinstance(source, SplitPlan) else plan_split(source, params, segments=segments, gpu=gpu, prices=prices)
    if on_plan is not None:
        on_plan(plan)
    plan.require_budget(max_usd)
    folder = output.with_name(output.name + ".split")
    folder.mkdir(exist_ok=True)
    policy = policy or _policy(plan, in_flight)
    runner = SegmentRunner(
        client,
        storage,
        plan,
        folder,
        suffix=output.suffix.lower(),
        policy=policy,
        expires_seconds=min(MAX_EXPIRES_SECONDS, round(policy.ttl_seconds or DAY_SECONDS)),
        on_event=on_event or (lambda event: event),
    )
    done = _run_all(plan, runner, folder, in_flight)
    notes = _joined(plan, done, folder / f"joined{output.suffix.lower()}", output)
    storage.delete(*(key for part in done for key in part.keys))
    shutil.rmtree(folder)
    return _result(plan, done, output, time.monotonic() - started, notes)


def split_files(
    client: Client,
    source: Path | str,
    output: Path | str,
    params: Mapping[str, Any],
    on_event: Callable[[SegmentEvent], object] | None,
    policy: Policy | None,
    **options: Any,
) -> SplitResult:
    """`Client.upscale(..., split=True)`: parameters by name, of the task and of `split_upscale`, and the client's own bucket.

    Raises:
        InvalidTask: a parameter does not fit; nothing was sent.
    """
    draft = {"task": "upscale", "input_url": "https://h/input", "output_url": "https://h/output", "params": dict(params)}
    checked = cast(UpscaleTask, check_task(draft)[0]).params
    return split_upscale(client, client.storage, source, output, checked, policy=policy, on_event=on_event, **options)


def _run_all(plan: SplitPlan, runner: SegmentRunner, folder: Path, in_flight: int) -> list[Done]:
    """Every segment through its job, in the plan's order. The first failure ends all of them."""
    futures: list[Future[Done]] = []
    with ThreadPoolExecutor(in_flight, "segment") as pool:
        try:
            for segment, path in cut_segments(plan, folder):
                futures.append(pool.submit(runner.run, segment, path))
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()  # the first failure, if there was one
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
    return [future.result() for future in futures]


def _joined(plan: SplitPlan, done: list[Done], path: Path, output: Path) -> list[str]:
    """Joins, checks, and only then moves the file to its place."""
    copied, notes = join(plan, [part.piece for part in done], path)
    check_output(plan, path, copied)
    path.replace(output)
    return notes


def _policy(plan: SplitPlan, in_flight: int) -> Policy:
    """Room for the longest segment to run, and for every job to wait until those before it have run on a single worker."""
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
        execution_timeout_seconds=limit, ttl_seconds=min(MAX_EXPIRES_SECONDS, max(DAY_SECONDS, (waiting + 1) * limit))
    )


def _result(plan: SplitPlan, done: list[Done], output: Path, seconds: float, notes: list[str]) -> SplitResult:
    costs = [part.result.cost for part in done]
    prices = [cost.usd if cost else None for cost in costs]
    said = [warning.message for part in done for warning in part.result.warnings]
    return SplitResult(
        output_path=output,
        frames=plan.frames,
        segments=len(done),
        deduplicated=sum(part.result.deduplicated for part in done),
        gpu_seconds=sum(cost.gpu_seconds for cost in costs if cost),
        usd=None if None in prices else sum(price for price in prices if price is not None),
        seconds=seconds,
        warnings=tuple(dict.fromkeys([*plan.warnings, *said, *notes])),
    )
