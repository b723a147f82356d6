"""The keywords of a job class, sorted into its task's parameters and what every job takes. A
keyword that is neither is refused when the job is made: dropped in silence, it would be paid
for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict, cast

from gpu_worker_client.client import Client
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.files.transfer import OnEvent
from gpu_worker_client.policy import Policy
from gpu_worker_client.protocol import TASKS
from gpu_worker_client.protocol.problems import nearest
from gpu_worker_client.settings import MODES, Mode


class JobOptions(TypedDict, total=False):
    """What every job takes besides its own arguments."""

    client: Client
    """Of the endpoint, and with the bucket; default: the environment's."""
    mode: Mode
    """Where to run; default: `GPU_WORKER_MODE`, else "auto"."""
    timeout: float
    """Seconds of wall time; default: `GPU_WORKER_TIMEOUT_SECONDS`, else none."""
    on_event: OnEvent
    """Called with every event; `ProgressBar()` draws one."""
    policy: Policy
    """How long the remote job may wait and run."""
    env: Mapping[str, str]
    """Where the defaults are read from; default: the process's environment. A local run gets these
    variables besides those of the process: `WEIGHTS_DIR`, `GPU_WORKER_JOB_TIME_LIMIT_SECONDS`,
    ..."""


class Keywords(NamedTuple):
    """The keywords of one job, sorted."""

    params: dict[str, Any]
    """Of the task, not yet checked."""
    options: JobOptions


def sort_keywords(job: str, given: Mapping[str, Any], task: str | None = None) -> Keywords:
    """
    Args:
        job: the class, for messages.
        given: the keywords that the class does not name.
        task: whose parameters are taken; None takes options only.

    Raises:
        TypeError: a keyword that there is not; the message names the nearest one that there is.
        ConfigError: a mode that there is not.
    """
    options = JobOptions.__optional_keys__
    params = [] if task is None else list(TASKS[task].params.model_fields)
    for name in given:
        if name not in options and name not in params:
            raise TypeError(f"{job} takes no {name!r}.{nearest(name, [*params, *sorted(options)])}")
    if "mode" in given and given["mode"] not in MODES:
        raise ConfigError(f"mode must be one of {', '.join(MODES)}")
    return Keywords(
        {name: value for name, value in given.items() if name in params},
        cast(JobOptions, {name: value for name, value in given.items() if name in options}),
    )
