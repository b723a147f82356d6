"""Prints a hash-pinned requirements file without what the image's base already has: torch,
torchvision and their CUDA wheels.

The pins are compiled against the CUDA 13 build of torch on the package index; the base image
carries the CUDA 12.6 build of the same version. Installing both would leave two CUDA stacks of 3 GB
each, and the one found first would decide which drivers work. Standard library only: it runs in the
image before anything is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

IN_BASE = re.compile(
    r"(torch|torchvision|triton|cuda-(bindings|pathfinder|toolkit)|nvidia-(?!ml-py\b)[a-z0-9-]+)=="
)
"""Requirements of torch that its own image satisfies. nvidia-ml-py is no CUDA library: the worker
reads GPU memory with it."""


def without_base(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a compiled requirements file, less the pins named by `IN_BASE` and the hash
    lines that belong to them."""
    dropped = False
    for line in lines:
        if not line.startswith(
            (" ", "\t")
        ):  # a hash line is indented and belongs to the pin above it
            dropped = IN_BASE.match(line) is not None
        if not dropped:
            yield line


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as source:
        sys.stdout.writelines(without_base(source))
