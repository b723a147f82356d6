"""The documents say what the code does: generated ones are current, examples parse, links and
commands exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT

from gpu_worker_client.protocol import TASKS, parse_task

DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("processors/*.md"),
    ]
    if path.parent.name != "node_modules"
    and not path.parent.name.startswith(".")  # .pytest_cache brings a README of its own
)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_generate"] = module
    spec.loader.exec_module(module)
    return module


def test_generated_documents_are_current(generate: ModuleType) -> None:
    for name, render in generate.DOCUMENTS.items():
        assert (ROOT / "docs" / name).read_text() == render(), (
            f"docs/{name} is stale: run `make docs`"
        )


@pytest.mark.slow
def test_the_check_notices_a_stale_document(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(generate, "DOCS", tmp_path / "docs")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize("document", ["tasks.md", "settings.md"])
def test_every_field_says_what_it_means(document: str) -> None:
    text = (ROOT / "docs" / document).read_text()
    silent = [
        row
        for row in re.findall(r"^\| `\w+` .*\|  \|$", text, re.M)
        if not row.startswith("| `stats`")
    ]
    assert not silent, "a docstring belongs under each of these fields"


def _code_texts(tree: ast.Module) -> Iterator[ast.expr]:
    """What stands for a warning's code: in a `ResultWarning`, before its message in a tuple, or as
    the first argument of `_note`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ResultWarning":
            yield from (word.value for word in node.keywords if word.arg == "code")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_note"):
            yield from node.args[:1]
        elif isinstance(node, ast.Tuple) and node.elts and " " in ast.unparse(node.elts[-1]):
            yield from node.elts[:-1]


def test_every_code_of_a_warning_is_in_the_table() -> None:
    text = (ROOT / "docs/warnings.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \|", text, re.M)
    table = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    found = set[str]()
    for package in ("client", "processors", "gpu-worker"):
        for path in (ROOT / package).rglob("*.py"):
            if "ResultWarning(" in (source := path.read_text("utf-8")):
                found |= {_code(text) for text in _code_texts(ast.parse(source))} - {""}
    assert {code for code in found if "*" not in code} <= table
    for code in table:
        assert any(fnmatch(code, one) for one in found), f"nothing says {code}"


def _code(text: ast.expr) -> str:
    """ "hdr", and "*_dropped" of an f-string; "" of anything that is no code."""
    if isinstance(text, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "*" for part in text.values)
        name = "".join(map(str, parts))
    else:
        name = str(text.value) if isinstance(text, ast.Constant) else ""
    return name if re.fullmatch(r"[*a-z0-9]+(_[a-z0-9]+)*", name) else ""


@pytest.mark.parametrize("task", TASKS)
def test_the_example_of_each_task_parses(task: str, generate: ModuleType) -> None:
    text = (ROOT / "docs/tasks.md").read_text().split(f"\n## {task}\n")[1]
    shown = json.loads(re.findall(r"```json\n(.*?)```", text, re.S)[0])
    assert parse_task(shown).task == task


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{path.name}: no {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)(?:\w+=\S+ )?make ([a-z][a-z-]+)", path.read_text(), re.M))
    assert named <= targets, f"{path.name} names {named - targets}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_gpu_worker_commands_exist(path: Path) -> None:
    from gpu_worker.cli import COMMANDS

    named = set(re.findall(r"(?:^|`|/)gpu-worker ([a-z][a-z-]+)", path.read_text(), re.M))
    assert named <= set(COMMANDS), f"{path.name} names {named - set(COMMANDS)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_exist(path: Path) -> None:
    known = (ROOT / "docs/settings.md").read_text() + (
        ROOT / "gpu-worker/gpu_worker/settings.py"
    ).read_text()
    for name in set(re.findall(r"`(GPU_WORKER_[A-Z_]+)\b", path.read_text())):
        assert name in known, f"{path.name}: {name} is not a variable of the worker"


def test_no_private_path_in_any_document() -> None:
    """Documents travel; a path of one machine does not."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.toml", "*.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        assert not re.search(r"(?<![\w.])/(work|home|root|Users)/", (ROOT / name).read_text()), name
