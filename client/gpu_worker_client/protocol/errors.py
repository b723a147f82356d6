"""Every way a task can fail: the codes, whether a second try can help, and the exception that carries one.

RunPod accepts only a string in `error`, so a failure travels as the compact JSON text of `ErrorBody`. `TaskError` is the one
exception that processors and worker raise on purpose; whatever else escapes them is a bug and becomes `internal`.
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
    unsupported_task = "unsupported_task"
    url_not_allowed = "url_not_allowed"
    address_not_allowed = "address_not_allowed"
    redirect_not_allowed = "redirect_not_allowed"
    url_expired = "url_expired"
    url_denied = "url_denied"
    input_not_found = "input_not_found"
    tls_error = "tls_error"
    clock_skew = "clock_skew"
    download_failed = "download_failed"
    download_timeout = "download_timeout"
    download_truncated = "download_truncated"
    length_required = "length_required"
    input_changed = "input_changed"
    upload_failed = "upload_failed"
    storage_unavailable = "storage_unavailable"
    output_exists = "output_exists"
    input_too_large = "input_too_large"
    media_limit = "media_limit"
    time_limit = "time_limit"
    output_too_large = "output_too_large"
    result_too_large = "result_too_large"
    not_media = "not_media"
    corrupt_media = "corrupt_media"
    unsupported_media = "unsupported_media"
    no_video_stream = "no_video_stream"
    no_audio_stream = "no_audio_stream"
    no_frames = "no_frames"
    weights_missing = "weights_missing"
    weights_rejected = "weights_rejected"
    ffmpeg_arg_denied = "ffmpeg_arg_denied"
    sandbox_unavailable = "sandbox_unavailable"
    hardware_encoder_unavailable = "hardware_encoder_unavailable"
    output_invalid = "output_invalid"
    nan_output = "nan_output"
    gpu_oom = "gpu_oom"
    resource_exhausted = "resource_exhausted"
    disk_full = "disk_full"
    cancelled = "cancelled"
    internal = "internal"

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
    stage: Stage | None = None
    details: dict[str, Any] = {}

    @classmethod
    def from_wire(cls, text: str) -> ErrorBody | None:
        """The body in RunPod's `error` string, or None when the string is not ours (a crash of the SDK itself, say)."""
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
        message: one sentence for the caller: what is wrong, where, what is allowed. No secret, no query of a URL.
        stage: where it happened; filled in by the worker when None.
        **details: small JSON values that a program can use (`path`, `limit`, `token_index`, ...).
    """

    def __init__(self, code: ErrorCode, message: str, *, stage: Stage | None = None, **details: Any) -> None:
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
