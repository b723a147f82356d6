"""Jobs through a bucket: submitted from anywhere, worked on by any machine with a GPU that was
started by hand, imported at home. No server, no open port; docs/queue.md has the way in.

The modules, from below: `keys` and `documents` (what is in the bucket), `states`, `store` (what a
bucket must be able to do), `writes`, `lease` (the worker's side), `jobs` (the submitter's side).
"""
