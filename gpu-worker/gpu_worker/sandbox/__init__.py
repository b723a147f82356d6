"""The jail around every process that opens what a stranger sent. `level.apply` enters it; the other modules are its layers."""

from __future__ import annotations
