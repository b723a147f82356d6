"""What a public host runs is what `make` runs here: workflows, pre-commit hooks, the Pythons that
the packages promise. Nothing of it is run in a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PACKAGES = ("client", "processors", "gpu-worker")


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def pythons(package: str) -> set[str]:
    text = (ROOT / package / "pyproject.toml").read_text(encoding="utf-8")
    return set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text))


def test_there_is_a_workflow_for_tests_and_one_for_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["release.yml", "test.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_targets_of_the_makefile(path: Path) -> None:
    called = [
        target
        for step in steps(path)
        for target in re.findall(r"\bmake (?:--\w+ )?(\w[\w-]*)", step.get("run", ""))
    ]
    assert called
    for target in called:
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_read_and_no_more_unless_a_job_says_so(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {
        name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job
    }
    assert allowed == (
        {}
        if path.stem == "test"
        else {
            "publish": {"id-token": "write"},
            "image": {"contents": "read", "packages": "write"},
        }
    )
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))


def test_the_matrix_is_the_pythons_that_the_packages_promise() -> None:
    promised = pythons("client")
    assert promised and all(pythons(package) == promised for package in PACKAGES)
    matrix = load(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert set(matrix["python"]) == promised
    lowest = min(promised, key=lambda version: int(version.split(".")[1]))
    for package in PACKAGES:
        text = (ROOT / package / "pyproject.toml").read_text(encoding="utf-8")
        assert f'requires-python = ">={lowest}"' in text


def test_a_release_comes_from_a_tag_and_needs_no_stored_token() -> None:
    workflow = load(ROOT / ".github/workflows/release.yml")
    # YAML 1.1 reads the key `on` as true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"secrets\.(\w+)", text)) == {"GITHUB_TOKEN"}
    assert all(workflow["jobs"][name]["needs"] == "wheels" for name in ("publish", "image"))


def test_the_packages_have_one_version() -> None:
    found = {
        re.search(r'^version = "(.*)"', (ROOT / package / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]
        for package in PACKAGES
    }
    assert len(found) == 1


def test_pre_commit_runs_the_tools_of_make_check() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert recipe is not None
    commands = re.findall(r"\t@?\$\(BIN\)/(.*)", recipe[1])
    (local,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    hooks = [hook["entry"] for hook in local["hooks"]]
    assert all(hook["language"] == "system" for hook in local["hooks"])
    assert len(hooks) >= 4
    for entry in hooks:
        tool = entry.removeprefix(".venv/bin/")
        assert tool != entry and {tool, f"{tool} ."} & set(commands), entry


@pytest.mark.parametrize(
    "path",
    [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"],
    ids=lambda path: path.name,
)
def test_every_file_of_the_host_is_yaml(path: Path) -> None:
    assert isinstance(load(path), dict)
    forms = load(path).get("body", [])
    assert all({"type", "attributes"} <= set(field) for field in forms)


def test_the_release_checklist_names_what_is_here() -> None:
    text = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([\w-]+)", text):
        assert re.search(rf"^{target}:", MAKEFILE, re.M), target
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", text):
        assert (ROOT / name).exists(), name
