"""The unmaintained originals (realesrgan, basicsr, gfpgan) as peer and oracle: `make reference`
installs, this imports them.

basicsr 1.4.2 asks for `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed;
the one function it takes from there is put back under that name. Benchmarks and the parity tests
both come through here.
"""

from __future__ import annotations

import sys
import types
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

_REMOVED = "torchvision.transforms.functional_tensor"


class ReferenceMissing(ImportError):
    """The reference group is not installed."""


@dataclass(frozen=True)
class Reference:
    """The classes that are compared with."""

    RealESRGANer: Any
    SRVGGNetCompact: Any
    RRDBNet: Any
    GFPGANv1Clean: Any


def load_reference() -> Reference:
    """Imports the originals.

    Raises:
        ReferenceMissing: with the command that installs them.
    """
    if any(find_spec(name) is None for name in ("realesrgan", "basicsr", "gfpgan")):
        raise ReferenceMissing(
            "run `make reference` first: realesrgan, basicsr, gfpgan are not all installed"
        )
    if _REMOVED not in sys.modules:
        from torchvision.transforms.functional import rgb_to_grayscale

        shim = types.ModuleType(_REMOVED)
        shim.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
        sys.modules[_REMOVED] = shim
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from basicsr.archs.rrdbnet_arch import RRDBNet
        from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean
        from realesrgan import RealESRGANer
        from realesrgan.archs.srvgg_arch import SRVGGNetCompact
    return Reference(RealESRGANer, SRVGGNetCompact, RRDBNet, GFPGANv1Clean)
