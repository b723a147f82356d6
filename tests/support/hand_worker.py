"""A worker played by hand: it speaks to the local platform as the runpod SDK does, one request at a
call."""

from __future__ import annotations

import json
import time
from typing import Any

import requests

from gpu_worker.devserver.local import LocalPlatform

TAKE_SECONDS = 60.0
"""Longest wait for a job: on a busy machine a client comes seconds after the worker, and a job that
nobody takes would hold up a test for good."""


class HandWorker:
    """Speaks to the platform as the runpod SDK does."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.endpoint = platform.worker_url
        self.http = requests.Session()
        self.http.trust_env = False

    def take(self, worker: str = "w1") -> dict[str, Any]:
        """The next job, as soon as there is one."""
        end = time.monotonic() + TAKE_SECONDS
        while True:
            answer = self.http.get(
                f"{self.endpoint}/job-take/{worker}?gpu=local", timeout=2 * TAKE_SECONDS
            )
            if answer.status_code == 200:
                return answer.json()
            assert answer.status_code == 204 and time.monotonic() < end, answer.status_code

    def post(self, job_id: str, body: dict[str, Any], worker: str = "w1") -> int:
        url = f"{self.endpoint}/job-done/{worker}/{job_id}?gpu=local&isStream=false"
        return self.http.post(url, data=json.dumps(body), timeout=10).status_code

    def progress(self, job_id: str, seq: int, worker: str = "w1") -> int:
        return self.post(
            job_id, {"status": "IN_PROGRESS", "output": {"seq": seq, "stage": "process"}}, worker
        )
