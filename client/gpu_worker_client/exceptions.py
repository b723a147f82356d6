"""Every error that the client raises on purpose, as one tree; whoever catches `GpuWorkerError` has
caught them all.

GpuWorkerError ├── ConfigError                an id, key, URL or policy that cannot work; nothing
was sent ├── APIConnectionError         no answer: refused, reset, timed out, TLS ├── APIError
an answer that is not the one asked for: `status`, `request_id`, `body` │   ├── AuthenticationError
401, 403 │   ├── NotFoundError          404 │   ├── PayloadTooLargeError   413 │   ├──
RateLimitError         429: `retry_after_seconds` │   └── ServerError            5xx ├──
split.SplitError           a video that cannot be cut exactly, or not be joined: `reason` ├──
StorageError               the bucket of the caller's files: `code`, `retryable` ├── WaitTimeout
the job goes on, the waiting ended: `job` ├── WebhookError               a webhook's request is not
the worker's, or not of now └── JobError                   the job failed: `job`, `code`, `message`,
`retryable`, `stage`, `details`
    ├── InvalidTask            the task does not fit; also raised by `submit`, before anything is
    sent │   └── UnsupportedTask    no such task ├── UrlRefused             a URL is not allowed,
    has expired, or storage denied it ├── InputUnavailable       the input could not be fetched
    whole ├── StorageUnavailable     storage answers with errors, or no safe connection to it exists
    ├── OutputUploadFailed     the output could not be stored ├── LimitExceeded          a
    configured limit on size or media ├── UnsupportedMedia       not a video, broken, or without
    what the task needs ├── WeightsUnavailable     model weights are missing or not the pinned ones
    ├── WorkerUnsuitable       this worker lacks what the task requires (sandbox, encoder, secret)
    ├── OutputRejected         the check before delivery failed; nothing was delivered ├──
    ResourceExhausted      memory or disk ran out │   └── OutOfMemory        the GPU's memory ├──
    JobCancelled           by `cancel()`, by another caller, or by the worker's shutdown ├──
    JobTimedOut            the worker's time limit or the endpoint's executionTimeout ├── JobExpired
    the endpoint no longer knows the id (retention or ttl passed) ├── ResultLost
    completed, but without a result (RunPod drops what is over its limit) ├── ResultUnreadable
    completed with a result of another shape than the task promises ├── SubmitInDoubt
    nobody can tell whether the endpoint took it; submitting again could pay twice └── WorkerFault
    a bug or a crash of the worker
"""

from __future__ import annotations

from typing import Any

from gpu_worker_client._shown import shown
from gpu_worker_client.protocol import ErrorBody, ErrorCode


class GpuWorkerError(Exception):
    """Base of the tree. Can be pickled, to cross a process pool; the job, which holds a connection,
    stays behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: None if name == "job" else value for name, value in vars(self).items()}
        return _rebuild, (type(self), self.args, fields)


def _rebuild(
    kind: type[GpuWorkerError], args: tuple[Any, ...], fields: dict[str, Any]
) -> GpuWorkerError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error


class ConfigError(GpuWorkerError):
    """An id, key, URL or policy that cannot work; nothing was sent."""


class APIConnectionError(GpuWorkerError):
    """The endpoint gave no answer."""

    def __init__(self, message: str, *, may_have_arrived: bool, transient: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived
        """The request can have had its effect all the same."""
        self.transient = transient
        """Another attempt can succeed; not so when the certificate is not trusted."""


class APIError(GpuWorkerError):
    """The endpoint answered with something else than asked for."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        request_id: str | None = None,
        body: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.request_id = request_id
        """What the endpoint's support wants to know, when it told one."""
        self.body = body
        """Beginning of the answer's text, without any URL's query."""
        self.retry_after_seconds = retry_after_seconds
        """What `Retry-After` asked for; None when it was absent."""


class AuthenticationError(APIError):
    """401 or 403: the API key is wrong, or has no right to this endpoint."""


class NotFoundError(APIError):
    """404: no such endpoint, or no such job."""


class PayloadTooLargeError(APIError):
    """413: the request is over RunPod's limit."""


class RateLimitError(APIError):
    """429, after the retries; `retry_after_seconds` says when to come back."""


class ServerError(APIError):
    """5xx, after the retries."""


class StorageError(GpuWorkerError):
    """A file could not be stored in, or fetched from, the caller's own bucket."""

    def __init__(self, message: str, *, code: str, retryable: bool) -> None:
        super().__init__(message)
        self.code = code
        """`not_found`, `denied`, `unavailable`, `unreachable`, `changed`, ...: the table in
        `storage/s3.py`."""
        self.retryable = retryable
        """Whether the same call can succeed later."""


class WaitTimeout(GpuWorkerError):
    """The deadline passed before the job ended. The job is attached: wait again, or cancel it."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job
        """The `Job`, or `AsyncJob`, that was waited for."""


class WebhookError(GpuWorkerError):
    """A webhook's request that must not be believed: unsigned, signed by another, too old, or no
    event."""


class JobError(GpuWorkerError):
    """The job failed. This class itself is raised for a code that a newer worker knows and this
    client does not."""

    def __init__(self, body: ErrorBody, job: Any = None) -> None:
        super().__init__(shown(f"{body.code}: {body.message}", lines=True))
        self.job = job
        """The `Job`, or `AsyncJob`; None when `submit` refused the task before it was sent."""
        self.code = body.code
        self.message = shown(body.message, lines=True)
        """What happened and what to do, for a person: control characters stand written out,
        `\\x1b`."""
        self.retryable = body.retryable
        """Whether the same task, submitted again unchanged, can succeed."""
        self.stage = body.stage
        self.details = body.details


class InvalidTask(JobError, ValueError):
    """`details["errors"]` lists `{path, problem}`. A ValueError as well: constructors of the task
    models raise it."""


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
    """Model weights are missing or not the pinned ones; the message names the command that fetches
    them."""


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
    """The worker's time limit, or the endpoint's executionTimeout (10 minutes unless a policy says
    otherwise)."""


class JobExpired(JobError):
    """The endpoint no longer knows the id: retention (30 minutes after the end) or ttl passed, or
    it never was its."""


class ResultLost(JobError):
    """Completed, but without a result."""


class ResultUnreadable(JobError):
    """Completed with a result of another shape than the task promises."""


class SubmitInDoubt(JobError):
    """The submit got no answer, so the job may run and cost, and its id is lost. Only `JobManager`
    raises it."""


class WorkerFault(JobError):
    """A bug or a crash of the worker."""


JOB_ERRORS: dict[ErrorCode, type[JobError]] = {
    ErrorCode.invalid_task: InvalidTask,
    ErrorCode.unsupported_task: UnsupportedTask,
    ErrorCode.ffmpeg_arg_denied: InvalidTask,
    ErrorCode.url_not_allowed: UrlRefused,
    ErrorCode.address_not_allowed: UrlRefused,
    ErrorCode.redirect_not_allowed: UrlRefused,
    ErrorCode.url_expired: UrlRefused,
    ErrorCode.url_denied: UrlRefused,
    ErrorCode.input_not_found: InputUnavailable,
    ErrorCode.download_failed: InputUnavailable,
    ErrorCode.download_timeout: InputUnavailable,
    ErrorCode.download_truncated: InputUnavailable,
    ErrorCode.length_required: InputUnavailable,
    ErrorCode.input_changed: InputUnavailable,
    ErrorCode.storage_unavailable: StorageUnavailable,
    ErrorCode.tls_error: StorageUnavailable,
    ErrorCode.clock_skew: StorageUnavailable,
    ErrorCode.upload_failed: OutputUploadFailed,
    ErrorCode.output_exists: OutputUploadFailed,
    ErrorCode.input_too_large: LimitExceeded,
    ErrorCode.media_limit: LimitExceeded,
    ErrorCode.output_too_large: LimitExceeded,
    ErrorCode.result_too_large: LimitExceeded,
    ErrorCode.time_limit: JobTimedOut,
    ErrorCode.not_media: UnsupportedMedia,
    ErrorCode.corrupt_media: UnsupportedMedia,
    ErrorCode.unsupported_media: UnsupportedMedia,
    ErrorCode.no_video_stream: UnsupportedMedia,
    ErrorCode.no_audio_stream: UnsupportedMedia,
    ErrorCode.no_frames: UnsupportedMedia,
    ErrorCode.weights_missing: WeightsUnavailable,
    ErrorCode.weights_rejected: WeightsUnavailable,
    ErrorCode.sandbox_unavailable: WorkerUnsuitable,
    ErrorCode.hardware_encoder_unavailable: WorkerUnsuitable,
    ErrorCode.webhook_unavailable: WorkerUnsuitable,
    ErrorCode.output_invalid: OutputRejected,
    ErrorCode.nan_output: OutputRejected,
    ErrorCode.gpu_oom: OutOfMemory,
    ErrorCode.resource_exhausted: ResourceExhausted,
    ErrorCode.disk_full: ResourceExhausted,
    ErrorCode.cancelled: JobCancelled,
    ErrorCode.internal: WorkerFault,
}
"""The one map from the wire's code to the class a caller catches. A test holds it without gaps."""


def job_error(body: ErrorBody, job: Any = None) -> JobError:
    """The exception of a failure; `JobError` itself for a code that only a newer worker knows."""
    known = {code.value: kind for code, kind in JOB_ERRORS.items()}
    return known.get(body.code, JobError)(body, job)
