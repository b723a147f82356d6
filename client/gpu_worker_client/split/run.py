"""`split_upscale` and `split_upscale_async`: one long video by many workers, blocking and awaited.

Beside the output stands a folder, `out.mp4.split`, for as long as the work goes on: the ids of the
jobs, and segments on their way out and back. A client that was killed is simply started again. When
the work fails or is cancelled, the jobs that run are cancelled, and the folder stays, so that the
next call goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpu_worker_client._blocking import as_they_end, in_thread, notify
from gpu_worker_client._portal import blocking
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.estimate import execution_timeout_seconds
from gpu_worker_client.files.transfer import TaskClient
from gpu_worker_client.files.work import FileWork
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import ResultWarning, UpscaleParams
from gpu_worker_client.protocol.http import DEFAULT_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS
from gpu_worker_client.split.plan import DEFAULT_SEGMENTS, SplitPlan, plan_split
from gpu_worker_client.split.remux import check_output, cut_segments, join
from gpu_worker_client.split.segment_job import Done, SegmentEvent, SegmentRunner
from gpu_worker_client.split.source import SplitError
from gpu_worker_client.storage import Storage

DEFAULT_IN_FLIGHT = 16


@dataclass(frozen=True)
class SplitResult:
    """A video that was made in parts."""

    output_path: Path
    frames: int
    segments: int
    deduplicated: int
    """Segments whose result had been paid for before."""
    gpu_seconds: float
    """Sum over all jobs, as the workers count them; what was found done costs nothing again and
    counts all the same."""
    usd: float | None
    """Price of all jobs; None where a worker knows no price."""
    seconds: float
    """Wall time of this call."""
    warnings: tuple[ResultWarning, ...]
    """The plan's (`split`), the workers', and what the output's container does not carry
    (`stream_left_out`)."""


async def split_upscale_async(
    client: TaskClient,
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

    Every frame has the time that the source gave it, audio and subtitles are the source's own
    packets. The output appears whole, after it was checked, or not at all.

    Args:
        source: the video; or its plan, and then `params`, `segments`, `gpu` and `prices` are the
            plan's.
        output: .mp4, .m4v, .mov or .mkv; without a suffix it is mp4. Its folder must be there.
        params: of the `upscale` task.
        segments, gpu, prices: as of `plan_split`.
        in_flight: jobs queued or running at the same time.
        max_usd: the most that the estimate may be; without a known price it is refused. Nothing is
            submitted above it.
        policy: of every job; None makes one from the estimate.
        on_plan: shown the plan and its cost before anything leaves this machine; what it raises
            ends the call. `print` will do.
        on_event: called with every `SegmentEvent`, one at a time; the other segments wait for it.

    Raises:
        SplitError: the video cannot be split or joined, or is too dear.
        JobError: a segment failed for good; the rest were cancelled, and what is done is stored
            for the next call.
        FileNotFoundError: the source, or the output's folder, is not there.
        ConfigError: a setting is missing or not valid.
        StorageError: the bucket refused a request or was not reached.
        APIConnectionError: the endpoint was not reached.
        APIError: the endpoint refused a request.
    """
    started, output = time.monotonic(), Path(output)

    def planned() -> SplitPlan:
        path = source.source.path if isinstance(source, SplitPlan) else source
        # Refuses what is refused of a video in one piece.
        FileWork("upscale", {}, {"input_url": path}, output=output).check()
        if in_flight < 1:
            raise ConfigError("in_flight must be at least 1")
        if isinstance(source, SplitPlan):
            return source
        return plan_split(source, params, segments=segments, gpu=gpu, prices=prices)

    plan = await in_thread(planned)
    if on_plan is not None:
        await notify(on_plan, plan)
    plan.require_budget(max_usd)
    policy = checked_policy(policy) or _policy(plan, in_flight)
    with _only_call(output):
        folder = output.with_name(output.name + ".split")
        folder.mkdir(exist_ok=True)
        suffix = output.suffix.lower()
        runner = SegmentRunner(client, storage, plan, folder, suffix, policy, on_event)
        done, notes = await _made(runner, output, in_flight)
    return _result(plan, output, done, notes, time.monotonic() - started)


split_upscale = blocking(split_upscale_async)


_outputs: dict[str, object] = {}
"""What this process is making."""


@contextmanager
def _only_call(output: Path) -> Generator[None, None, None]:
    """A block that makes the output: two would write into one folder, and each would delete what
    the other needs. Raises SplitError `busy`. Between processes it is the caller's to see to."""
    target, call = str(output.resolve()), object()
    if _outputs.setdefault(target, call) is not call:
        problem = "or cleaning up after it was cancelled; wait for it"
        raise SplitError("busy", f"another call is making {output.name}, {problem}")
    try:
        yield
    finally:
        del _outputs[target]


async def _made(
    runner: SegmentRunner, output: Path, in_flight: int
) -> tuple[list[Done], list[str]]:
    """Takes every segment through its job, and joins them. A segment is cut when its turn comes.
    The first failure ends all. Returns the segments in order, and what is to be said of the
    output."""
    plan, folder = runner.plan, runner.folder

    async def runs() -> AsyncGenerator[Coroutine[Any, Any, Done], None]:
        cuts = cut_segments(plan, folder)
        while (cut := await in_thread(partial(next, cuts, None))) is not None:
            yield runner.run(*cut)

    async with aclosing(as_they_end(runs(), in_flight)) as ended:
        done = [part async for part in ended]
    done.sort(key=lambda part: part.piece.segment.index)
    joined = folder / f"joined{runner.suffix}"

    def join_checked() -> list[str]:
        copied, notes = join(plan, [part.piece for part in done], joined)
        check_output(plan, joined, copied)
        return notes

    notes = await in_thread(join_checked)
    joined.replace(output)  # not in a thread: a call that was cancelled leaves no output
    await in_thread(partial(runner.storage.delete, *(key for part in done for key in part.keys)))
    await in_thread(partial(shutil.rmtree, folder))
    return done, notes


def _result(
    plan: SplitPlan, output: Path, done: list[Done], notes: list[str], seconds: float
) -> SplitResult:
    costs = [part.result.cost for part in done]
    prices = [cost.usd if cost else None for cost in costs]
    own = [ResultWarning(code="split", message=note) for note in plan.warnings]
    said = [warning for part in done for warning in part.result.warnings]
    left_out = [ResultWarning(code="stream_left_out", message=note) for note in notes]
    return SplitResult(
        output_path=output,
        frames=plan.frames,
        segments=len(done),
        deduplicated=sum(part.result.deduplicated for part in done),
        gpu_seconds=sum(cost.gpu_seconds for cost in costs if cost),
        usd=None if None in prices else sum(filter(None, prices)),
        seconds=seconds,
        warnings=tuple(dict.fromkeys([*own, *said, *left_out])),
    )


def _policy(plan: SplitPlan, in_flight: int) -> Policy:
    """Room for the longest segment to run, and for every job to wait until those before it have run
    on a single worker."""
    source = plan.source
    limit = execution_timeout_seconds(
        {"task": "upscale", "params": plan.params.model_dump()},
        max(segment.duration_seconds for segment in plan.segments),
        width=source.width,
        height=source.height,
        fps=source.fps,
        gpu=plan.gpu,
    )
    assert limit is not None, "the duration is known"
    waiting = min(in_flight, len(plan.segments))
    return Policy(
        execution_timeout_seconds=limit,
        ttl_seconds=min(MAX_EXPIRES_SECONDS, max(DEFAULT_EXPIRES_SECONDS, (waiting + 1) * limit)),
    )
