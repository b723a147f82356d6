"""One long video over many workers: cut between frames that do not know each other, joined again
without a loss.

Needs the extra `split` (PyAV): `pip install 'gpu-worker-client[split]'`. The names are in
`__init__.pyi`; they are loaded when first used, and PyAV with them.
"""

from importlib.util import find_spec

from gpu_worker_client._lazy import lazy_names
from gpu_worker_client.errors import ConfigError

_load, __dir__, __all__ = lazy_names(__name__, __file__)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name in __all__ and find_spec("av") is None:
        raise ConfigError("splitting needs PyAV: pip install 'gpu-worker-client[split]'")
    return _load(name)
