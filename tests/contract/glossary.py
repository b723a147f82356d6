"""One word per thing: the words that this code does not use, and where it uses them all the same.

Scanned are identifiers where they are defined, names of modules and docstrings, of the three
packages, the benchmarks, the examples, docs/*.py and tests/support.

    python tests/contract/glossary.py                  counts by file
    python tests/contract/glossary.py -v client docs   every use under these folders
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "client/gpu_worker_client",
    "processors/gpu_worker_processors",
    "gpu-worker",
    "benchmarks",
    "examples",
    "docs",
    "tests/support",
)

INSTEAD = {
    "place places": "path, location, position",
    "film films": "video",
    "picture pictures": "frame, image",
    "sound sounds": "audio (noun), intact (adjective)",
    "tell tells telling told": "notify, on_event, report",
    "hear hears heard hearing": "notify, on_event, receive",
    "kept": "stored",
    "look looks looked looking": "poll, inspect",
    "further": "extra_inputs, more",
    "passing": "temporary",
    "jail jails jailed": "sandbox",
    "staged staging": "uploaded, upload",
    "elsewhere others apart misfit misfits lane lanes losses begin begun alone book books": (
        "what it is"
    ),
}
"""Words -> what to write instead. The list grows."""
CLASSES = {"came": "Outcome", "wire": "RequestModel", "reply": "ResponseModel"}
"""The same for words that stand for a thing in names of classes alone: "the wire" is the task
format, and a server's reply came in a docstring is plain English."""

ALLOWED: frozenset[str] = frozenset()
"""Names of the wire, of a library or of FFmpeg, which are not ours to change; they may stand in
docstrings between backticks."""

_INSTEAD = {word: instead for words, instead in INSTEAD.items() for word in words.split()}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
"""One word of an identifier: `HTTPReply_of` is HTTP, Reply, of."""
_CODE = re.compile(r"`([^`\n]*)`")


class Use(NamedTuple):
    """A word that has a better one."""

    path: Path
    line: int
    where: str
    """An identifier, "docstring" or "module name"."""
    word: str

    def __str__(self) -> str:
        instead = _INSTEAD.get(self.word) or CLASSES[self.word]
        return f"{self.path}:{self.line}: {self.where}: {self.word} -> {instead}"


def uses(root: Path = ROOT) -> Iterator[Use]:
    """Every use of a word of the glossary, by file and line."""
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            path = file.relative_to(root)
            for word in _words(file.stem, _INSTEAD):
                yield Use(path, 1, "module name", word)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for line, where, word in sorted(set(_in(tree))):
                yield Use(path, line, where, word)


def _in(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    for node in ast.walk(tree):
        for line, name in _defined(node):
            if name not in ALLOWED:
                known = {**_INSTEAD, **CLASSES} if isinstance(node, ast.ClassDef) else _INSTEAD
                yield from ((line, name, word) for word in _words(name, known))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                prose = _CODE.sub(lambda m: "" if m[1] in ALLOWED else m[0], text)
                for number, line in enumerate(prose.split("\n")):
                    for word in _words(line, _INSTEAD):
                        yield node.lineno + number, "docstring", word


def _defined(node: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a node gives to something."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.lineno, node.name
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.attr
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from ((node.lineno, alias.asname) for alias in node.names if alias.asname)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.lineno, node.name


def _words(text: str, known: dict[str, str]) -> list[str]:
    return [word for found in _WORD.findall(text) if (word := found.lower()) in known]


def main(arguments: list[str]) -> None:
    folders = [argument for argument in arguments if argument != "-v"]
    found = [
        use
        for use in uses()
        if not folders or any(use.path.is_relative_to(folder.rstrip("/")) for folder in folders)
    ]
    if "-v" in arguments:
        print(*found, sep="\n")
    else:
        paths = [use.path for use in found]
        for path in sorted(set(paths)):
            print(f"{paths.count(path):5} {path}")
    print(f"{len(found):5} in all")


if __name__ == "__main__":
    main(sys.argv[1:])
