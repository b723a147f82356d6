"""A processor in a process of its own: `parent.Engine` starts it, keeps it warm and kills it whole,
`child` is what it runs, in its sandbox. Local paths in, local paths out: who fetches the inputs and
delivers the outputs starts an engine."""

from __future__ import annotations
