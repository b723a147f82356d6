"""No module of the three packages needs itself, by whatever way: imports inside functions and
under TYPE_CHECKING count as well, which import-linter passes over."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGES = {
    "gpu_worker_client": ROOT / "client",
    "gpu_worker_processors": ROOT / "processors",
    "gpu_worker": ROOT / "gpu-worker",
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for package, folder in PACKAGES.items()
        for path in (folder / package).rglob("*.py")
    }


def imported(tree: ast.AST, known: Mapping[str, object]) -> Iterator[str]:
    """The known modules that a module's text imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else node.module


def graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    return {name: {*imported(ast.parse(text), texts)} - {name} for name, text in texts.items()}


def test_there_is_no_cycle() -> None:
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    assert len(texts) > 300
    try:
        TopologicalSorter(graph(texts)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_cycle_through_a_function_is_seen() -> None:
    texts = {"p.a": "from p import b", "p.b": "def f():\n    from p.a import x", "p": ""}
    with pytest.raises(CycleError):
        TopologicalSorter(graph(texts)).prepare()
