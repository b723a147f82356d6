"""Public names of a package, whose modules are loaded when a name is first used.

They stand in the `__init__.pyi` beside the package's `__init__.py`, and nowhere else: type checkers
read that file, and so does `lazy_names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

_OFFERED = re.compile(r"^from (\S+) import (\w+) as \2$", re.MULTILINE)


def lazy_names(
    package: str, init: str
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package (PEP 562), from its `__name__` and
    `__file__`."""
    stub = Path(init).with_suffix(".pyi").read_text(encoding="utf-8")
    modules = {name: module for module, name in _OFFERED.findall(stub)}
    names = sorted(modules)

    def getattr_(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return getattr_, lambda: names, names
