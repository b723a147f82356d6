"""One PUT that may be tried again, and what a 412 then means.

The object appears whole or not at all: the store replaces it only when the declared length arrived.
A conditional PUT (`If-None-Match: *`, sent only when the caller signed it) whose answer was lost is
answered 412 on the second try, by our own first one; that counts as delivered. A 412 to the first
try means that somebody else wrote the object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from gpu_worker.transfer.http import Body, HttpChannel
from gpu_worker.transfer.presign_rules import check_expiry
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.store_errors import Transient
from gpu_worker_client.protocol import ErrorCode, TaskError


def put(
    channel: HttpChannel,
    url: SafeUrl,
    where: str,
    headers: Mapping[str, str],
    body: Body,
    sent: Callable[[int], None],
) -> str | None:
    """Uploads `body` and returns the ETag, None when the store gave none or its answer was lost.

    Args:
        sent: called with the size of every piece that left; a negative size takes back what a
            failed try had counted.

    Raises:
        TaskError: typed; `output_exists` for a 412 that cannot be our own doing.
    """
    retry = channel.retry()
    ambiguous = False
    while True:
        counted = _Counted(sent)
        try:
            check_expiry(url, where, now=datetime.now(timezone.utc))
            with channel.request(
                "PUT", url, where, headers, body=body, sent=counted.add
            ) as response:
                if response.status in (200, 201, 204):
                    return response.etag
                if response.status == 412:
                    if ambiguous:
                        return None
                    raise output_exists(where)
                raise response.refusal()
        except Transient as failure:
            counted.take_back()
            ambiguous = ambiguous or failure.ambiguous
            retry.pause(failure)


def output_exists(where: str) -> TaskError:
    message = (
        f"{where}: the object exists already and may only be created; an earlier try may have"
        " delivered it"
    )
    return TaskError(ErrorCode.output_exists, message, path=where)


class _Counted:
    """Bytes one try has reported."""

    def __init__(self, sent: Callable[[int], None]) -> None:
        self._sent = sent
        self._total = 0

    def add(self, size: int) -> None:
        self._total += size
        self._sent(size)

    def take_back(self) -> None:
        if self._total:
            self._sent(-self._total)
