"""The base of every wire model.

`Wire` is what a caller sends: strict, immutable, no unknown key, no NaN; its errors never carry the
input back. `Reply` is what a worker answers: unknown keys are kept and ignored, so that an older
client can read a newer worker.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, StringConstraints, ValidationError

MAX_URL_CHARS = 8192
"""Longest URL accepted anywhere. R2 and S3 refuse longer request lines."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
"""An absolute URL, or a local path where the worker allows local files. The worker checks which;
the wire only bounds it."""

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
FileName = Annotated[str, StringConstraints(pattern=FILE_NAME)]
"""A name, never a path: letters, digits, `_`, `.` and `-`, the first one no `.` or `-`."""


class _FirstErrorEnds(FailFast):
    """pydantic's own has no hash, and could not stand in `X | None`."""

    def __hash__(self) -> int:
        return hash(type(self))


T = TypeVar("T")
Many = Annotated[list[T], _FirstErrorEnds()]
"""A list in an answer. The first element that does not fit ends the reading: an answer of many
megabytes may come from anybody, and pydantic would keep some 400 bytes of error for each element, a
thousand times what the answer takes packed."""


class Wire(BaseModel):
    """A value a caller sends. Strict: `1.0`, `"1"` and `true` are not integers."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        defer_build=True,  # importing the client builds no validator: a job needs those of one task
    )

    def __init__(self, /, **fields: Any) -> None:
        """Raises InvalidTask: the fields do not fit; `details["errors"]` lists `{path, problem}`,
        without any value."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            # Here: errors are models too, and only a caller of the SDK builds tasks by hand.
            from gpu_worker_client.exceptions import job_error
            from gpu_worker_client.protocol.misfit import misfit

            raise job_error(misfit(error, type(self)).body()) from None

    # As of pydantic's own: a model inside another is validated in place, not by a call of this.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]


class Reply(BaseModel):
    """A value a worker answers. Fields of a newer worker are kept in `model_extra`."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        hide_input_in_errors=True,
        ser_json_inf_nan="null",
        defer_build=True,
    )


Answer = TypeVar("Answer", bound=Reply, covariant=True)


class AnsweredBy(Generic[Answer]):
    """Says at the type level which result a task's model leads to, so that
    `client.submit(UpscaleTask(...))` is known to be a `Job[UpscaleResult]`. Holds nothing at run
    time; `TASKS` is what the program reads, and a test holds the two equal."""
