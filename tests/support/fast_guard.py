"""What keeps the fast tests fast: nothing heavy is imported and no process starts."""

from __future__ import annotations

import sys

HEAVY = frozenset({"torch", "torchvision", "av", "cv2", "ultralytics", "spandrel", "scenedetect"})
PROCESS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})


def forbid_heavy_work() -> None:
    """From here on this process fails where it imports one of `HEAVY` or starts another process.
    The failure is no ImportError, so that no code takes it for a missing extra."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event in PROCESS:
            raise RuntimeError(f"a fast test starts a process ({event})")
        if event == "import" and str(arguments[0]) in HEAVY:
            raise RuntimeError(f"a fast test imports {arguments[0]}")

    sys.addaudithook(refuse)
