"""Workers of a local platform, played by one thread, and the tasks and answers they are given."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client.protocol import DetectScenesTask, ErrorCode, TaskError
from support.hand_worker import HandWorker

STATS = {"total_scenes": 0, "avg_scene_length": 0.0}
SCENES: dict[str, Any] = {"task": "detect_scenes", "scenes": [], "stats": STATS}
RESULT_1 = json.dumps({**SCENES, "idempotency_key": "k1"}).encode()
Answer = Callable[[dict[str, Any]], dict[str, Any]]


def scenes(number: int, **fields: Any) -> DetectScenesTask:
    return DetectScenesTask(
        input_url=f"https://h/{number}.mp4?X-Amz-Signature=CANARY{number}", **fields
    )


def done(_: dict[str, Any]) -> dict[str, Any]:
    return {"output": SCENES}


def failed(code: ErrorCode) -> dict[str, Any]:
    return {"error": TaskError(code, "say what to do").body().to_wire()}


class Crew:
    """Workers played by one thread: it takes every job that comes and gives `answer`."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.answer: Answer = done
        self.took: list[dict[str, Any]] = []
        """The tasks, in the order they were taken."""
        self.hold = threading.Event()
        """While it is clear, jobs are taken and not answered."""
        self.hold.set()
        self._hand = HandWorker(platform)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Crew:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.hold.set()
        self._thread.join()

    def _work(self) -> None:
        held: list[dict[str, Any]] = []
        while not self._end.is_set():
            answer = self._hand.http.get(f"{self._hand.endpoint}/job-take/w1?gpu=local", timeout=10)
            if answer.status_code == 200:
                self.took.append(answer.json()["input"])
                held.append(answer.json())
            while held and self.hold.is_set():
                job = held.pop()
                self._hand.post(job["id"], self.answer(job["input"]))


def submits(platform: LocalPlatform) -> int:
    return sum(call.path == "run" for call in platform.control.log)
