"""Every way a task can fail: the codes, whether a second try can help, and the exception that
carries one.

RunPod accepts only a string in `error`, so a failure travels as the compact JSON text of
`ErrorBody`. `TaskError` is the one exception that processors and worker raise on purpose; whatever
else escapes them is a bug and becomes `internal`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from gpu_worker_client.protocol.models import Reply

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
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        ErrorCode.download_failed,
        ErrorCode.download_timeout,
        ErrorCode.download_truncated,
        ErrorCode.upload_failed,
        ErrorCode.storage_unavailable,
        ErrorCode.gpu_oom,
        ErrorCode.resource_exhausted,
        ErrorCode.disk_full,
        ErrorCode.internal,
    }
)


class ErrorBody(Reply):
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
        """The body in RunPod's `error` string, or None when the string is not ours (a crash of the
        SDK itself, say)."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    def to_wire(self) -> str:
        return self.model_dump_json()


class TaskError(Exception):
    """A failure that the caller will see.

    Args:
        code: the typed reason.
        message: one sentence for the caller: what is wrong, where, what is allowed. No secret, no
            query of a URL.
        stage: where it happened; filled in by the worker when None.
        **details: small JSON values that a program can use (`path`, `limit`, `token_index`, ...).
    """

    def __init__(
        self, code: ErrorCode, message: str, *, stage: Stage | None = None, **details: Any
    ) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.message = message
        self.stage: Stage | None = stage
        self.details = details

    def body(self) -> ErrorBody:
        return ErrorBody(
            code=self.code.value,
            message=self.message[:MAX_DETAIL_CHARS],
            retryable=self.code.retryable,
            stage=self.stage,
            details=self.details,
        )
