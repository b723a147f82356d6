"""From whatever a processor raised to the one form of a failure that a caller sees."""

from __future__ import annotations

import errno
import logging
import uuid

from gpu_worker_client.protocol import ErrorCode, TaskError

logger = logging.getLogger(__name__)

_BY_ERRNO = {
    errno.ENOSPC: (
        ErrorCode.disk_full,
        "the worker's disk is full; retry on a worker with more disk",
    ),
    errno.EDQUOT: (
        ErrorCode.disk_full,
        "the worker's disk quota is used up; retry on a worker with more disk",
    ),
    errno.EFBIG: (
        ErrorCode.output_too_large,
        "a file that the job makes exceeds this worker's size limit; send a shorter input",
    ),
    errno.EOPNOTSUPP: (  # FFmpeg's scaler says it of what it has no conversion for
        ErrorCode.unsupported_media,
        "the video has a colour matrix or pixel format that cannot be converted; convert it to"
        " BT.709 and 8 or 10 bit 4:2:0 first",
    ),
    errno.ENOMEM: (
        ErrorCode.resource_exhausted,
        "the worker ran out of memory; retry on a larger one",
    ),
}


def as_task_error(error: BaseException) -> TaskError:
    """The typed form of whatever was raised. What is neither a `TaskError` nor a known `OSError` is
    a bug: the caller gets an incident number, the log gets the traceback."""
    if isinstance(error, TaskError):
        return error
    if isinstance(error, MemoryError):
        return TaskError(*_BY_ERRNO[errno.ENOMEM])
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return TaskError(*_BY_ERRNO[error.errno])
    incident = uuid.uuid4().hex[:12]
    logger.error("incident %s", incident, exc_info=error)
    return TaskError(
        ErrorCode.internal,
        f"an internal error; the worker's log has it as incident {incident}",
        incident=incident,
    )
