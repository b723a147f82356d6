"""One worker process under the local platform: its own process group, its output in a file, ended
within a bound."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gpu_worker.devserver.store import private_files

LOG_TAIL_CHARS = 4000


class WorkerProcess:
    """Starts `argv` at once. `stop` is how a platform ends a pod, `kill` is how a machine dies."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], log_path: Path, worker_id: str
    ) -> None:
        self.worker_id = worker_id
        self.log_path = log_path
        with private_files.create(log_path) as log:
            self._process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_seconds: float) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_seconds)

    def terminate(self) -> None:
        """Sends SIGTERM to the worker itself and returns at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, grace_seconds: float = 15.0) -> int:
        """SIGTERM, up to `grace_seconds` to drain, then SIGKILL to whatever is left of the group.
        Returns the exit code."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the whole group, the heartbeat process included."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def log_tail(self) -> str:
        return self.log()[-LOG_TAIL_CHARS:]
