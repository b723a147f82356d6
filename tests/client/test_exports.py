"""The package root is a table of contents, and every name in it is there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import gpu_worker_client


def imported_for_type_checkers() -> set[str]:
    tree = ast.parse(Path(gpu_worker_client.__file__).read_text(encoding="utf-8"))
    guards = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.name
        for guard in guards
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_all_is_sorted_and_equal_to_what_type_checkers_see() -> None:
    assert gpu_worker_client.__all__ == sorted(imported_for_type_checkers())
    assert dir(gpu_worker_client) == gpu_worker_client.__all__


@pytest.mark.parametrize("name", gpu_worker_client.__all__)
def test_every_name_is_there_and_is_what_it_is_called(name: str) -> None:
    value = getattr(gpu_worker_client, name)
    if name == "Event":  # a union has no name of its own
        assert gpu_worker_client.Finished in get_args(value)
    else:
        assert value.__name__ == name


def test_the_whole_error_tree_is_public() -> None:
    from gpu_worker_client import errors
    from gpu_worker_client.protocol import errors as job_errors

    tree = {
        name
        for module in (errors, job_errors)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, errors.GpuWorkerError)
    }
    assert tree <= set(gpu_worker_client.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        gpu_worker_client.Klient  # type: ignore[attr-defined]  # noqa: B018


def test_every_name_of_the_protocol_is_there() -> None:
    from gpu_worker_client import protocol

    assert len(protocol.__all__) == len(set(protocol.__all__))
    assert all(hasattr(protocol, name) for name in protocol.__all__)


def test_a_tasks_row_has_the_names_that_type_checkers_see() -> None:
    from importlib import import_module

    from gpu_worker_client.protocol import TASKS

    for kind in TASKS.values():
        module = import_module(f"gpu_worker_client.protocol.{kind.module}")
        assert sorted(kind.public_names) == sorted(module.__all__)
