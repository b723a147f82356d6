"""`AsyncClient` behind the blocking surface of `Client`, so that one suite of tests holds both to
the same behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from inspect import isasyncgen, iscoroutine
from types import TracebackType
from typing import Any

from gpu_worker_client import AsyncClient, AsyncJob

_ASYNC_TWINS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


class Blocking:
    """An `AsyncClient` or `AsyncJob`, each of whose calls is run to its end on an event loop."""

    def __init__(self, inner: AsyncClient | AsyncJob[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._jobs: dict[int, Blocking] = {}

    def __repr__(self) -> str:
        return repr(self._inner).replace("Async", "", 1)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._blocking_call(value) if callable(value) else value

    def __enter__(self) -> Blocking:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def _blocking_call(self, call: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            made = call(*args, **kwargs)
            if iscoroutine(made):
                return self._seen(self._run(made))
            return self._each(made) if isasyncgen(made) else self._seen(made)

        return called

    def _each(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._run(anext(source))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(source.aclose())

    def _run(self, awaitable: Any) -> Any:
        async def awaited() -> Any:
            return await awaitable

        try:
            return self._loop.run_until_complete(awaited())
        except Exception as error:
            if isinstance(getattr(error, "job", None), AsyncJob):
                error.job = self._seen(error.job)  # type: ignore[attr-defined]
            raise

    def _seen(self, value: Any) -> Any:
        """A job as the blocking surface shows it: the same object for the same job."""
        if value is self._inner:
            return self
        if not isinstance(value, AsyncJob):
            return value
        job = self._jobs.setdefault(id(value), Blocking(value, self._loop))
        job._jobs = self._jobs
        job._jobs[id(value)] = job
        return job
