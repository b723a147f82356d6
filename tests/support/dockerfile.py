"""A small reader of Dockerfiles and .dockerignore: as much of both as ours use, to check the image
without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Instruction:
    word: str
    """Upper case: "FROM", "RUN"."""
    text: str
    stage: str
    """Name after `AS`; "" before the first FROM."""


def read(path: Path) -> list[Instruction]:
    """The instructions in order, continuation lines joined, comments dropped."""
    lines = [
        line
        for line in path.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    stage, found = "", list[Instruction]()
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, text = line.partition(" ")
        if word == "FROM":
            stage = text.split(" AS ")[-1] if " AS " in text else text
        found.append(Instruction(word.upper(), text.strip(), stage))
    return found


def ignored(path: str, rules: list[str]) -> bool:
    """Whether .dockerignore leaves the file out. The last rule that matches it, or a folder above
    it, decides."""
    out = False
    for rule in rules:
        pattern = rule.removeprefix("!").strip("/")
        if any(
            _matches(str(parent), pattern)
            for parent in [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
        ):
            out = not rule.startswith("!")
    return out


def rules(path: Path) -> list[str]:
    return [
        line.strip()
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]


def _matches(path: str, pattern: str) -> bool:
    expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(expression, path) is not None
