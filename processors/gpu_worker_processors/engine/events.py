"""What the engine may say to its parent: one JSON object a line, of a known shape and a bounded
length.

The engine parses hostile media and may be under foreign control, so a line is believed only when it
fits.
"""

from __future__ import annotations

from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gpu_worker_client.protocol import ErrorBody, Stage

MAX_LINE_CHARS = 1024 * 1024
"""The longest honest line is an error with its details: a few kilobytes."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Short = Annotated[str, Field(max_length=200)]


class _Event(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


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


def read_event(stream: IO[str]) -> Event | None:
    """The next event, None at the end of the stream.

    Raises:
        ValueError: a line that no engine of ours writes.
    """
    line = stream.readline(MAX_LINE_CHARS)
    if line.endswith("\n"):
        return _EVENT.validate_json(line)
    if len(line) >= MAX_LINE_CHARS:
        raise ValueError("the line is too long")
    return None
