"""What a task needs, by the six steps of processors/ADDING.md, and what of it is not there."""

from __future__ import annotations

import ast
from pathlib import Path

from support.paths import ROOT

FILES = {
    "client/gpu_worker_client/protocol/{task}.py": "{Task}Task {Task}Params {Task}Result",
    "processors/gpu_worker_processors/{task}/processor.py": "PROCESSOR",
    "processors/gpu_worker_processors/{task}/sample.py": "SAMPLE",
    "gpu-worker/gpu_worker/demo/{task}_panel.py": "PANEL",
    "benchmarks/{task}.py": "rows",
}
"""Files of a task's own -> the names that each defines. A processor's two are one folder."""
TEXTS = {
    "client/gpu_worker_client/protocol/registry.py": '    "{task}": TaskKind(',
    "client/gpu_worker_client/protocol/__init__.pyi": "import {Task}Task as {Task}Task",
    "CHANGELOG.md": "`{task}`",
}
"""Files of all tasks -> the text that stands there."""
NOT_NEEDED = {
    "processors/gpu_worker_processors/selftest/sample.py",  # it is what tries the samples
    "benchmarks/selftest.py",  # `overhead` measures it
}


def missing(task: str, root: Path = ROOT) -> list[str]:
    """What of the task is not there: paths, with the names that a file lacks."""
    names = {"task": task, "Task": task.title().replace("_", "")}
    found: list[str] = []
    for path, defined in FILES.items():
        file, wanted = path.format(**names), set(defined.format(**names).split())
        lacking = wanted - _defined(root / file)
        if lacking and file not in NOT_NEEDED:
            found.append(f"{file}: {' '.join(sorted(lacking))}")
    for file, text in TEXTS.items():
        wanted_text = text.format(**names)
        if wanted_text not in (root / file).read_text(encoding="utf-8"):
            found.append(f"{file}: {wanted_text.strip()}")
    return found


def _defined(file: Path) -> set[str]:
    """Names that a module gives to classes, functions and values."""
    if not file.is_file():
        return set()
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
