"""The worker processes of one local endpoint: started, replaced when a result asks for a fresh one,
ended together."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from gpu_worker.devserver.endpoint.worker_process import WorkerProcess

STOP_SECONDS = 15.0
"""Longest drain of a worker before it is killed."""

Starter = Callable[[], WorkerProcess]


class Fleet:
    """Every method may be called from any thread. After `close` nothing starts any more."""

    def __init__(self, environment: Callable[[str], Mapping[str, str]], log_dir: Path) -> None:
        self._environment = environment
        self._log_dir = log_dir
        self._numbers = count(1)
        self._workers: dict[WorkerProcess, Starter] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._closed = False

    @property
    def workers(self) -> list[WorkerProcess]:
        """The present workers, oldest first; one that ended by itself stays until it is revived."""
        with self._lock:
            return list(self._workers)

    def start(self, extra_env: Mapping[str, str] | None, handler: Path) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise RuntimeError("the platform is closed")
            worker_id = f"worker-{next(self._numbers)}"
            env = {**_inherited(), **self._environment(worker_id), **(extra_env or {})}
            argv = [sys.executable, "-u", str(handler)]
            worker = WorkerProcess(argv, env, self._log_dir / f"{worker_id}.log", worker_id)
            self._workers[worker] = lambda: self.start(extra_env, handler)
        return worker

    def revive(self) -> list[WorkerProcess]:
        """Starts a new worker for each that ended by itself; returns those that ended. What such a
        one leaves behind is killed: the SDK's heartbeat would say for ever that it works on its
        job."""
        with self._lock:
            ended = [worker for worker in self._workers if worker.poll() is not None]
            for worker in ended:
                worker.kill()
                self._workers.pop(worker)()
        return ended

    def replace_later(self, worker_id: str) -> None:
        """Ends a worker and starts a fresh one, in a thread of its own, as RunPod does after
        `refresh_worker`."""
        thread = threading.Thread(
            target=self._replace, args=(worker_id,), name=f"replace-{worker_id}", daemon=True
        )
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _replace(self, worker_id: str) -> None:
        with self._lock:
            found = [worker for worker in self._workers if worker.worker_id == worker_id]
            restart = [self._workers.pop(worker) for worker in found]
        for worker in found:
            worker.stop(STOP_SECONDS)
        with self._lock:
            for start in restart:
                if not self._closed:
                    start()

    def close(self) -> None:
        """Lets all workers drain at the same time, then kills what is left of their process
        groups."""
        with self._lock:
            self._closed = True
            threads, workers = list(self._threads), list(self._workers)
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.stop(max(0.0, deadline - time.monotonic()))
        for thread in threads:
            thread.join(STOP_SECONDS)


def _inherited() -> dict[str, str]:
    """This process's environment without RunPod's, which on a pod would point the worker at the
    real endpoint, and without a bucket, which is a client's."""
    passed = {
        name: value for name, value in os.environ.items() if not name.startswith(("RUNPOD_", "R2_"))
    }
    return {**passed, "PYTHONUNBUFFERED": "1"}
