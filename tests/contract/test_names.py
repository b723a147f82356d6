"""No file of ours hides a module of Python or of a dependency. A script's own folder comes first on
sys.path, so a file called `platform.py` would replace the standard library's for everything the
script imports."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

SCRIPT_FOLDERS = ["gpu-worker", "examples", "benchmarks", "docs"]
"""Folders whose files are run by path."""


def importable(folder: Path) -> set[str]:
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return modules | packages


def foreign_names() -> set[str]:
    ours = {"gpu_worker", "gpu_worker_client", "gpu_worker_processors"}
    return (set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())) - ours


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS)
def test_a_scripts_neighbours_hide_nothing(folder: str) -> None:
    assert not importable(ROOT / folder) & foreign_names()


def test_the_tests_folder_hides_nothing() -> None:
    """tests/ is on sys.path of every test: tests/platform must not become a package, or it would be
    `platform`."""
    assert not importable(ROOT / "tests") & foreign_names()
    assert "support" in importable(ROOT / "tests")


def test_the_roots_folders_are_no_packages() -> None:
    """With the root on sys.path, client/ would be importable as `client`; an __init__.py would even
    make it win."""
    assert importable(ROOT) == set()


def test_the_three_packages_install_one_name_each() -> None:
    for folder, name in [
        ("client", "gpu_worker_client"),
        ("processors", "gpu_worker_processors"),
        ("gpu-worker", "gpu_worker"),
    ]:
        assert importable(ROOT / folder) - {"handler"} == {name}
