"""What the client raises besides failed jobs, and the whole tree; whoever catches `GpuWorkerError`
has caught all of it. A path on this machine that is not there is Python's own `FileNotFoundError`,
and a call that does not fit its method a `TypeError`.

    GpuWorkerError
    ├── ConfigError                an id, key, URL or policy that cannot work; nothing was sent
    ├── APIConnectionError         no answer: refused, reset, timed out, TLS
    ├── APIError                   another answer than asked for: `status`, `request_id`, `body`
    │   ├── AuthenticationError    401, 403
    │   ├── NotFoundError          404
    │   ├── PayloadTooLargeError   413
    │   ├── RateLimitError         429: `retry_after_seconds`
    │   └── ServerError            5xx
    ├── queue.states.WrongState   a job of a queue cannot become what it was asked to
    ├── split.SplitError           a video that cannot be cut exactly, or not be joined: `reason`
    ├── StorageError               the bucket of the caller's files: `code`, `retryable`
    ├── WaitTimeout                the job goes on, the waiting ended: `job`
    ├── WebhookError               a webhook's request is not the worker's, or not of now
    └── JobError                   the job failed: the tree in `protocol/errors.py`
"""

from __future__ import annotations

from typing import Any

from gpu_worker_client.protocol.errors import GpuWorkerError


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
        """What the endpoint's support wants to know, when it named one."""
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
        """`not_found`, `denied`, `unavailable`, ...: the table in `storage/s3.py`."""
        self.retryable = retryable
        """Whether the same call can succeed later."""


class WaitTimeout(GpuWorkerError):
    """The deadline passed before the job ended. The job is attached: wait again, or cancel it."""

    def __init__(self, message: str, *, job: Any) -> None:
        super().__init__(message)
        self.job = job
        """The `Job`, or `AsyncJob`, that was waited for."""


class WebhookError(GpuWorkerError):
    """A webhook's request not to be believed: unsigned, another's, too old, or no event."""
