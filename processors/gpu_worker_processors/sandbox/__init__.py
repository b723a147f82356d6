"""Walls that an unprivileged process can raise around itself or around a program it starts:
Landlock for files, seccomp for system calls. `level.apply` confines the calling process, an engine
that opens what a stranger sent; `program` confines one foreign program; the other modules are their
layers."""

from __future__ import annotations
