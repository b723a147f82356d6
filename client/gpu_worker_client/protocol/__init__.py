"""The wire: every task, parameter, result and error, declared once. Client, processors and worker
all import it.

A name's module is loaded when the name is first used: a client needs the models of one task, and
pydantic takes half a millisecond a model. The names are in `__init__.pyi`.
"""

from gpu_worker_client._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)  # pyright: ignore[reportUnsupportedDunderAll]
