"""`split_upscale` and `split_upscale_async`: one long video by many workers, blocking and awaited.
The work is `work.py`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from gpu_worker_client._blocking import in_thread, notify
from gpu_worker_client._portal import call, on_callers_thread
from gpu_worker_client.async_client import AsyncClient
from gpu_worker_client.client import Client
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import UpscaleParams
from gpu_worker_client.split.plan import DEFAULT_SEGMENTS, SplitPlan
from gpu_worker_client.split.segment_job import SegmentEvent
from gpu_worker_client.split.work import SplitResult, carried_out, order
from gpu_worker_client.storage import Storage

DEFAULT_IN_FLIGHT = 16


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
        ConfigError, StorageError, APIConnectionError, APIError: as their names say.
    """
    return call(
        partial(
            split_upscale_async,
            client.core,
            storage,
            source,
            output,
            params,
            segments=segments,
            in_flight=in_flight,
            max_usd=max_usd,
            gpu=gpu,
            prices=prices,
            policy=policy,
            on_plan=on_callers_thread(on_plan),
            on_event=on_callers_thread(on_event),
        )
    )


async def split_upscale_async(
    client: AsyncClient,
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
    """`split_upscale` for `AsyncClient`. `on_plan` and `on_event` are called on the event loop and
    may be coroutine functions. Cancelling the asyncio task cancels the jobs that run and stops the
    transfers; the next call goes on from there."""
    planning = partial(
        order,
        source,
        output,
        params,
        segments=segments,
        in_flight=in_flight,
        gpu=gpu,
        prices=prices,
    )
    ordered = await in_thread(planning)
    if on_plan is not None:
        await notify(on_plan, ordered.plan)
    ordered.plan.require_budget(max_usd)
    return await carried_out(ordered, client, storage, policy, on_event)
