"""Every way a task can fail: the codes, whether a second try can help, the exception that carries
one on the worker (`TaskError`), and the tree of those that a caller catches (`JobError`).

RunPod accepts only a string in `error`: a failure travels as the JSON of `ErrorBody`. Whatever
else than `TaskError` escapes processors and worker is a bug and becomes `internal`.

    JobError                   the job failed; `gpu_worker_client.errors` has the tree above it
    ├── InvalidTask            the task does not fit; raised before anything is sent, too
    │   └── UnsupportedTask    no such task
    ├── UrlRefused             a URL is not allowed, has expired, or storage denied it
    ├── InputUnavailable       the input could not be fetched whole
    ├── StorageUnavailable     storage answers with errors, or no safe connection to it exists
    ├── OutputUploadFailed     the output could not be stored
    ├── LimitExceeded          a configured limit on size or media
    ├── UnsupportedMedia       not a video, broken, or without what the task needs
    ├── WeightsUnavailable     model weights are missing or not the pinned ones
    ├── WorkerUnsuitable       this worker lacks what the task requires (sandbox, encoder, secret)
    ├── OutputRejected         the check before delivery failed; nothing was delivered
    ├── ResourceExhausted      memory or disk ran out
    │   └── OutOfMemory        the GPU's memory
    ├── JobCancelled           by `cancel()`, by another caller, or by the worker's shutdown
    ├── JobTimedOut            the worker's time limit or the endpoint's executionTimeout
    ├── JobExpired             the endpoint no longer knows the id (retention or ttl passed)
    ├── ResultLost             completed, but without a result (RunPod drops what is over its limit)
    ├── ResultUnreadable       completed with a result of another shape than the task promises
    ├── SubmitInDoubt          nobody can say whether the endpoint took it
    └── WorkerFault            a bug or a crash of the worker
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from gpu_worker_client.protocol.base import ResponseModel
from gpu_worker_client.protocol.foreign import printable

Stage = Literal["validate", "fetch", "load", "process", "encode", "deliver"]
"""Where in the way of a job it failed."""

MAX_DETAIL_CHARS = 2048
"""`details` is for a human to read, not a channel for file contents."""


class ErrorCode(str, Enum):
    """Typed reasons. The wire carries the value; the meaning of a value never changes."""

    invalid_task = "invalid_task"
    """The JSON does not fit; `details.errors` lists paths and problems."""
    unsupported_task = "unsupported_task"
    """No such task in this worker; `details.tasks` lists the known ones."""
    url_not_allowed = "url_not_allowed"
    """Scheme, host or form of a URL is refused."""
    address_not_allowed = "address_not_allowed"
    """A host resolves to a private, loopback or otherwise special address."""
    redirect_not_allowed = "redirect_not_allowed"
    """Storage answered with a redirect; presigned URLs never need one."""
    url_expired = "url_expired"
    """A presigned URL has expired, or would before the job could end."""
    url_denied = "url_denied"
    """Storage refused the URL: wrong method, changed header, revoked key."""
    input_not_found = "input_not_found"
    """There is no object behind `input_url`."""
    tls_error = "tls_error"
    """The certificate of a host could not be verified."""
    clock_skew = "clock_skew"
    """Storage refused a signature because the clocks differ too much."""
    download_failed = "download_failed"
    """The input could not be read after bounded retries."""
    download_timeout = "download_timeout"
    """The input came too slowly or took longer than the limit."""
    download_truncated = "download_truncated"
    """The input ended before its announced length."""
    length_required = "length_required"
    """Storage demands a length that the request could not give, or the input has none."""
    input_changed = "input_changed"
    """The input object was replaced while it was being read."""
    upload_failed = "upload_failed"
    """The output could not be stored after bounded retries."""
    storage_unavailable = "storage_unavailable"
    """Storage answers 5xx or 429 beyond the retries."""
    output_exists = "output_exists"
    """The output was signed with If-None-Match and an object is already there."""
    input_too_large = "input_too_large"
    """The input exceeds `GPU_WORKER_MAX_INPUT_BYTES`."""
    media_limit = "media_limit"
    """Too many pixels, frames or streams; the message says which and how much."""
    time_limit = "time_limit"
    """The job ran longer than `GPU_WORKER_JOB_TIME_LIMIT_SECONDS`."""
    output_too_large = "output_too_large"
    """The output exceeds `GPU_WORKER_MAX_OUTPUT_BYTES` or the size of one PUT."""
    result_too_large = "result_too_large"
    """The result JSON fits neither the answer nor a `result_url`."""
    not_media = "not_media"
    """The input is no video or audio container."""
    corrupt_media = "corrupt_media"
    """The input broke before or while it was decoded; nothing was delivered."""
    unsupported_media = "unsupported_media"
    """A container, codec or pixel format that this worker does not read or write."""
    no_video_stream = "no_video_stream"
    """The input has no video stream."""
    no_audio_stream = "no_audio_stream"
    """The input has no audio stream."""
    no_frames = "no_frames"
    """The input's video stream holds no frame."""
    weights_missing = "weights_missing"
    """A model's weights are not in `WEIGHTS_DIR`; the message names the command that fetches
    them."""
    weights_rejected = "weights_rejected"
    """A weights file has the wrong digest, size or keys."""
    ffmpeg_arg_denied = "ffmpeg_arg_denied"
    """An argument outside the allow table; `details.token_index` says which."""
    sandbox_unavailable = "sandbox_unavailable"
    """`GPU_WORKER_SANDBOX=require` and this host cannot confine the engine."""
    hardware_encoder_unavailable = "hardware_encoder_unavailable"
    """Hardware encoding was required and is not there."""
    webhook_unavailable = "webhook_unavailable"
    """The task names a `webhook_url` and this worker has no secret to sign an event with."""
    output_invalid = "output_invalid"
    """The check before delivery failed; nothing was delivered."""
    nan_output = "nan_output"
    """The network's output was not finite, in full precision as well."""
    gpu_oom = "gpu_oom"
    """GPU memory did not suffice with the smallest tiles; the worker restarts itself."""
    resource_exhausted = "resource_exhausted"
    """Memory, processes or file handles ran out."""
    disk_full = "disk_full"
    """The disk for job directories is full."""
    cancelled = "cancelled"
    """The job was cancelled, or the worker was shut down under it."""
    internal = "internal"
    """A bug: the message holds an id, the worker's log the traceback."""

    @property
    def retryable(self) -> bool:
        """Whether the same task, submitted again unchanged, can succeed."""
        return self.value in _RETRYABLE.split()


_RETRYABLE = (
    "download_failed download_timeout download_truncated upload_failed storage_unavailable gpu_oom"
    " resource_exhausted disk_full internal"
)


class ErrorBody(ResponseModel):
    """A failure as it travels: `{"code", "message", "retryable", "stage", "details"}`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    code: str
    """One of `ErrorCode`, or a newer worker's code."""
    message: str
    """One sentence that says what to do. Never holds a URL's query or a secret."""
    retryable: bool = False
    stage: str | None = None
    """Where in the way of a job it failed; a `Stage`, or a newer worker's."""
    details: dict[str, Any] = {}

    @classmethod
    def from_wire(cls, text: str) -> ErrorBody | None:
        """The body in RunPod's `error` string; None when that is not ours (the SDK's own crash)."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def to_wire(self) -> str:
        return self.model_dump_json()


class TaskError(Exception):
    """A failure that the caller will see.

    Args:
        message: one sentence: what is wrong, where, what is allowed. No secret, no URL's query.
        stage: where it happened; filled in by the worker when None.
        **details: small JSON values that a program can use (`path`, `limit`, `token_index`, ...).
    """

    def __init__(
        self, code: ErrorCode, message: str, *, stage: Stage | None = None, **details: Any
    ) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code, self.message, self.details = code, message, details
        self.stage: Stage | None = stage

    def body(self) -> ErrorBody:
        return ErrorBody(
            code=self.code.value,
            message=self.message[:MAX_DETAIL_CHARS],
            retryable=self.code.retryable,
            stage=self.stage,
            details=self.details,
        )


class GpuWorkerError(Exception):
    """Base of the tree. Can be pickled; the job, which holds a connection, stays behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: None if name == "job" else value for name, value in vars(self).items()}
        return _unpickled, (type(self), *self.args), fields


def _unpickled(kind: type[GpuWorkerError], *args: object) -> GpuWorkerError:
    return kind.__new__(kind, *args)


class JobError(GpuWorkerError):
    """The job failed; this class itself: with a code that only a newer worker knows."""

    def __init__(self, body: ErrorBody, job: Any = None) -> None:
        super().__init__(printable(f"{body.code}: {body.message}", lines=True))
        self.body = body
        self.job = job
        """The `Job`, or `AsyncJob`; None when `submit` refused the task before it was sent."""
        self.code = body.code
        self.message = printable(body.message, lines=True)
        """What happened and what to do, for a person: control characters are written out."""
        self.retryable = body.retryable
        """Whether the same task, submitted again unchanged, can succeed."""
        self.stage = body.stage
        self.details = body.details


class InvalidTask(JobError, ValueError):
    """`details["errors"]` lists `{path, problem}`. The task models raise it: a ValueError, too."""


class UnsupportedTask(InvalidTask):
    """`details["tasks"]` lists the tasks there are."""


class UrlRefused(JobError):
    """A URL is not allowed, has expired, or storage denied it."""


class InputUnavailable(JobError):
    """The input could not be fetched whole."""


class StorageUnavailable(JobError):
    """Storage answers with errors, or no safe connection to it exists."""


class OutputUploadFailed(JobError):
    """The output could not be stored."""


class LimitExceeded(JobError):
    """A configured limit; the message says which and how much."""


class UnsupportedMedia(JobError):
    """Not a video, broken, or without what the task needs."""


class WeightsUnavailable(JobError):
    """Model weights are missing or not the pinned ones; the message says how to fetch them."""


class WorkerUnsuitable(JobError):
    """This worker lacks what the task requires."""


class OutputRejected(JobError):
    """The check before delivery failed; nothing was delivered."""


class ResourceExhausted(JobError):
    """Memory or disk ran out."""


class OutOfMemory(ResourceExhausted):
    """The GPU's memory, after smaller tiles were tried."""


class JobCancelled(JobError):
    """By `cancel()`, by another caller, or by the worker's shutdown."""


class JobTimedOut(JobError):
    """The worker's time limit, or the endpoint's executionTimeout (10 minutes without a policy)."""


class JobExpired(JobError):
    """The endpoint knows no such id (any more): 30 minutes after the end, or ttl, have passed."""


class ResultLost(JobError):
    """Completed, but without a result."""


class ResultUnreadable(JobError):
    """Completed with a result of another shape than the task promises."""


class SubmitInDoubt(JobError):
    """Of `JobManager`: a submit got no answer, so the job may run and cost, its id unknown."""


class WorkerFault(JobError):
    """A bug or a crash of the worker."""


_CODES: dict[type[JobError], str] = {
    InvalidTask: "invalid_task ffmpeg_arg_denied",
    UnsupportedTask: "unsupported_task",
    UrlRefused: "url_not_allowed address_not_allowed redirect_not_allowed url_expired url_denied",
    InputUnavailable: (
        "input_not_found download_failed download_timeout download_truncated length_required"
        " input_changed"
    ),
    StorageUnavailable: "storage_unavailable tls_error clock_skew",
    OutputUploadFailed: "upload_failed output_exists",
    LimitExceeded: "input_too_large media_limit output_too_large result_too_large",
    JobTimedOut: "time_limit",
    UnsupportedMedia: (
        "not_media corrupt_media unsupported_media no_video_stream no_audio_stream no_frames"
    ),
    WeightsUnavailable: "weights_missing weights_rejected",
    WorkerUnsuitable: "sandbox_unavailable hardware_encoder_unavailable webhook_unavailable",
    OutputRejected: "output_invalid nan_output",
    OutOfMemory: "gpu_oom",
    ResourceExhausted: "resource_exhausted disk_full",
    JobCancelled: "cancelled",
    WorkerFault: "internal",
}
JOB_ERRORS = {ErrorCode(name): kind for kind, names in _CODES.items() for name in names.split()}
"""The one map from the wire's code to the class a caller catches. A test holds it without gaps."""


def job_error(body: ErrorBody, job: Any = None) -> JobError:
    """The exception of a failure; `JobError` itself for a code that only a newer worker knows."""
    known = {code.value: kind for code, kind in JOB_ERRORS.items()}
    return known.get(body.code, JobError)(body, job)
