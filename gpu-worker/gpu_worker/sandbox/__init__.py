"""The jail around every process that opens what a stranger sent. `level.apply` enters it; the other modules are its layers.

python -m gpu_worker.sandbox prints, as JSON, the level that this machine gives.
"""

from __future__ import annotations
