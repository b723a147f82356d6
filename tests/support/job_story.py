"""Status answers of one job in the order of its life, and the events that come of them."""

from __future__ import annotations

from typing import Any

from gpu_worker_client import Client, ProgressEvent
from support.scripted_server import ScriptedServer

SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "status": "completed",
    "scenes": [{"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9}],
    "stats": {"total_scenes": 1, "avg_scene_length": 1.0},
    "a_newer_workers_field": [1],
}
QUEUED = {"id": "j", "status": "IN_QUEUE"}
RUNNING = {"id": "j", "status": "IN_PROGRESS", "delayTime": 1500}
DONE = {
    "id": "j",
    "status": "COMPLETED",
    "output": SCENES,
    "delayTime": 1500,
    "executionTime": 250,
    "workerId": "w1",
}
CANCELLED = {"id": "j", "status": "CANCELLED"}


def at(seq: int, worker: str | None = None, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {**RUNNING, "output": {"seq": seq, "stage": "process", **fields}}
    return answer if worker is None else answer | {"workerId": worker}


def story(client: Client, server: ScriptedServer, *answers: Any) -> list[str]:
    """The events of a job whose status answers are these, each in a word."""
    server.say(*answers)
    words = []
    for event in client.job("j").events():
        words.append(
            f"{event.progress.seq}" if isinstance(event, ProgressEvent) else type(event).__name__
        )
    return words
