"""The steps of a call, apart from who carries them out. A call of the SDK is written once, as a
generator (a flow) that yields what it wants done and gets back what came of it; `_drive.py` carries
the steps out, blocking or on an event loop.

Whatever goes wrong with a step is raised inside the flow at its `yield`: the request's own error,
and just so Ctrl-C, the cancellation of an asyncio task and an exception of the caller's callback.
So a flow cleans up as any function does, with `except` and `finally`, and may yield further steps
there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gpu_worker_client._http import Request

T = TypeVar("T")


@dataclass
class Send:
    """Sends a request; answered with what `request.read` makes of the reply."""

    request: Request
    reply: Future[Any] | None = field(default=None, init=False)
    """Set by the driver when the request has begun."""


@dataclass(frozen=True)
class Finish:
    """Waits on for a request that was interrupted in flight; answered as `Send` is."""

    send: Send
    seconds: float
    """Longest wait; afterwards the step fails with `APIConnectionError`."""


@dataclass(frozen=True)
class Sleep:
    """Waits; answered with None."""

    seconds: float


@dataclass(frozen=True)
class Tell:
    """Hands a value to the caller while the call goes on; answered with None."""

    value: Any


Step = Send | Finish | Sleep | Tell
Flow = Generator[Step, Any, T]


@dataclass(frozen=True)
class Came:
    """What came of a step: a value, or the error to raise in the flow."""

    value: Any = None
    error: BaseException | None = None

    def into(self, flow: Flow[Any]) -> Step:
        """The flow's next step. Raises StopIteration, holding the flow's value, at its end."""
        return flow.send(self.value) if self.error is None else flow.throw(self.error)

    def result(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value


def came_of(call: Callable[[], Any]) -> Came:
    """Makes the call; its error is an outcome like any other."""
    try:
        return Came(call())
    except BaseException as error:  # noqa: BLE001 - the flow decides; what it does not handle, it raises again
        return Came(error=error)


async def came_of_awaited(awaitable: Awaitable[Any]) -> Came:
    """The same of something that is awaited."""
    try:
        return Came(await awaitable)
    except BaseException as error:  # noqa: BLE001 - as above
        return Came(error=error)
