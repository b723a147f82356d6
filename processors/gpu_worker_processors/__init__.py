"""Video processors: local paths in, local paths and typed results out. See ADDING.md for how to add one."""
