"""What a transfer may use of the machine: memory that does not grow with the object, a disk that
may be full."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.transfer_kit import KIB, Kit, noise, sha256, strict_gate

from gpu_worker.devserver.store.gate import R2Gate
from gpu_worker.transfer import Source, TransferLimits, UrlPolicy, fetch
from gpu_worker.transfer.safe_url import parse_url
from gpu_worker_client.protocol import ErrorCode, TaskError

MEGABYTE = 1_000_000
GROWTH_BYTES = 40 * MEGABYTE
"""Buffers of one MiB for each of the connections, the threads' stacks, and room for the
allocator."""

CHILD = """
import json, resource, sys, threading
from pathlib import Path
from gpu_worker.transfer import Source, Target, TransferLimits, UrlPolicy, deliver, fetch
from gpu_worker.transfer.safe_url import parse_url

order = json.load(sys.stdin)
if order["file_limit_bytes"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit_bytes"],) * 2)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
common = dict(policy=UrlPolicy(exempt_hosts=frozenset([order["gate"]])), limits=TransferLimits(),
              progress=lambda done, total: None, cancelled=threading.Event())
before = peak()
try:
    fetched = fetch(Source(parse_url(order["get"], "input_url")), Path(order["file"]), **common)
    deliver(Target(parse_url(order["put"], "output_url")), Path(order["file"]), **common)
    print(json.dumps({"growth": peak() - before, "connections": fetched.connections}))
except Exception as error:
    print(json.dumps({"error": error.code.value, "left": Path(order["file"]).exists()}))
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[R2Gate]:
    with strict_gate(tmp_path_factory.mktemp("gate")) as gate:
        yield gate


def run_child(gate: R2Gate, file: Path, *, file_limit_bytes: int = 0) -> dict[str, object]:
    order = {
        "gate": gate.base_url.removeprefix("http://"),
        "get": gate.presign("GET", "in.mp4"),
        "put": gate.presign("PUT", "out.mp4"),
        "file": str(file),
        "file_limit_bytes": file_limit_bytes,
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("size", [60 * MEGABYTE, 300 * MEGABYTE])
def test_memory_does_not_grow_with_the_object(gate: R2Gate, tmp_path: Path, size: int) -> None:
    block = noise(MEGABYTE)
    source = tmp_path / "in.mp4"
    with source.open("wb") as file:
        for _ in range(size // MEGABYTE):
            file.write(block)
    gate.put("in.mp4", source)
    report = run_child(gate, tmp_path / "fetched")
    assert sha256(gate.path("out.mp4")) == sha256(source)
    assert report["connections"] == 7
    assert isinstance(report["growth"], int)
    assert report["growth"] < GROWTH_BYTES, report


def test_k06_a_disk_that_fills_is_typed_and_leaves_nothing(gate: R2Gate, tmp_path: Path) -> None:
    gate.put("in.mp4", noise(2 * MEGABYTE))
    report = run_child(gate, tmp_path / "fetched", file_limit_bytes=MEGABYTE)
    assert report == {"error": "disk_full", "left": False}


class _Huge(BaseHTTPRequestHandler):
    """Declares a petabyte and sends none of it."""

    def do_GET(self) -> None:
        self.send_response(206)
        first = 8 * 1024 * KIB
        for name, value in (
            ("Content-Length", first),
            ("Content-Range", f"bytes 0-{first - 1}/{10**15}"),
            ("ETag", '"e"'),
        ):
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_input_larger_than_the_disk_is_refused_before_its_body(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Huge)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    endpoint = f"127.0.0.1:{server.server_port}"
    with pytest.raises(TaskError) as caught:
        fetch(
            Source(parse_url(f"http://{endpoint}/in.mp4", "input_url")),
            tmp_path / "input",
            policy=UrlPolicy(exempt_hosts=frozenset({endpoint})),
            limits=TransferLimits(max_input_bytes=10**16),
            progress=lambda done, total: None,
            cancelled=threading.Event(),
        )
    server.shutdown()
    server.server_close()
    assert caught.value.code is ErrorCode.disk_full
    assert caught.value.details["needed_bytes"] == 10**15
    assert not (tmp_path / "input").exists()


def test_a_file_that_is_there_already_is_left_alone(gate: R2Gate, tmp_path: Path) -> None:
    gate.put("in.mp4", b"new")
    kit = Kit(gate, tmp_path)
    kit.dest.write_bytes(b"old")
    with pytest.raises(TaskError):
        kit.fetch(replace(kit.source(gate.presign("GET", "in.mp4"))))
    assert kit.dest.read_bytes() == b"old"
