"""The SDK's front door: `Client` submits tasks to one endpoint and hands out jobs.

It accepts the typed tasks of `protocol` or plain dicts of the same shape, and validates them here, so that a misspelt parameter
fails in milliseconds and not in a queue. Results come back typed by the task that was submitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, cast, overload
from urllib.parse import urlsplit

from gpu_worker_client.commands import Compilable, command_args
from gpu_worker_client.endpoint import DEFAULT_BASE_URL, Endpoint, Timing, check_id
from gpu_worker_client.exceptions import APIError, ConfigError, job_error
from gpu_worker_client.job import Event, Job, R
from gpu_worker_client.protocol import TASKS, AnsweredBy, RenderResult, TaskBase, TaskError, TaskResult, parse_task

MIN_EXECUTION_SECONDS = 5
MIN_TTL_SECONDS = 10
MAX_POLICY_SECONDS = 7 * 24 * 3600
"""RunPod's bounds on a request's policy. https://docs.runpod.io/serverless/endpoints/send-requests"""


@dataclass(frozen=True)
class Policy:
    """How long a job may wait and run. None leaves the endpoint's own setting."""

    execution_timeout_seconds: float | None = None
    """Longest run on the worker, 5 s to 7 days. RunPod's default is 10 minutes, too short for a long upscale."""
    ttl_seconds: float | None = None
    """Longest life from submit, queue included, 10 s to 7 days; then even a running job is deleted. RunPod's default: 24 h."""
    low_priority: bool = False
    """Do not start further workers for this job."""

    def to_wire(self) -> dict[str, int | bool]:
        """RunPod's `policy` object, in milliseconds.

        Raises:
            ConfigError: a value is outside RunPod's bounds.
        """
        wire: dict[str, int | bool] = {}
        if self.execution_timeout_seconds is not None:
            wire["executionTimeout"] = _milliseconds("execution_timeout", self.execution_timeout_seconds, MIN_EXECUTION_SECONDS)
        if self.ttl_seconds is not None:
            wire["ttl"] = _milliseconds("ttl", self.ttl_seconds, MIN_TTL_SECONDS)
        if self.low_priority:
            wire["lowPriority"] = True
        return wire


def _milliseconds(name: str, seconds: float, least_seconds: int) -> int:
    if not least_seconds <= seconds <= MAX_POLICY_SECONDS:
        raise ConfigError(f"{name}_seconds must be {least_seconds} to {MAX_POLICY_SECONDS} (7 days)")
    return round(seconds * 1000)


class Client:
    """A client of one endpoint.

    Args:
        endpoint_id: default: `GPU_WORKER_ENDPOINT_ID` of the environment.
        api_key: default: `RUNPOD_API_KEY`.
        base_url: default: `GPU_WORKER_BASE_URL`, else RunPod's.
        env: where the defaults are read from.
        timing: clock, sleep and random numbers; for tests.

    Raises:
        ConfigError: one of them is missing or cannot work.
    """

    def __init__(
        self,
        endpoint_id: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        timing: Timing | None = None,
    ) -> None:
        env = os.environ if env is None else env
        self._endpoint = Endpoint(
            endpoint_id or _required(env, "GPU_WORKER_ENDPOINT_ID", "endpoint_id"),
            api_key or _required(env, "RUNPOD_API_KEY", "api_key"),
            base_url=base_url or env.get("GPU_WORKER_BASE_URL") or DEFAULT_BASE_URL,
            timing=timing,
        )

    def __repr__(self) -> str:
        return f"Client({self._endpoint.id!r}, base_url={self._endpoint.base_url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Jobs on the endpoint go on."""
        self._endpoint.close()

    @overload
    def submit(self, task: AnsweredBy[R], *, policy: Policy | None = None, webhook: str | None = None) -> Job[R]: ...
    @overload
    def submit(
        self, task: TaskBase | Mapping[str, Any] | bytes, *, policy: Policy | None = None, webhook: str | None = None
    ) -> Job[TaskResult]: ...
    def submit(self, task: object, *, policy: Policy | None = None, webhook: str | None = None) -> Job[Any]:
        """Queues a task.

        A submit whose answer got lost is sent again only when the task has an `idempotency_key`: without one it could run, and
        cost, twice.

        Args:
            task: a typed task, or the same as a dict or as JSON text in UTF-8.
            policy: how long it may wait and run.
            webhook: URL that RunPod calls when the job has ended. The call is not signed and repeats the task, presigned URLs
                included, so give the URLs short lives.

        Raises:
            InvalidTask: the task does not fit; nothing was sent.
            ConfigError, APIConnectionError, APIError: as their names say.
        """
        return self._submit(task, policy, webhook, deadline=None)

    @overload
    def run(
        self,
        task: AnsweredBy[R],
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> R: ...
    @overload
    def run(
        self,
        task: TaskBase | Mapping[str, Any] | bytes,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> TaskResult: ...
    def run(
        self,
        task: object,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        policy: Policy | None = None,
    ) -> Any:
        """Submits, waits, and gives the typed result. When the waiting ends by an error, Ctrl-C or the timeout, the remote job
        is cancelled: nobody would take its result.

        Args:
            task: a typed task, or the same as a dict or as JSON text in UTF-8.
            timeout: seconds of wall time for the whole; None waits for ever.
            on_event: called with every `Event`.
            policy: how long the job may wait and run.

        Raises:
            JobError: the job ended without a result; its class says why.
            WaitTimeout, ConfigError, APIConnectionError, APIError: as their names say.
        """
        clock = self._endpoint.timing.clock
        deadline = None if timeout is None else clock() + timeout
        with self._submit(task, policy, None, deadline) as job:
            remaining = None if deadline is None else deadline - clock()
            for event in job.events(remaining, on_timeout="cancel"):
                if on_event is not None:
                    on_event(event)
            return job.result()

    def render(
        self,
        command: Sequence[str] | Compilable,
        inputs: Mapping[str, str],
        output_url: str,
        timeout: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        *,
        require_hardware: bool = False,
        policy: Policy | None = None,
    ) -> RenderResult:
        """Runs an FFmpeg command, as `run` does a task.

        Args:
            command: what follows `ffmpeg`, a word each; or a stream of `ffmpeg-python` or `typed-ffmpeg`.
            inputs: presigned GET by the name that the command uses.
            output_url: presigned PUT.
            timeout, on_event, policy: as of `run`.
            require_hardware: fail where the hardware encoder that is asked for is not there.

        Raises:
            TypeError: the command is no list of words.
            JobError, WaitTimeout, ConfigError, APIConnectionError, APIError: as of `run`.
        """
        params = {"command_args": command_args(command), "require_hardware": require_hardware}
        task = {"task": "render", "inputs": dict(inputs), "output_url": output_url, "params": params}
        return cast(RenderResult, self.run(task, timeout, on_event, policy=policy))

    @overload
    def job(self, job_id: str, task: type[AnsweredBy[R]]) -> Job[R]: ...
    @overload
    def job(self, job_id: str, task: str | None = None) -> Job[TaskResult]: ...
    def job(self, job_id: str, task: object = None) -> Job[Any]:
        """A handle on a job submitted earlier, here or elsewhere. Sends nothing.

        Args:
            job_id: `Job.id`.
            task: the task's model or name, so that the result is typed; None goes by the name in the result.
        """
        check_id(job_id, "job id")
        if isinstance(task, str) and task not in TASKS:
            raise ConfigError(f"task must be one of: {', '.join(TASKS)}")
        name = next((name for name, kind in TASKS.items() if task in (name, kind.request)), None)
        return Job(self._endpoint, job_id, TASKS[name].result if name else None)

    def health(self) -> dict[str, Any]:
        """Counts of jobs and workers by state, as the endpoint gives them. No worker of any state and a queue that does not
        move: the endpoint was scaled to zero."""
        return self._endpoint.health()

    def _submit(self, task: object, policy: Policy | None, webhook: str | None, deadline: float | None) -> Job[Any]:
        checked, wire = _check(task)
        body: dict[str, Any] = {"input": wire}
        if policy is not None and (limits := policy.to_wire()):
            body["policy"] = limits
        if webhook is not None:
            body["webhook"] = _check_webhook(webhook)
        answer = self._endpoint.submit(body, repeatable=checked.idempotency_key is not None, deadline=deadline)
        job_id = answer.get("id")
        if not isinstance(job_id, str):
            raise APIError("POST run: the answer names no job", status=200)
        return Job(self._endpoint, check_id(job_id, "the endpoint's job id"), TASKS[checked.task].result)


def _required(env: Mapping[str, str], variable: str, argument: str) -> str:
    value = env.get(variable, "")
    if not value:
        raise ConfigError(f"no {argument}: give it to Client(...) or set {variable}")
    return value


def _check(task: object) -> tuple[TaskBase, dict[str, Any]]:
    """The validated task, and what to send: the fields the caller set and no others, so an older worker is not bothered with
    newer fields, and a worker can tell a default from a choice."""
    given: Any = task
    if isinstance(task, TaskBase):
        given = task.model_dump(mode="json", exclude_unset=True) | {"task": task.task}
    try:
        checked = parse_task(dict(given) if isinstance(given, Mapping) else given)
    except TaskError as error:
        raise job_error(error.body()) from None
    return checked, checked.model_dump(mode="json", exclude_unset=True) | {"task": checked.task}


def _check_webhook(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("webhook is not a URL") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError("webhook must be an absolute https or http URL")
    return url
