"""`Client` and `AsyncClient`, `Job` and `AsyncJob`: the same names, and the same arguments in every
way to call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from gpu_worker_client import AsyncClient, AsyncJob, Client, Job
from gpu_worker_client.split import split_upscale, split_upscale_async

NAMES = [
    name for name in dir(Client) if not name.startswith("_") and callable(getattr(Client, name))
]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def arguments(call: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """Name, kind, type and default of every argument but `self`."""
    given = list(inspect.signature(call).parameters.values())[1:]
    return [(one.name, one.kind, str(one.annotation), one.default) for one in given]


def test_both_clients_have_the_same_names() -> None:
    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"}
    assert public(AsyncJob) == public(Job)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "close"])
def test_both_take_the_same_arguments(name: str) -> None:
    blocking, awaitable = getattr(Client, name), getattr(AsyncClient, name)
    assert arguments(blocking) == arguments(awaitable)


def test_both_splits_take_the_same_arguments() -> None:
    assert arguments(split_upscale) == arguments(split_upscale_async)
    assert len(arguments(split_upscale)) > 10


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same_of_a_call(name: str) -> None:
    awaitable = getattr(AsyncClient, "aclose" if name == "close" else name)
    assert awaitable.__doc__ and getattr(Client, name).__doc__ == awaitable.__doc__


@pytest.mark.parametrize("name", ["status", "events", "wait", "result", "cancel"])
def test_both_say_the_same_of_a_call_on_a_job(name: str) -> None:
    assert arguments(getattr(Job, name)) == arguments(getattr(AsyncJob, name))
    assert getattr(Job, name).__doc__ == getattr(AsyncJob, name).__doc__ is not None
