"""What the engine may say to its parent: one JSON object a line, of a known shape and a bounded
length.

The engine parses hostile media and may be under foreign control, so a line is believed only when it
fits.
"""

from __future__ import annotations

import select
from io import BufferedReader
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gpu_worker_client.protocol import ErrorBody, Stage

MAX_LINE_BYTES = 1024 * 1024
"""The longest honest line is an error with its details: a few kilobytes."""
_READ_BYTES = 64 * 1024

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Short = Annotated[str, Field(max_length=200)]


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    number: _Count = 0
    """Of the command that it answers; 0 before the first."""


class Ready(_Event):
    event: Literal["ready"]
    sandbox: dict[str, Any]
    pid: _Count | None = None


class Prepared(_Event):
    event: Literal["prepared"]


class ProgressEvent(_Event):
    event: Literal["progress"]
    stage: Stage
    done: _Count
    total: _Count | None
    unit: _Short


class Device(_Event):
    device: _Short
    gpu: _Short | None


class Done(_Event):
    """The result lies in the job's directory; its name is ours to know, not the engine's to
    choose."""

    event: Literal["done"]
    seconds: Annotated[float, Field(ge=0, lt=1e9)]
    device: Device


class Failed(_Event):
    event: Literal["error"]
    error: ErrorBody


Event = Ready | Prepared | ProgressEvent | Done | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class EventPipe:
    """The parent's end of the pipe."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._unread = b""

    def read(self) -> Event | None:
        """The next event, None at the end of the stream.

        Raises:
            ValueError: a line that no engine of ours writes.
        """
        while b"\n" not in self._unread:
            if len(self._unread) >= MAX_LINE_BYTES:
                raise ValueError("the line is too long")
            data = self._stream.read1(_READ_BYTES)
            if not data:
                return None
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return _EVENT.validate_json(line)

    @property
    def is_empty(self) -> bool:
        """Whether the engine has said nothing that is not read yet."""
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        return not self._unread and not any(event & select.POLLIN for _, event in poll.poll(0))

    @property
    def is_hung_up(self) -> bool:
        """Whether the engine is gone: the supervisor ends a moment after it."""
        poll = select.poll()
        poll.register(self._stream, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))
