"""Names of a package that are loaded when first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module


def loader(package: str, names: Sequence[str], homes: Sequence[str]) -> Callable[[str], object]:
    """A `__getattr__` for a package's module.

    Args:
        package: its `__name__`.
        names: what it offers, its `__all__`.
        homes: the modules in it that hold these, in the order in which they are looked through and
            so imported.
    """

    def load(name: str) -> object:
        if name in names:
            for home in homes:
                module = import_module(f"{package}.{home}")
                if hasattr(module, name):
                    value = getattr(module, name)
                    setattr(sys.modules[package], name, value)
                    return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load
