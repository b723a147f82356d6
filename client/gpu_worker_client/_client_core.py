"""What `Client` and `AsyncClient` share: settings, the check of a task, and the flows of their
calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from pydantic_core import PydanticSerializationError

from gpu_worker_client._drive import Requests
from gpu_worker_client._endpoint import (
    DEFAULT_BASE_URL,
    Endpoint,
    check_api_key,
    check_id,
    job_id_of,
)
from gpu_worker_client._flow import Flow
from gpu_worker_client._http import Transport
from gpu_worker_client._job_core import JobCore
from gpu_worker_client._timing import Timing
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import TASKS, ErrorCode, TaskBase, TaskError, TaskResult, parse_task
from gpu_worker_client.protocol.errors import job_error
from gpu_worker_client.stored_result import KeptResult

MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 10.0
"""Bounds of `run(wait_seconds=...)`. The lower one is RunPod's; the upper one is how long Ctrl-C
may be held up, since only the answer names the job to cancel.
https://docs.runpod.io/serverless/endpoints/operation-reference"""

J = TypeVar("J", bound="JobCore[Any]")


@dataclass(frozen=True)
class Connection:
    """One endpoint and the way to it."""

    endpoint: Endpoint
    transport: Transport
    requests: Requests
    timing: Timing

    @classmethod
    def open(
        cls,
        endpoint_id: str | None,
        api_key: str | None,
        base_url: str | None,
        env: Mapping[str, str],
        timing: Timing | None,
    ) -> Connection:
        """Raises ConfigError: a setting is missing or cannot work. Nothing is sent."""
        timing = timing or Timing()
        endpoint = Endpoint(
            endpoint_id or _required(env, "GPU_WORKER_ENDPOINT_ID", "endpoint_id"),
            base_url or env.get("GPU_WORKER_BASE_URL") or DEFAULT_BASE_URL,
            timing,
        )
        key = check_api_key(api_key or _required(env, "RUNPOD_API_KEY", "api_key"))
        # A proxy named by the environment is for the world outside, not for a dev-server on this
        # machine.
        transport = Transport(key, trust_environment=not endpoint.on_loopback)
        return cls(endpoint, transport, Requests(transport), timing)


def _required(env: Mapping[str, str], variable: str, argument: str) -> str:
    value = env.get(variable, "")
    if not value:
        raise ConfigError(f"no {argument}: give it to the client or set {variable}")
    return value


class ClientCore:
    """The flows of a client's calls. `handle` is how it makes its kind of job."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._endpoint = connection.endpoint
        self._timing = connection.timing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.id!r}, base_url={self._endpoint.base_url!r})"

    def _handle(
        self, job_id: str, result_type: type[TaskResult] | None, kept: KeptResult | None
    ) -> JobCore[Any]:
        raise NotImplementedError

    def _job(self, job_id: str, task: object) -> JobCore[Any]:
        check_id(job_id, "job id")
        if isinstance(task, TaskBase):
            return self._handle(job_id, TASKS[task.task].result, KeptResult.of(task))
        if isinstance(task, str) and task not in TASKS:
            raise ConfigError(f"task must be one of: {', '.join(TASKS)}")
        if isinstance(task, str):
            return self._handle(job_id, TASKS[task].result, None)
        kind = (
            next((kind for kind in TASKS.values() if kind.request == task), None)
            if isinstance(task, type)
            else None
        )
        return self._handle(job_id, kind.result if kind else None, None)

    def _submit_flow(
        self,
        task: object,
        policy: Policy | None,
        webhook: str | None = None,
        deadline: float | None = None,
        wait_seconds: float | None = None,
    ) -> Flow[Any]:
        checked = web_task(task)
        body: dict[str, Any] = {"input": _wire(checked)}
        limits = (checked_policy(policy) or Policy.for_task(checked)).to_wire()
        if limits:
            body["policy"] = limits
        if webhook is not None:
            body["webhook"] = _check_webhook(webhook)
        answer = yield from self._endpoint.submit(
            body,
            repeatable=checked.idempotency_key is not None,
            deadline=deadline,
            wait_seconds=self._hold(wait_seconds, deadline),
        )
        job = self._handle(job_id_of(answer), TASKS[checked.task].result, KeptResult.of(checked))
        job.seen(answer)
        return job

    def _health_flow(self, timeout: float | None) -> Flow[dict[str, Any]]:
        if timeout is None:
            return self._endpoint.health()
        return self._endpoint.health(retries="none", deadline=self._timing.deadline(timeout))

    def _hold(self, wait_seconds: float | None, deadline: float | None) -> float | None:
        """How long the submit asks to be held open; None when there is no time to."""
        if wait_seconds is None:
            return None
        if not MIN_WAIT_SECONDS <= wait_seconds <= MAX_WAIT_SECONDS:
            raise ConfigError(f"wait_seconds must be {MIN_WAIT_SECONDS:g} to {MAX_WAIT_SECONDS:g}")
        remaining = wait_seconds if deadline is None else deadline - self._timing.clock()
        return min(wait_seconds, remaining) if remaining >= MIN_WAIT_SECONDS else None

    def _run_flow(
        self,
        task: object,
        timeout: float | None,
        policy: Policy | None,
        wait_seconds: float | None,
        *,
        watched: bool,
    ) -> Flow[Any]:
        """Submits, waits, gives the result; cancels the job whatever else ends it. Tells the events
        when they are watched."""
        deadline = self._timing.deadline(timeout)
        job = cast(
            "JobCore[Any]",
            (yield from self._submit_flow(task, policy, None, deadline, wait_seconds)),
        )
        try:
            return (yield from job.run_flow(deadline, watched=watched))
        except BaseException:
            yield from job.abandon_flow()
            raise


def typed_task(task: object) -> TaskBase:
    """The typed task. One that is typed already was validated when it was made.

    Raises:
        InvalidTask: it does not fit.
    """
    if isinstance(task, TaskBase):
        return task
    try:
        return parse_task(
            dict(cast("Mapping[str, Any]", task)) if isinstance(task, Mapping) else task
        )
    except TaskError as error:
        raise job_error(error.body()) from None


def web_task(task: object) -> TaskBase:
    """The typed task, which names nothing but web URLs. Paths and other schemes (file, s3) are
    refused here: a worker would too, after a start that is paid for.

    Raises:
        InvalidTask: it does not fit, or a field is no web URL.
    """
    typed = typed_task(task)
    paths = [path for path, url in typed.urls().items() if not _is_web_url(url)]
    if not paths:
        return typed
    problem = (
        "must be an https URL; for files of this machine give paths to client.upscale and its like"
    )
    errors = [{"path": path, "problem": problem} for path in paths]
    message = f"{', '.join(paths[:5])}: {problem}"
    raise job_error(TaskError(ErrorCode.invalid_task, message, errors=errors[:20]).body())


def _wire(task: TaskBase) -> dict[str, Any]:
    """The task's JSON. Raises InvalidTask: it was made by `model_construct`, and does not fit."""
    try:
        return task.to_wire()
    except PydanticSerializationError:
        given = task.model_dump(mode="json", exclude_unset=True, warnings=False)
        return typed_task({"task": task.task} | given).to_wire()


def _is_web_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)


def _check_webhook(url: str) -> str:
    if not _is_web_url(url):
        raise ConfigError("webhook must be an absolute https or http URL")
    return url
