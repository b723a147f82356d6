"""Thin client SDK for the GPU video worker. Three verbs for a newcomer: `Client.run`,
`Client.submit`, `Client.job`; `AsyncClient` has the same.

The tasks and their results are in `gpu_worker_client.protocol`. The names here are in
`__init__.pyi`; each is loaded when first used, so importing this package costs next to nothing.
"""

from gpu_worker_client._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)  # pyright: ignore[reportUnsupportedDunderAll]
