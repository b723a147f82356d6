"""The HTTP surface of the control plane: what callers and RunPod's own client SDK see. A
hand-driven worker answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from gpu_worker.devserver import Fault, LocalPlatform, ManualClock, PlatformLimits
from gpu_worker.runpod_sdk import runpod


class Api:
    """Plain HTTP calls as a caller (`get`, `post`) and as a worker (`take`, `done`)."""

    def __init__(self, platform: LocalPlatform) -> None:
        self.base = f"{platform.base_url}/{platform.endpoint_id}"
        self.worker = platform.worker_url
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {platform.api_key}"

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"{self.base}/{path}", timeout=20)

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self.session.post(f"{self.base}/{path}", json=body, timeout=20)

    def take(self, query: str = "") -> requests.Response:
        return requests.get(f"{self.worker}/job-take{query}", timeout=20)

    def done(self, job_id: str, body: Any) -> requests.Response:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return requests.post(
            f"{self.worker}/job-done/w1/{job_id}?gpu=x&isStream=false",
            data=data,
            headers=headers,
            timeout=20,
        )

    def run_and_take(self, **fields: Any) -> str:
        job_id = self.post("run", {"input": {"n": 1}, **fields}).json()["id"]
        assert self.take("/w1?gpu=x&job_in_progress=0").json()["id"] == job_id
        return str(job_id)


@pytest.fixture
def api(platform: LocalPlatform) -> Api:
    return Api(platform)


def test_run_status_and_result(api: Api) -> None:
    answer = api.post("run", {"input": {"n": 1}})
    assert answer.status_code == 200
    job_id = answer.json()["id"]
    assert answer.json() == {"id": job_id, "status": "IN_QUEUE"}
    assert api.take("/w1?gpu=x&job_in_progress=0").json() == {"id": job_id, "input": {"n": 1}}
    assert api.get(f"status/{job_id}").json()["status"] == "IN_PROGRESS"
    assert api.done(job_id, {"output": {"ü": 1}}).status_code == 200
    shown = api.get(f"status/{job_id}").json()
    assert (shown["status"], shown["output"]) == ("COMPLETED", {"ü": 1})


def test_an_empty_queue_answers_204_after_the_poll(api: Api) -> None:
    assert api.take("/w1?gpu=x&job_in_progress=0").status_code == 204
    assert requests.get(f"{api.worker}/job-stop/w1?gpu=x", timeout=20).status_code == 204


def test_a_job_is_not_given_to_a_worker_that_has_gone() -> None:
    with LocalPlatform(poll_seconds=20) as patient:
        url = urlsplit(f"{patient.worker_url}/job-take/gone?gpu=x")
        host, _, port = url.netloc.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as gone:
            gone.sendall(
                f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
            )
            assert patient.wait_until(
                lambda: True if "gone" in patient.control.hub.queue.ready_workers else None
            )
        other = Api(patient)
        job_id = other.post("run", {"input": 1}).json()["id"]
        assert other.take("/w1?gpu=x").json()["id"] == job_id
        assert patient.job(job_id).deliveries == 1


def test_a_batch_is_a_list(api: Api) -> None:
    ids = [api.post("run", {"input": n}).json()["id"] for n in (1, 2, 3)]
    batch = api.take("-batch/w1?gpu=x&batch_size=2&job_in_progress=0").json()
    assert [job["id"] for job in batch] == ids[:2]


@pytest.mark.parametrize("header", [None, "Bearer wrong", "{key}", "Basic {key}"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "run"), ("GET", "status/x"), ("GET", "health"), ("POST", "purge-queue")],
)
def test_a_wrong_key_is_401(
    platform: LocalPlatform, header: str | None, method: str, path: str
) -> None:
    headers = {"Authorization": header.format(key=platform.api_key)} if header else {}
    url = f"{platform.base_url}/{platform.endpoint_id}/{path}"
    response = requests.request(method, url, headers=headers, json={"input": 1}, timeout=20)
    assert response.status_code == 401


@pytest.mark.parametrize("prefix", ["", "/wrong", "/{api_key}", "/%FF"])
def test_whoever_has_not_the_workers_key_is_no_worker(
    platform: LocalPlatform, api: Api, prefix: str
) -> None:
    job_id = api.run_and_take()
    waiting = api.post("run", {"input": {"n": 2}}).json()["id"]
    base = api.base + prefix.format(api_key=platform.api_key)
    asked = [
        ("GET", path)
        for path in ("job-take/w1", "job-take-batch/w1?batch_size=9", "job-stop/w1", "ping/w1")
    ]
    asked += [("POST", f"job-done/w1/{job_id}"), ("POST", f"job-stream/w1/{job_id}")]
    answers = [
        api.session.request(method, f"{base}/{path}", data=b'{"output": 1}', timeout=20)
        for method, path in asked
    ]
    assert [answer.status_code for answer in answers] == [404] * 6
    assert [api.get(f"status/{name}").json()["status"] for name in (job_id, waiting)] == [
        "IN_PROGRESS",
        "IN_QUEUE",
    ]


def test_unknown_things_are_404(platform: LocalPlatform, api: Api) -> None:
    answers = [
        api.get("status/nope"),
        api.get("stream/nope"),
        api.post("cancel/nope"),
        api.post("retry/nope"),
    ]
    answers += [
        api.done("nope", {}),
        api.post("nonsense"),
        api.session.get(f"{platform.base_url}/other/health"),
    ]
    assert [answer.status_code for answer in answers] == [404] * 7


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"input": null}',
        b'{"input": 1, "policy": {"ttl": 1}}',
        b'{"input": 1, "policy": 1}',
        b'{"input": 1, "webhook": 1}',
        b"[" * 100_000,
    ],
)
def test_a_body_without_input_is_400(api: Api, body: bytes) -> None:
    response = api.session.post(f"{api.base}/run", data=body, timeout=20)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def test_falsy_inputs_are_inputs(api: Api) -> None:
    assert [api.post("run", {"input": value}).status_code for value in ({}, "", 0, False)] == [
        200
    ] * 4


def test_payload_limits() -> None:
    limits = PlatformLimits(run_payload_bytes=1000, runsync_payload_bytes=2000)
    with LocalPlatform(limits=limits, poll_seconds=0.2) as platform:
        api = Api(platform)

        def body(total: int) -> bytes:
            return b'{"input": "' + b"x" * (total - 13) + b'"}'

        def post(operation: str, data: Any) -> int:
            return api.session.post(
                f"{api.base}/{operation}?wait=1000", data=data, timeout=20
            ).status_code

        assert [
            post("run", body(1000)),
            post("run", body(1001)),
            post("run", iter([body(1001)])),
        ] == [200, 413, 413]
        assert [post("runsync", body(2000)), post("runsync", body(2001))] == [200, 413]


def test_a_result_over_the_limit_is_refused_and_the_job_completes_without_output() -> None:
    with LocalPlatform(limits=PlatformLimits(run_payload_bytes=1000), poll_seconds=0.5) as platform:
        api = Api(platform)
        job_id = api.run_and_take()
        assert api.done(job_id, {"output": "x" * 1000}).status_code == 400
        shown = api.get(f"status/{job_id}").json()
        assert shown["status"] == "COMPLETED"
        assert "output" not in shown
        assert "result_refused" in platform.job(job_id).history


def test_a_broken_result_changes_nothing(api: Api) -> None:
    job_id = api.run_and_take()
    assert [api.done(job_id, body).status_code for body in (b"no json", b"[1]")] == [400, 400]
    assert api.get(f"status/{job_id}").json()["status"] == "IN_PROGRESS"


def test_runsync_answers_with_the_result(api: Api, platform: LocalPlatform) -> None:
    def work() -> None:
        job = platform.wait_until(lambda: next(iter(platform.control.hub.queue.jobs), None), 10)
        assert api.take("/w1?gpu=x").json()["id"] == job
        api.done(str(job), {"output": 7})

    thread = threading.Thread(target=work)
    thread.start()
    answer = api.post("runsync?wait=20000", {"input": 1}).json()
    thread.join()
    assert (answer["status"], answer["output"]) == ("COMPLETED", 7)


def test_runsync_gives_up_waiting_and_the_job_goes_on() -> None:
    with LocalPlatform(limits=PlatformLimits(runsync_wait_range_seconds=(0.01, 300))) as platform:
        api = Api(platform)
        answer = api.post("runsync?wait=10", {"input": 1}).json()
        assert answer["status"] == "IN_QUEUE"
        assert api.take("/w1?gpu=x").json()["id"] == answer["id"]


def test_cancel_is_told_to_the_worker(api: Api) -> None:
    job_id = api.run_and_take()
    assert api.post(f"cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
    assert requests.get(f"{api.worker}/job-stop/w1?gpu=x", timeout=20).json() == {
        "jobsToStop": [job_id]
    }


def test_retry_purge_and_health(api: Api) -> None:
    job_id = api.run_and_take()
    assert api.post(f"retry/{job_id}").status_code == 400
    api.done(job_id, {"error": "boom"})
    assert api.get(f"status/{job_id}").json()["error"] == "boom"
    assert api.post(f"retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    assert api.get("health").json()["jobs"]["inQueue"] == 1
    assert api.post("purge-queue").json() == {"removed": 1, "status": "completed"}
    assert api.get("health").json()["jobs"]["inQueue"] == 0


def test_stream_gives_chunks_once(api: Api) -> None:
    job_id = api.run_and_take()
    requests.post(
        f"{api.worker}/job-stream/w1/{job_id}?gpu=x&isStream=false",
        data=b'{"output": "a"}',
        timeout=20,
    )
    assert api.get(f"stream/{job_id}").json() == {
        "status": "IN_PROGRESS",
        "stream": [{"output": "a"}],
    }
    api.done(job_id, {"output": []})
    assert api.post(f"stream/{job_id}").json() == {"status": "COMPLETED", "stream": []}


def test_time_makes_a_job_time_out_and_its_result_vanish(api: Api, clock: ManualClock) -> None:
    job_id = api.run_and_take(policy={"executionTimeout": 5000})
    clock.advance(6)
    assert api.get(f"status/{job_id}").json()["status"] == "TIMED_OUT"
    clock.advance(1801)
    assert api.get(f"status/{job_id}").status_code == 404


def test_rate_limits_are_off_unless_asked_for(api: Api, clock: ManualClock) -> None:
    assert [api.post("purge-queue").status_code for _ in range(3)] == [200, 200, 200]
    with LocalPlatform(limits=PlatformLimits(rate_limited=True), clock=clock) as platform:
        limited = Api(platform)
        assert [limited.post("purge-queue").status_code for _ in range(3)] == [200, 200, 429]
        clock.advance(10)
        assert limited.post("purge-queue").status_code == 200


def test_faults_of_the_control_plane(api: Api, platform: LocalPlatform) -> None:
    platform.faults.add(Fault.status(429, path="run", headers={"Retry-After": "3"}))
    platform.faults.add(Fault.lose_response(path="run"))
    refused = api.post("run", {"input": 1})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    with pytest.raises(requests.ConnectionError):
        api.post("run", {"input": 1})
    assert api.get("health").json()["jobs"]["inQueue"] == 1
    platform.faults.add(Fault.truncated(after_bytes=5, path="health"))
    with pytest.raises(requests.RequestException):
        api.get("health")
    assert [call.status for call in platform.control.log] == [429, 200, 200, 200]


class Hook(BaseHTTPRequestHandler):
    statuses: list[int]
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.bodies.append({"followed": self.path})
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[type[Hook]]:
    class Receiver(Hook):
        statuses: list[int] = []
        bodies: list[dict[str, Any]] = []
        url = ""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    Receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Receiver
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("statuses", "calls"), [([200], 1), ([500, 200], 2), ([500, 302, 404, 200], 3)]
)
def test_a_webhook_is_tried_up_to_three_times(hook: Any, statuses: list[int], calls: int) -> None:
    hook.statuses = list(statuses)
    with LocalPlatform(
        limits=PlatformLimits(webhook_retry_seconds=0.01), poll_seconds=0.5
    ) as platform:
        api = Api(platform)
        job_id = api.run_and_take(webhook=hook.url)
        api.done(job_id, {"output": 1})
        webhooks = platform.control.webhooks
        assert platform.wait_until(lambda: True if hook.bodies and webhooks.idle else None, 20)
    assert len(hook.bodies) == calls
    first = hook.bodies[0]
    assert (first["id"], first["status"], first["output"], first["input"]) == (
        job_id,
        "COMPLETED",
        1,
        {"n": 1},
    )


def test_the_client_of_the_runpod_package_works_against_it(
    api: Api, platform: LocalPlatform, monkeypatch: Any
) -> None:
    monkeypatch.setattr(runpod, "api_key", platform.api_key)
    monkeypatch.setattr(runpod, "endpoint_url_base", platform.base_url)
    endpoint = runpod.Endpoint(platform.endpoint_id)
    request = endpoint.run({"input": {"n": 1}})
    assert request.status() == "IN_QUEUE"
    api.take("/w1?gpu=x")
    api.done(request.job_id, {"output": {"answer": 42}})
    assert request.output(timeout=10) == {"answer": 42}
    assert endpoint.health()["jobs"]["completed"] == 1
    other = endpoint.run({"input": {"n": 2}})
    assert other.cancel() == {"id": other.job_id, "status": "CANCELLED"}
    assert endpoint.purge_queue()["status"] == "completed"
