"""Video processors: local paths in, local paths and typed results out. See ADDING.md for how to add
one."""

__version__ = "0.1.0"
