"""The error tree: the drawing is the code, and every code on the wire has its class."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from gpu_worker_client import Client, errors
from gpu_worker_client.protocol import ErrorBody, ErrorCode, TaskError
from gpu_worker_client.protocol import errors as job_errors
from gpu_worker_client.protocol.errors import JOB_ERRORS, GpuWorkerError, JobError, job_error


def drawn_tree() -> dict[str, str | None]:
    """Class -> parent, as the modules' docstrings draw it."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    drawings = f"{job_errors.__doc__}\n{errors.__doc__}"
    for line in drawings.splitlines():
        drawn = re.match(r"    ((?:[│ ]   )*[├└]── |(?=GpuWorkerError$|JobError ))([A-Z]\w+)", line)
        if drawn:
            depth = len(drawn[1]) // 4
            above = [*above[:depth], drawn[2]]
            parents[drawn[2]] = above[depth - 1] if depth else None
    return parents


def test_the_drawing_is_the_code() -> None:
    own = {
        name: kind
        for module in (errors, job_errors)
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, GpuWorkerError)
    }
    parents = {
        name: kind.__base__.__name__ if kind is not GpuWorkerError else None
        for name, kind in own.items()
    }
    assert drawn_tree() == parents
    assert len(parents) > 25


def test_every_code_has_its_class() -> None:
    assert set(JOB_ERRORS) == set(ErrorCode)
    assert JobError not in JOB_ERRORS.values()


@pytest.mark.parametrize("code", ErrorCode)
def test_a_failure_keeps_all_it_says_from_worker_to_caller(code: ErrorCode) -> None:
    told = TaskError(code, "say what to do", stage="fetch", limit=5).body().to_wire()
    body = ErrorBody.from_wire(told)
    assert body is not None
    error = job_error(body)
    assert type(error) is JOB_ERRORS[code]
    assert (error.code, error.message, error.stage) == (code.value, "say what to do", "fetch")
    assert (error.retryable, error.details, error.job) == (code.retryable, {"limit": 5}, None)
    assert str(error) == f"{code.value}: say what to do"


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigError("no key"),
        errors.APIConnectionError("refused", may_have_arrived=True, transient=False),
        errors.RateLimitError(
            "slow down", status=429, request_id="r", body="b", retry_after_seconds=3.0
        ),
        job_error(TaskError(ErrorCode.gpu_oom, "no tile fits", stage="process", tile_px=64).body()),
    ],
)
def test_an_error_crosses_a_process_pool(error: GpuWorkerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args, vars(again)) == (
        type(error),
        str(error),
        error.args,
        vars(error),
    )


def test_the_job_stays_behind() -> None:
    with Client("e", "k", "http://127.0.0.1:9") as client:
        error = errors.WaitTimeout("late", job=client.job("j"))
        assert pickle.loads(pickle.dumps(error)).job is None


def test_no_class_shadows_a_builtin() -> None:
    import builtins

    assert not set(drawn_tree()) & set(dir(builtins))
