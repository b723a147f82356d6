"""A worker played by hand: it speaks to the local platform as the runpod SDK does, one request at a
call."""

from __future__ import annotations

import json
from typing import Any

import requests

from gpu_worker.devserver.local import LocalPlatform


class HandWorker:
    """Speaks to the platform as the runpod SDK does."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.endpoint = platform.worker_url
        self.http = requests.Session()
        self.http.trust_env = False

    def take(self, worker: str = "w1") -> dict[str, Any]:
        answer = self.http.get(f"{self.endpoint}/job-take/{worker}?gpu=local", timeout=10)
        assert answer.status_code == 200
        return answer.json()

    def post(self, job_id: str, body: dict[str, Any], worker: str = "w1") -> int:
        url = f"{self.endpoint}/job-done/{worker}/{job_id}?gpu=local&isStream=false"
        return self.http.post(url, data=json.dumps(body), timeout=10).status_code

    def progress(self, job_id: str, seq: int, worker: str = "w1") -> int:
        return self.post(
            job_id, {"status": "IN_PROGRESS", "output": {"seq": seq, "stage": "process"}}, worker
        )
