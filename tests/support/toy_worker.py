"""A worker whose requests are a worker's and whose work is a toy: it turns the bytes of its inputs
around."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import requests

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import Storage
from gpu_worker_client.protocol import OutputMultipart
from support.hand_worker import HandWorker

PAYLOAD_BYTES = 6000
"""The most that the platform of the files' tests takes in an answer."""
STATS: dict[str, dict[str, Any]] = {
    "upscale": {
        "input_resolution": "2x2",
        "output_resolution": "8x8",
        "frames_processed": 1,
        "fps": 1.0,
        "denoise": "none",
        "tiles": 1,
    },
    "detect_scenes": {"total_scenes": 0, "avg_scene_length": 0.0},
    "track": {"total_frames": 1, "unique_tracks": 0},
    "beat": {"beats": 0},
    "render": {"encoder_used": "libx264"},
}


class ToyWorker:
    """Serves jobs as the real one does over HTTP, each `serve` in a thread of its own."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.hands = HandWorker(platform)
        self.platform = platform
        self.tasks: list[dict[str, Any]] = []
        self.worked = 0
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda whole: {"output": whole}
        """What is posted, given the whole result."""
        self.make: Callable[[bytes], bytes] = lambda data: data[::-1]
        """The output, given the inputs."""

    def serve(self, jobs: int = 1) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: [self._serve_one() for _ in range(jobs)], daemon=True
        )
        thread.start()
        return thread

    def _serve_one(self) -> None:
        job = self.hands.take()
        task = job["input"]
        self.tasks.append(task)
        self.hands.post(job["id"], self._earlier(task) or self.answer(self._work(task)))

    def _earlier(self, task: dict[str, Any]) -> dict[str, Any] | None:
        found = (
            requests.get(task["result_get_url"], timeout=10) if "result_get_url" in task else None
        )
        return (
            {"output": found.json() | {"deduplicated": True}}
            if found is not None and found.ok
            else None
        )

    def _work(self, task: dict[str, Any]) -> dict[str, Any]:
        self.worked += 1
        urls = [task["input_url"]] if "input_url" in task else list(task["inputs"].values())
        data = self.make(b"".join(requests.get(url, timeout=10).content for url in urls))
        result: dict[str, Any] = {"task": task["task"], "stats": STATS[task["task"]]}
        if "output_url" in task:
            requests.put(task["output_url"], data=data, timeout=10).raise_for_status()
        if "output_multipart" in task:
            plan = OutputMultipart.model_validate(task["output_multipart"])
            sent = requests.put(plan.parts[0].url, data=data, timeout=10)
            result["output_parts"] = [{"n": 1, "etag": sent.headers["ETag"]}]
        if "result_url" in task:
            result["idempotency_key"] = task["idempotency_key"]
            requests.put(task["result_url"], json=result, timeout=10).raise_for_status()
        return result


def storage_of(platform: LocalPlatform, **options: Any) -> Storage:
    """The platform's bucket, as its owner has it."""
    keys = platform.gate.credentials
    return Storage(
        platform.gate.base_url, platform.gate.bucket, keys.access_key, keys.secret_key, **options
    )


def inputs_in(platform: LocalPlatform) -> list[str]:
    keys = platform.gate.keys()
    return [key for key in keys if key.startswith("gpu-worker/in/")]
