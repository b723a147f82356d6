"""Tasks on files as objects, and whether they run on the endpoint or on this machine. The names are
in `__init__.pyi`."""

from gpu_worker_client._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)  # pyright: ignore[reportUnsupportedDunderAll]
