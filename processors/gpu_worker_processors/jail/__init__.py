"""Walls that an unprivileged process can raise around itself or around a program it starts: Landlock for files, seccomp for
system calls. `program` confines one foreign program; the worker's jail around a whole engine is made of the same parts."""

from __future__ import annotations
