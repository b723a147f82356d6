"""What every task has in common: strict models, the files it names, headers; and what is said of
one that does not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import unquote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from gpu_worker_client.protocol.base import CONTAINERS, MAX_PARTS, Many, ProtocolModel, Url
from gpu_worker_client.protocol.errors import ErrorCode, TaskError, job_error

SCHEMA_VERSION = 1
MIN_PART_BYTES = 5 * 1024 * 1024
"""Smallest part of a multipart upload but the last.
https://developers.cloudflare.com/r2/objects/multipart-objects/"""

MAX_HEADERS = 32
"""Headers of one request; a presigned URL signs a handful."""

HeaderMap = dict[
    Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")],
    Annotated[str, StringConstraints(max_length=2048, pattern=r"^[\t\x20-\x7e]*$")],
]
"""Header names are RFC 9110 tokens; values are printable ASCII, so no header can be smuggled in."""

_FRAMING = (
    "connection content-length expect host keep-alive proxy-authorization te trailer"
    " transfer-encoding upgrade"
)
FRAMING_HEADERS = frozenset(_FRAMING.split())
"""How a message is framed or routed (RFC 9110 section 7): the worker's HTTP stack owns them."""
OnDamage = Annotated[
    Literal["fail", "conceal"],
    Field(
        description="`fail`: a damaged or cut-off video is `corrupt_media`. `conceal`: what can be"
        " decoded is taken, as players do, and the warning `damage_concealed` gives the count of"
        " damaged spots and where they are."
    ),
]
"""What a damaged input does to its task."""

_ANY_SUFFIX = re.compile(r"(\.[a-z0-9]{1,8})?")


class RequestModel(ProtocolModel):
    """A value a caller sends. Strict: `1.0`, `"1"` and `true` are not integers."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def __init__(self, /, **fields: Any) -> None:
        """Raises InvalidTask: `details["errors"]` lists `{path, problem}`, without any value."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise job_error(problems_of(error, type(self)).body()) from None

    def _problems(self) -> Iterator[str]:
        """What is wrong with fields that are each right; the first is the error."""
        yield from ()

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    # As of pydantic's own: a model inside another is validated in place, not by a call of this.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]


class TaskHeaders(RequestModel):
    """Headers that were signed into a URL and must be sent with it."""

    input: HeaderMap = Field(default={}, repr=False)
    """For `input_url`, `inputs` and `tracks_url`."""
    output: HeaderMap = Field(default={}, repr=False)
    """For `output_url` and the parts."""
    result: HeaderMap = Field(default={}, repr=False)
    """For `result_url` and `result_get_url`."""

    @field_validator("input", "output", "result")
    @classmethod
    def _only_headers_a_signature_needs(cls, headers: dict[str, str]) -> dict[str, str]:
        names = [name.lower() for name in headers]
        if len(names) > MAX_HEADERS:
            raise ValueError(f"at most {MAX_HEADERS} headers")
        if len(set(names)) != len(names):
            raise ValueError("a header stands twice; case makes no difference")
        if framing := sorted(FRAMING_HEADERS.intersection(names)):
            raise ValueError(f"the worker sets these headers itself: {', '.join(framing)}")
        return headers


class UploadPart(RequestModel):
    n: int = Field(ge=1, le=MAX_PARTS)
    """Part number, from 1."""
    url: Url
    """Presigned UploadPart (PUT)."""


class CompleteUpload(RequestModel):
    url: Url
    """Presigned CompleteMultipartUpload (POST)."""


class OutputMultipart(RequestModel):
    """Presigned parts for an output that may exceed one PUT (4.9 GiB). All parts but the last have
    `part_size` bytes."""

    part_size: int = Field(ge=MIN_PART_BYTES, le=5 * 1024**3)
    """Bytes of every part but the last."""
    parts: Many[UploadPart] = Field(min_length=1, max_length=MAX_PARTS)
    """As many as the output may need; unused ones stay as they are."""
    complete: CompleteUpload | None = None
    """Absent: the answer lists `{n, etag}` in `output_parts` and the backend completes the upload
    itself. No URL here can abort an upload: after a job that failed or was cancelled that is the
    backend's to do (AbortMultipartUpload); else storage drops the parts, R2 after 7 days."""

    def _problems(self) -> Iterator[str]:
        if [part.n for part in self.parts] != list(range(1, len(self.parts) + 1)):
            yield "part numbers must be 1, 2, 3, ... in order"
        urls = [part.url for part in self.parts]
        if len(set(urls)) != len(urls):
            yield "two parts have the same URL; each needs its own partNumber"
        urls += [self.complete.url] if self.complete else []
        if not all(same_object(urls[0], url) for url in urls[1:]):
            yield "all parts, and complete, must be of one object"


class TaskBase(RequestModel):
    """What every task says: its parameters, the files it reads and writes."""

    task: str
    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this wire; it rises only when a field changes its meaning."""
    result_url: Url | None = None
    """PUT for the whole result JSON; gzip when its path ends in `.gz`."""
    result_get_url: Url | None = None
    """GET of the same object: a finished result with the same `idempotency_key` is returned without
    GPU work."""
    idempotency_key: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")] | None
    ) = None
    """The caller's name for this piece of work; comes back in the answer."""
    webhook_url: Url | None = None
    """POST of a signed event when the job has ended; needs a worker with
    `GPU_WORKER_WEBHOOK_SECRETS`. See webhooks.md."""
    headers: TaskHeaders = TaskHeaders.model_construct()
    """Headers that were signed into a URL and must be sent with it."""
    params: RequestModel
    """What to do."""

    def _problems(self) -> Iterator[str]:
        if self.result_get_url is not None:
            if self.idempotency_key is None or self.result_url is None:
                yield "result_get_url needs idempotency_key and result_url"
            elif not same_object(self.result_get_url, self.result_url):
                yield "result_get_url must read the object that result_url writes"
        written = self.writes()
        files = self.reads() | written
        for (path, url), (target, other) in product(files.items(), written.items()):
            if path != target and same_object(url, other):
                yield f"{path} and {target} are the same object; give each a key of its own"

    def to_wire(self) -> dict[str, Any]:
        """The fields that the caller set: an older worker is not bothered with newer fields."""
        given = self.model_dump(mode="json", exclude_unset=True, warnings="error")
        return {"task": self.task} | given

    def reads(self) -> dict[str, str]:
        """URL of every file that the job works on, by its path in the task."""
        return {}

    def extra_inputs(self) -> dict[str, str]:
        """Those of `reads` beside, or instead of, `input_url`: the name by which the processor
        knows the file -> its path in the task."""
        return {}

    def writes(self) -> dict[str, str]:
        """A URL of every object that the job stores, by its path in the task."""
        return {} if self.result_url is None else {"result_url": self.result_url}

    def urls(self) -> dict[str, str]:
        """Every URL of the task, by its path in it."""
        more = {"result_get_url": self.result_get_url, "webhook_url": self.webhook_url}
        given = {path: url for path, url in more.items() if url is not None}
        return self.reads() | self.writes() | given


class InputTask(TaskBase):
    """A task that reads one object."""

    input_url: Url
    """GET; presigned."""

    def reads(self) -> dict[str, str]:
        return {"input_url": self.input_url}


class OutputTask(TaskBase):
    """A task that may write one object."""

    OUTPUT_SUFFIXES: ClassVar[frozenset[str] | None] = frozenset({"", *CONTAINERS})
    """Which containers the output's name may ask for; without a suffix it is mp4. None: what the
    task says chooses."""
    OUTPUT_REQUIRED: ClassVar[bool] = False
    """Whether a task without an output is refused."""
    output_url: Url | None = None
    """PUT; presigned. Its path's suffix chooses the container, but not of a command of `render`."""
    output_multipart: OutputMultipart | None = None
    """Presigned parts instead of `output_url`, for an output above 4.9 GiB."""

    def suffix_problem(self, suffix: str) -> str | None:
        """What is wrong with the suffix of the output's name; None for one that fits."""
        suffix, suffixes = suffix.lower(), self.OUTPUT_SUFFIXES
        if suffixes is None:
            return None if _ANY_SUFFIX.fullmatch(suffix) else "the name's suffix is no container's"
        wanted = ", ".join(sorted(suffixes - {""}))
        return None if suffix in suffixes else f"the name must end in one of {wanted}"

    @property
    def makes_a_file(self) -> bool:
        return self.written_object is not None

    @property
    def written_object(self) -> str | None:
        """A URL of the object that is written; None when there is none."""
        return self.output_multipart.parts[0].url if self.output_multipart else self.output_url

    def writes(self) -> dict[str, str]:
        field = "output_multipart" if self.output_multipart else "output_url"
        written = self.written_object
        return ({} if written is None else {field: written}) | super().writes()

    def urls(self) -> dict[str, str]:
        found = super().urls()
        if self.output_multipart is not None:
            del found["output_multipart"]
            for index, part in enumerate(self.output_multipart.parts):
                found[f"output_multipart.parts.{index}.url"] = part.url
            if complete := self.output_multipart.complete:
                found["output_multipart.complete.url"] = complete.url
        return found

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if self.output_url is not None and self.output_multipart is not None:
            yield "give one of output_url and output_multipart, not both"
        if self.OUTPUT_REQUIRED and not self.makes_a_file:
            yield "give exactly one of output_url and output_multipart"


class OptionalFileTask(OutputTask, InputTask):
    """A task that reads one object and writes one if it is given a URL for it."""


class FileTask(OptionalFileTask):
    """A task that reads one object and writes one."""

    OUTPUT_REQUIRED: ClassVar[bool] = True


def same_object(first: str, second: str) -> bool:
    """Whether two URLs, or local paths, name one object: equal but for query and spelling."""
    try:
        return _object_named(first) == _object_named(second)
    except ValueError:  # the worker's URL check names what is wrong with it
        return first == second


def _object_named(url: str) -> tuple[str, str, int | None, str]:
    parts = urlsplit(url)
    scheme = "" if parts.scheme == "file" else parts.scheme
    port = parts.port or {"https": 443, "http": 80}.get(scheme)
    return scheme, (parts.hostname or "").rstrip("."), port, unquote(parts.path)


def problems_of(error: ValidationError, model: type[BaseModel]) -> TaskError:
    """`invalid_task`; `details["errors"]` is a list of `{path, problem}`, paths in `model`."""
    problems: list[dict[str, str]] = []
    for entry in error.errors(include_url=False, include_context=False, include_input=False):
        *outer, key = entry["loc"] or ("",)
        items = _ITEMS.get(key, str(key)) if _PLAIN_KEY.fullmatch(str(key)) else "items"
        if entry["type"] == "extra_forbidden":
            problem = _unknown_key(key, _fields_at(tuple(outer), model))
        elif entry["type"] == "list_type":
            problem = f"give a list of {items}"
        elif entry["msg"].startswith("List should have at least 1 item "):
            problem = f"give at least one {items.removesuffix('s')}"
        else:
            problem = entry["msg"].removeprefix("Value error, ")
        problems.append({"path": _path(entry["loc"]), "problem": problem})
    lines = [f"{each['path']}: {each['problem']}".removeprefix(": ") for each in problems[:5]]
    return TaskError(ErrorCode.invalid_task, "; ".join(lines), errors=problems[:20])


_ITEMS: dict[int | str, str] = {"command_args": "words"}
"""What a list holds, where its name does not say so."""


def _unknown_key(key: int | str, allowed: list[str]) -> str:
    """What to write instead of a key that a model does not have."""
    if key == "input_url" and "inputs" in allowed:
        return "unknown key; this task takes `inputs`: {name: url}"
    # A key of other tasks is no misspelling: output_url is not what input_url was meant to be.
    near = "" if key in FileTask.model_fields else nearest(key, allowed)
    if near or not allowed:
        return f"unknown key.{near}" if near else "unknown key"
    return f"unknown key; allowed: {', '.join(allowed)}"


def _path(loc: tuple[int | str, ...]) -> str:
    """Dotted path of a fault, without pydantic's tags of a union's members. An unknown key is the
    caller's own text, so it is shown only when it reads like a name."""
    parts = [str(part) for part in loc if not _UNION_TAG.fullmatch(str(part))]
    return ".".join(part if _PLAIN_KEY.fullmatch(part) else "(key)" for part in parts)


_UNION_TAG = re.compile(r"literal\[.*\]|constrained-\w+|function-\w+\[.*\]|\[key\]")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _fields_at(loc: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Field names of the model at `loc` inside `model`, which may be in a list or optional; empty
    when what stands there is not a model."""
    fields: dict[str, Any] = dict(model.model_fields)
    for part in loc:
        if isinstance(part, str):
            kinds = [fields[part].annotation] if part in fields else []
            kinds += [inner for kind in kinds for inner in get_args(kind)]
            fields = next(
                (kind.model_fields for kind in kinds if hasattr(kind, "model_fields")), {}
            )
    return list(fields)


def nearest(name: object, known: list[str]) -> str:
    """` Did you mean "x"?` for a misspelling of a known name. Only the known name is shown."""
    spelt = {each.lower(): each for each in reversed(known)}
    close = difflib.get_close_matches(str(name)[:64].lower(), spelt, n=1)
    return f' Did you mean "{spelt[close[0]]}"?' if close else ""
