"""The unmaintained originals as an oracle, loaded through the one module that knows how:
`benchmarks/reference.py`."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest

from support.paths import ROOT


@lru_cache(maxsize=1)
def _module() -> Any:
    path = ROOT / "benchmarks" / "reference.py"
    spec = spec_from_file_location("gpu_worker_reference", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def reference() -> Any:
    """Their classes; skips the test where `make reference` was not run."""
    module = _module()
    try:
        return module.load_reference()
    except module.ReferenceMissing as error:
        pytest.skip(str(error))
