"""Runs the pieces of one transfer on a few threads; the first failure ends them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from gpu_worker.transfer.watchdog import Guard, Halted


def run_parallel(work: Sequence[Callable[[], None]], connections: int, guard: Guard) -> None:
    """Runs every piece of work, at most `connections` at a time, and returns when none runs any
    more.

    Raises:
        The first failure; every other socket is shut down before.
    """
    if len(work) == 1:
        return work[0]()
    with ThreadPoolExecutor(max_workers=connections, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(piece) for piece in work]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            future.cancel()
        if any(_failure(future) for future in futures):
            guard.halt()
        wait(futures)
    guard.resume()
    failures = [error for future in futures if (error := _failure(future)) is not None]
    if failures:
        raise next((error for error in failures if not isinstance(error, Halted)), failures[0])
    return None


def _failure(future: Future[None]) -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None
