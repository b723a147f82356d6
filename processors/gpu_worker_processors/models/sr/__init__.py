"""Super-resolution: `load` a network by name, get a `SuperResolver` that enlarges frames.

`tiles` plans tiles, `nets` turns weights into modules, `resolver` runs them, `loader` keeps them
warm.
"""

from __future__ import annotations

from gpu_worker_processors.models.sr.loader import load
from gpu_worker_processors.models.sr.resolver import SuperResolver

__all__ = ["SuperResolver", "load"]
