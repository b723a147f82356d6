"""The examples and the README's program are run as they stand, against the local platform with a
worker played by hand."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from support.hand_worker import HandWorker
from support.paths import ROOT
from support.scripted_server import unused_port
from urllib3.util import Retry

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client.protocol import (
    ErrorCode,
    RenderResult,
    RenderStats,
    TaskError,
    Track,
    TrackBox,
    TrackFrames,
    TrackResult,
    TrackStats,
    TrackVideo,
)

IN, OUT = "https://h/in.mp4?sig=1", "https://h/out.mp4?sig=2"
SCENES: dict[str, Any] = {
    "task": "detect_scenes",
    "scenes": [
        {"start_frame": 0, "end_frame": 9, "start_time": 0.0, "end_time": 0.9},
        {"start_frame": 10, "end_frame": 19, "start_time": 1.0, "end_time": 1.9},
    ],
    "stats": {"total_scenes": 2, "avg_scene_length": 1.0},
}
UPSCALED: dict[str, Any] = {
    "task": "upscale",
    "output_url": "https://h/out.mp4",
    "stats": {
        "input_resolution": "64x48",
        "output_resolution": "128x96",
        "frames_processed": 12,
        "fps": 3.5,
        "denoise": "none",
        "tiles": 1,
    },
}


@pytest.fixture
def platform() -> Iterator[LocalPlatform]:
    with LocalPlatform(poll_seconds=60) as platform:
        yield platform


def start(platform: LocalPlatform, *argv: str, **env: str) -> subprocess.Popen[str]:
    whole = {
        **os.environ,
        "GPU_WORKER_ENDPOINT_ID": platform.endpoint_id,
        "RUNPOD_API_KEY": platform.api_key,
        "GPU_WORKER_BASE_URL": platform.base_url,
        "PYTHONPATH": "",
        **env,
    }
    return subprocess.Popen(
        [sys.executable, *argv],
        env=whole,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def serve(platform: LocalPlatform, *answers: dict[str, Any]) -> list[Any]:
    """Takes one job for each answer; gives the tasks that came."""
    worker = HandWorker(platform)
    tasks = []
    with worker.http:
        for answer in answers:
            job = worker.take()
            tasks.append(job["input"])
            worker.post(job["id"], answer)
    return tasks


def readme_program(heading: str) -> str:
    """The first program below a heading of the README."""
    section = (ROOT / "client/README.md").read_text(encoding="utf-8").split(f"{heading}\n", 1)[1]
    program = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert program is not None
    return program[1]


def test_the_readmes_tracks(platform: LocalPlatform, tmp_path: Path) -> None:
    program = readme_program("## Tracks")
    boxes = (TrackBox(frame=frame, bbox=(1, 2, 11, 22), confidence=0.9) for frame in (5, 6))
    track = Track(track_id=1, class_name="person", shot=0, frames=TrackFrames(boxes))
    video = TrackVideo(width=64, height=48, fps=10.0)
    answer = TrackResult(
        tracks=[track], video=video, stats=TrackStats(total_frames=9, unique_tracks=1, boxes=2)
    ).packed()
    head = (
        f"import os\nos.chdir({str(tmp_path)!r})\nfrom gpu_worker_client import Client\nclient,"
        f" INPUT_URL = Client(), {IN!r}\n"
    )
    with start(platform, "-c", head + program) as running:
        (task,) = serve(platform, {"output": answer.model_dump(mode="json")})
        out, notes = running.communicate(timeout=60)
    assert (task["task"], task["params"]) == ("track", {"classes": ["person"]})
    assert running.returncode == 0, notes
    assert out == "1 person 0 2 0.5 (1.0, 2.0, 11.0, 22.0)\n"
    assert (tmp_path / "tracks.txt").read_text().startswith("6,1,1.0,2.0,10.0,20.0,0.9,")


def test_the_readmes_program(platform: LocalPlatform) -> None:
    program = readme_program("# gpu-worker-client")
    assert len([line for line in program.splitlines() if line]) <= 8
    with start(platform, "-c", f"INPUT_URL = {IN!r}\n{program}") as running:
        (task,) = serve(platform, {"output": SCENES})
        out, notes = running.communicate(timeout=60)
    assert task == {"task": "detect_scenes", "input_url": IN}
    assert running.returncode == 0, notes
    assert out.splitlines()[-2:] == ["0.000 s to 0.900 s", "1.000 s to 1.900 s"]
    assert "Finished" in out


def test_the_readmes_render(platform: LocalPlatform) -> None:
    program = readme_program("## Render")
    stats = RenderStats(encoder_used="libx265", fallback_reason="hevc_nvenc: no GPU")
    head = (
        f"from gpu_worker_client import Client\nclient, INPUT_URL, OUTPUT_URL = Client(), {IN!r},"
        f" {OUT!r}\n"
    )
    with start(platform, "-c", head + program) as running:
        (task,) = serve(platform, {"output": RenderResult(stats=stats).model_dump(mode="json")})
        out, notes = running.communicate(timeout=60)
    assert (task["task"], task["inputs"], task["output_url"]) == ("render", {"game.mp4": IN}, OUT)
    assert task["params"]["command_args"][-1] == "clip.mp4"
    assert running.returncode == 0, notes
    assert out == "libx265 hevc_nvenc: no GPU\n"


def test_detect_scenes(platform: LocalPlatform) -> None:
    with start(platform, str(ROOT / "examples/detect_scenes.py"), INPUT_URL=IN) as running:
        (task,) = serve(platform, {"output": SCENES})
        out, notes = running.communicate(timeout=60)
    assert task["params"] == {"min_scene_length": 0.5}
    assert running.returncode == 0, notes
    assert out.splitlines()[1] == "scene 2: 1.000 s to 1.900 s, frames 10-19"


def test_submit_upscale_tries_once_more_when_that_can_help(platform: LocalPlatform) -> None:
    env = {"INPUT_URL": IN, "OUTPUT_URL": OUT, "MODEL": "realesr-animevideov3", "SCALE": "2"}
    with start(platform, str(ROOT / "examples/submit_upscale.py"), **env) as running:
        failure = TaskError(ErrorCode.storage_unavailable, "503").body().to_wire()
        tasks = serve(platform, {"error": failure}, {"output": UPSCALED})
        out, notes = running.communicate(timeout=60)
    params = {"model": "realesr-animevideov3", "scale": 2.0}
    assert tasks == [{"task": "upscale", "input_url": IN, "output_url": OUT, "params": params}] * 2
    assert running.returncode == 0, notes
    assert out.splitlines() == ["64x48 -> 128x96, 12 frames, 3.50 frames/s", "https://h/out.mp4"]
    assert "storage_unavailable, once more" in notes


def test_an_example_says_why_it_failed(platform: LocalPlatform) -> None:
    env = {"INPUT_URL": IN, "OUTPUT_URL": OUT, "MODEL": "waifu"}
    with start(platform, str(ROOT / "examples/submit_upscale.py"), **env) as running:
        out, notes = running.communicate(timeout=60)
    assert (running.returncode, out) == (1, "")
    assert "invalid_task: params.model: Input should be 'RealESRGAN_x4plus'" in notes


def test_walkthrough(platform: LocalPlatform) -> None:
    missing = TaskError(ErrorCode.input_not_found, "no such object", stage="fetch").body().to_wire()
    with start(platform, str(ROOT / "examples/walkthrough.py"), INPUT_URL=IN) as running:
        worker = HandWorker(platform)
        with worker.http:
            for _ in range(4):
                job = worker.take()
                worker.post(
                    job["id"],
                    {"error": missing}
                    if "missing" in job["input"]["input_url"]
                    else {"output": SCENES},
                )
        out, notes = running.communicate(timeout=60)
    assert running.returncode == 0, notes
    lines = out.splitlines()
    assert lines[0].endswith("queue: 0")
    assert lines[1] == "[{'path': 'threshold', 'problem': 'Input should be greater than 0'}]"
    assert lines[-4:-2] == ["Finished", "2 scenes"]
    assert sorted(lines[-2:]) == ["0 2", "1 input_not_found: no such object"]


def event(job_id: str, kind: str = "job.completed") -> bytes:
    data = {
        "job_id": job_id,
        "task": "upscale",
        "state": "completed",
        "idempotency_key": "e7",
        "result": UPSCALED,
        "partial": False,
    }
    now = datetime.now(timezone.utc).isoformat()
    return json.dumps({"type": kind, "timestamp": now, "data": data}).encode()


def hook(
    http: requests.Session, url: str, key: bytes, signed: bytes, sent: bytes | None = None
) -> requests.Response:
    """Posts an event whose signature is of `signed`."""
    stamp = str(int(datetime.now(timezone.utc).timestamp()))
    digest = hmac.digest(key, b".".join([b"msg_1", stamp.encode(), signed]), "sha256")
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    return http.post(f"{url}/hooks/gpu", data=sent or signed, headers=headers, timeout=30)


@pytest.mark.slow
def test_fastapi_backend(platform: LocalPlatform) -> None:
    """examples/fastapi_backend.py under a real server; the webhook's signature is made here, by the
    specification alone."""
    key, port = b"0123456789abcdef0123456789abcdef", unused_port()
    secret = "whsec_" + base64.b64encode(key).decode()
    gate = platform.gate
    env = {
        "WEBHOOK_URL": "https://backend.example/hooks/gpu",
        "WEBHOOK_SECRET": secret,
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
    }
    argv = [
        "-m",
        "uvicorn",
        "--app-dir",
        str(ROOT / "examples"),
        "fastapi_backend:app",
        "--port",
        str(port),
    ]
    with start(platform, *argv, **env) as backend, requests.Session() as http:
        try:
            http.mount(
                "http://", HTTPAdapter(max_retries=Retry(connect=20, backoff_factor=0.1))
            )  # until it listens
            url, query = f"http://127.0.0.1:{port}", {"input_url": IN, "output_url": OUT}
            job_id = http.post(f"{url}/exports/e7", params=query, timeout=30).json()["job"]
            (task,) = serve(platform, {"output": UPSCALED})
            assert task["idempotency_key"] == "e7" and task["webhook_url"] == env["WEBHOOK_URL"]
            assert requests.put(task["result_url"], b"{}", timeout=30).ok
            assert requests.get(task["result_get_url"], timeout=30).json() == {}
            assert http.get(f"{url}/exports/e8", timeout=30).status_code == 404
            assert http.get(f"{url}/exports/e7", timeout=30).json() == {"state": "queued"}

            assert hook(http, url, key, event("another-job")).status_code == 503
            forged = hook(http, url, key, event(job_id), sent=event(job_id, "job.failed"))
            assert forged.status_code == 400
            assert http.get(f"{url}/exports/e7", timeout=30).json() == {"state": "queued"}
            assert hook(http, url, key, event(job_id)).status_code == 204
            assert http.get(f"{url}/exports/e7", timeout=30).json() == {"state": "completed"}
        finally:
            backend.terminate()
            backend.communicate(timeout=30)


def test_every_example_is_tested_here() -> None:
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    tested = set(re.findall(r"examples/(\w+)\.py", Path(__file__).read_text(encoding="utf-8")))
    assert examples and examples == tested
