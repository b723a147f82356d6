"""What wire models are made of: the types of their fields, and the base of what a worker answers.

Unknown keys of an answer are stored and ignored, so that an older client can read a newer worker.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from gpu_worker_client.protocol.foreign import redact

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix of a video file -> FFmpeg's muxer."""
INDEXED = frozenset({"mp4", "mov"})
"""Muxers of an index, which can stand in front, and a clock for each stream. ISO/IEC 14496-12."""
Codec = Annotated[
    Literal["h264", "hevc", "av1", "prores"],
    Field(
        description="A codec that cannot hold the output's size is refused, and `h264`, which is"
        " written with 8 bit, for HDR video (HLG, PQ): send `hevc`, `av1` or `prores` for that."
    ),
]
Crf = Annotated[
    int,
    Field(
        ge=0, le=51, description="Constant quality, 0 (lossless for h264) to 51; prores ignores it."
    ),
]

MAX_URL_CHARS = 8192
"""Longest URL accepted anywhere. R2 and S3 refuse longer request lines."""
MAX_PARTS = 10_000
"""Most parts of one multipart upload.
https://developers.cloudflare.com/r2/objects/multipart-objects/"""

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
"""An absolute URL, or a local path where the worker, which checks it, allows local files."""

_NOT_IN_NAMES = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\"%*/:<>?\\|"
"""Controls, what turns or hides text, and what means something in a path, a URL or a pattern."""
FILE_NAME = rf"^[^{_NOT_IN_NAMES} .-][^{_NOT_IN_NAMES}]{{0,127}}$"
MAX_FILE_NAME_BYTES = 240
"""In UTF-8; file systems take 255, and the worker puts a few before it."""


def is_file_name(text: str) -> bool:
    """Whether it is a `FileName`."""
    short = len(text.encode("utf-8", "replace")) <= MAX_FILE_NAME_BYTES
    return short and re.fullmatch(FILE_NAME, text) is not None


def _of_few_bytes(name: str) -> str:
    if not is_file_name(name):
        raise ValueError(f"a name may have {MAX_FILE_NAME_BYTES} bytes in UTF-8")
    return name


FileName = Annotated[str, StringConstraints(pattern=FILE_NAME), AfterValidator(_of_few_bytes)]
"""A name, never a path: letters and digits of any script, spaces, and signs but
`" % * / : < > ? |` and the backslash; the first character no space, `.` or `-`."""
Seconds = Annotated[float, Field(ge=0, le=1e6)]
Share = Annotated[float, Field(ge=0, le=1)]
FrameIndex = Annotated[int, Field(ge=0, lt=2**53)]
"""0-based, display order. Larger integers are no longer exact in JSON's usual readers."""
Pixels = Annotated[float, Field(ge=0, le=1e5)]
EvenPixels = Annotated[int, Field(ge=16, le=16384, multiple_of=2)]
"""A side of a video that is written."""
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name in the weights manifest."""
ClassName = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""A detector's name for a kind of thing."""


T = TypeVar("T")
Many = Annotated[list[T], Field(fail_fast=True)]
"""A list that may be long. The first element that does not fit ends the reading: an answer of many
megabytes may come from anybody, and pydantic would keep some 400 bytes of error for each element, a
thousand times what the answer takes packed."""


class ProtocolModel(BaseModel):
    """Shows itself without the query of a URL: a presigned one is a secret, and a log travels."""

    model_config = ConfigDict(defer_build=True)  # importing the client builds no validator

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _without_secrets(value)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


class ResponseModel(ProtocolModel):
    """A value a worker answers. Fields of a newer worker are stored in `model_extra`."""

    model_config = ConfigDict(
        extra="allow", frozen=True, hide_input_in_errors=True, ser_json_inf_nan="null"
    )


BY_EITHER_NAME = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)
"""For a field whose name in JSON is a word of Python's. It has two aliases instead of one: a type
checker then knows the constructor's argument by its name in Python."""
Answer = TypeVar("Answer", bound=ResponseModel, covariant=True)


class AnsweredBy(Generic[Answer]):
    """Says which result a task's model leads to: to type checkers, which know
    `client.submit(UpscaleTask(...))` to be a `Job[UpscaleResult]`, and to `TASKS`."""
