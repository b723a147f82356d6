"""Limits on the sizes that an expression decides, or what comes into a filter: only FFmpeg knows
them, so FFmpeg is made to refuse them. Stated ones are checked with the command."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gpu_worker_processors.render.command import units
from gpu_worker_processors.render.command.graph import MAX_FONT_PX, Filter, stated_pixels
from gpu_worker_processors.render.command.values import Text

OWN = "size_limit"
"""Instance name of our crop, by which the log distinguishes it from a crop of the command."""
_GROWING = frozenset(
    {
        *("doubleweave", "epx", "framepack", "hqx", "hstack", "pad", "rotate", "scale", "stereo3d"),
        *("super2xsai", "tile", "v360", "vstack", "weave", "xbr", "xstack", "zscale"),
    }
)
"""Filters whose frames may be larger than what comes in. zoompan takes a checked size."""
_LIMIT = (
    ("out_w", Text("iw")),
    ("out_h", Text(f"ih+gt(iw*ih,{units.MAX_PIXELS})")),
    ("x", Text("0")),
    ("y", Text("0")),
    ("exact", Text("1")),
)
"""A crop that changes nothing up to the limit, and cannot be configured above it."""


def limited(item: Filter) -> Iterator[Filter]:
    """The filter, and behind it the limit on the pixels of a frame where it may go beyond that."""
    if item.name == "drawtext":
        yield _with_font_limit(item)
    elif item.name not in _GROWING or stated_pixels(item.name, item.options):
        yield item
    else:
        yield dataclasses.replace(item, outputs=())
        yield Filter("crop", _LIMIT, outputs=item.outputs, instance=OWN)


def _with_font_limit(item: Filter) -> Filter:
    options = dict(item.options)
    size = options["fontsize"].text(str) if "fontsize" in options else "0"
    if units.number(size) is None:  # what drawtext cannot hold is an error
        options["fontsize"] = Text(f"if(gt(st(9,{size}),{MAX_FONT_PX}),1e300,ld(9))")
    return dataclasses.replace(item, options=tuple(options.items()))
