"""The package root is a table of contents, and every name in it is there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import gpu_worker_client
from gpu_worker_client import filejobs, protocol, split


def offered_to_type_checkers(package: ModuleType) -> set[str]:
    """Names that the package's stub offers on: `from m import A as A`, nothing else."""
    stub = ast.parse(Path(str(package.__file__)).with_suffix(".pyi").read_text(encoding="utf-8"))
    assert all(isinstance(node, ast.ImportFrom) for node in stub.body)
    aliases = [alias for node in stub.body for alias in getattr(node, "names", ())]
    assert all(alias.name == alias.asname for alias in aliases)
    return {alias.name for alias in aliases}


@pytest.mark.parametrize(
    "package", [gpu_worker_client, filejobs, protocol, split], ids=lambda each: each.__name__
)
def test_all_is_sorted_and_equal_to_what_type_checkers_see(package: ModuleType) -> None:
    assert vars(package)["__all__"] == sorted(offered_to_type_checkers(package))
    assert dir(package) == vars(package)["__all__"]


@pytest.mark.parametrize("name", dir(gpu_worker_client))
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
    assert tree <= set(dir(gpu_worker_client))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Klient'"):
        gpu_worker_client.Klient  # type: ignore[attr-defined]  # noqa: B018


def test_every_name_of_the_protocol_is_there() -> None:
    assert all(hasattr(protocol, name) for name in dir(protocol))


@pytest.mark.parametrize("kind", protocol.TASKS.values(), ids=protocol.TASKS)
def test_the_models_of_a_task_are_public(kind: protocol.TaskKind) -> None:
    module = import_module(f"gpu_worker_client.protocol.{kind.module}")
    models = {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    assert {each.__name__ for each in (kind.request, kind.params, kind.result)} <= models
    assert models <= set(dir(protocol))
