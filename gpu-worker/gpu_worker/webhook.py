"""Notifies a task's `webhook_url` of how its job ended: one signed event, sent before the answer
goes to the platform.

Before, because the platform may stop the worker as soon as it has the answer. So the answer waits
for the event, `SEND_SECONDS` at the most; then it goes out with the warning `webhook_undelivered`,
and the event is not tried again. The URL passes the same guard as every other URL of a task, and
nothing in an event, a warning or the log holds a URL's query.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import accumulate
from typing import Any, cast

from gpu_worker.transfer.body import BytesBody
from gpu_worker.transfer.connect import Network
from gpu_worker.transfer.http import HttpChannel, Response
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.safe_url import SafeUrl, parse_url
from gpu_worker.transfer.store_errors import Transient
from gpu_worker.transfer.urls import UrlPolicy
from gpu_worker.transfer.watchdog import Halted
from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskBase, TaskError, TaskResult
from gpu_worker_client.protocol.http import TRANSIENT_STATUS
from gpu_worker_client.protocol.result import JOB_COMPLETED, JOB_FAILED, WebhookBody, WebhookData
from gpu_worker_client.webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0
"""Longest that an answer waits for its event, all tries together. The card is paid for
meanwhile."""
SHUTDOWN_SEND_SECONDS = 3.0
"""The same for a worker that is shutting down: less than what is left of its life."""
LIMITS = TransferLimits(
    connect_seconds=3.0,
    idle_seconds=5.0,
    response_seconds=5.0,
    attempts=4,
    total_seconds=SEND_SECONDS,
)
"""Four tries with 0.5, 1 and 2 s of jittered pauses between them fit into the time when the
receiver refuses at once."""
MAX_RESULT_BYTES = 256 * 1024
"""Largest result inside an event. Receivers commonly take 1 MB (nginx's default); the job itself
has the whole."""
_WHERE = "webhook_url"


@dataclass(frozen=True)
class Webhooks:
    """What this worker needs to send events."""

    keys: tuple[bytes, ...]
    """One signature each, so that a receiver can change its secret without losing an event."""
    policy: UrlPolicy
    network: Network | None = None

    def notice(self, job_id: str, task: TaskBase) -> Notice | None:
        """The event to come of a job; None when its task wants none. Pure: resolves no name.

        Raises:
            TaskError: `webhook_unavailable` without a key; `url_not_allowed`,
                `address_not_allowed`.
        """
        if task.webhook_url is None:
            return None
        url = parse_url(task.webhook_url, _WHERE)
        self.policy.check(url, _WHERE)
        if not self.keys:
            message = (
                f"{_WHERE}: this worker has no secret to sign with; set GPU_WORKER_WEBHOOK_SECRETS"
                " or leave the field out"
            )
            raise TaskError(ErrorCode.webhook_unavailable, message, path=_WHERE)
        return Notice(self, url, job_id, task)


@dataclass(frozen=True)
class Notice:
    """One job's event."""

    webhooks: Webhooks
    url: SafeUrl
    job_id: str
    task: TaskBase

    def send(
        self, answer: dict[str, Any], cancelled: threading.Event, seconds: float = SEND_SECONDS
    ) -> dict[str, Any]:
        """Sends the event and gives back the answer, with a warning in it when nobody took the
        event.

        Args:
            answer: as it will go to the platform.
            cancelled: ends the sending within a tenth of a second.
            seconds: for all tries together.
        """
        body = event_body(self.job_id, self.task, answer, datetime.now(timezone.utc))
        limits = replace(LIMITS, total_seconds=seconds, retry_budget_seconds=seconds)
        try:
            self._post(body, message_id(self.job_id, answer), limits, cancelled)
        except (TaskError, Halted) as error:
            reason = error.code.value if isinstance(error, TaskError) else "halted"
            logger.warning("the event of job %s was not taken (%s)", self.job_id, reason)
            return _warned(
                answer,
                f"the receiver of {_WHERE} did not take the event ({reason}); it is not sent again",
            )
        return answer

    def _post(
        self, body: bytes, event_id: str, limits: TransferLimits, cancelled: threading.Event
    ) -> None:
        with HttpChannel(
            self.webhooks.policy, limits, cancelled, "upload", self.webhooks.network
        ) as channel:
            retry = channel.retry()
            while True:
                headers = self._headers(body, event_id)
                try:
                    with channel.request(
                        "POST", self.url, _WHERE, headers, body=BytesBody(body)
                    ) as response:
                        if 200 <= response.status < 300:
                            return
                        raise _refusal(response)
                except Transient as failure:
                    retry.pause(failure)

    def _headers(self, body: bytes, event_id: str) -> dict[str, str]:
        now = int(time.time())
        signatures = " ".join(sign(key, event_id, now, body) for key in self.webhooks.keys)
        return {
            "Content-Type": "application/json",
            ID_HEADER: event_id,
            TIMESTAMP_HEADER: str(now),
            SIGNATURE_HEADER: signatures,
        }


def message_id(job_id: str, answer: dict[str, Any]) -> str:
    """The event's id: the same for every try, and for the same end of a job that the platform has
    delivered twice."""
    text = f"{job_id}\n{_state(answer)}"
    return f"msg_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def event_body(job_id: str, task: TaskBase, answer: dict[str, Any], now: datetime) -> bytes:
    """The event's JSON.

    Args:
        answer: a result's fields, or `{"error": text}`.
        now: aware, when the job ended.
    """
    failed = "error" in answer
    fields: dict[str, Any] = {"job_id": job_id, "task": task.task, "state": _state(answer)}
    if task.idempotency_key is not None:
        fields["idempotency_key"] = task.idempotency_key
    if failed:
        fields["error"] = ErrorBody.from_wire(answer["error"])
    else:
        fields["result"], fields["partial"] = _result(answer)
    event = WebhookBody(
        type=JOB_FAILED if failed else JOB_COMPLETED, timestamp=now, data=WebhookData(**fields)
    )
    return event.model_dump_json(exclude_unset=True).encode()


def _state(answer: dict[str, Any]) -> str:
    return "failed" if "error" in answer else "completed"


def _result(answer: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The result as an event carries it, and whether something of it was left out."""
    bare = {**answer}
    for name in (
        "output_url",
        "result_url",
    ):  # the worker's own bucket answers with a presigned GET
        if isinstance(bare.get(name), str):
            bare[name] = bare[name].partition("?")[0]
    # Piece by piece: at once, json's encoder holds the event loop for as long as it takes.
    sizes = accumulate(len(piece) for piece in json.JSONEncoder().iterencode(bare))
    if all(size <= MAX_RESULT_BYTES for size in sizes):
        return bare, False
    return {
        name: value
        for name, value in bare.items()
        if name in TaskResult.model_fields or name == "stats"
    }, True


def _refusal(response: Response) -> Transient | TaskError:
    status = response.status
    if 300 <= status < 400:
        return TaskError(
            ErrorCode.redirect_not_allowed,
            f"{_WHERE}: the receiver redirects; give the final URL",
            status=status,
        )
    if status in TRANSIENT_STATUS:
        return Transient(
            TaskError(
                ErrorCode.storage_unavailable, f"{_WHERE}: the receiver kept answering {status}"
            )
        )
    return TaskError(
        ErrorCode.url_denied,
        f"{_WHERE}: the receiver refuses the event with {status}",
        status=status,
    )


def _warned(answer: dict[str, Any], message: str) -> dict[str, Any]:
    if "error" in answer:
        return answer  # the failure is the news; a caller that sees it knows the event's content
    warnings = cast("list[dict[str, str]]", answer.get("warnings", []))
    return {**answer, "warnings": [*warnings, {"code": "webhook_undelivered", "message": message}]}
