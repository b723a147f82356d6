"""Runs a handler file that ends with the process that started it: `python -m gpu_worker.platform.tied PARENT_PID HANDLER`.

A platform that is killed takes its control plane with it, and the RunPod SDK's loop would ask a dead port for jobs without a
pause for ever. On RunPod itself nobody starts this.
"""

from __future__ import annotations

import os
import runpy
import sys

from gpu_worker.sandbox.lifeline import ORPHANED_EXIT_STATUS, tie_to_parent

if __name__ == "__main__":
    parent = int(sys.argv[1])
    del sys.argv[:2]
    tie_to_parent()
    if os.getppid() != parent:
        sys.exit(ORPHANED_EXIT_STATUS)  # it was gone before this had started
    runpy.run_path(sys.argv[0], run_name="__main__")
