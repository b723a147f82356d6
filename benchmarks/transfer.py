"""Download and upload on loopback: this project's transfer and a plain `requests` loop, from the
same server in one run.

The server is another process. It serves one file with ranges; in the second download each of its
connections is held to a rate, as those of an object store are, which is what parallel ranges are
for. Every download's digest is compared.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RUNS = 5
SIZE_BYTES = 300_000_000
HELD_BYTES_PER_SECOND = 60_000_000
CHUNK_BYTES = 1024 * 1024


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mp4"
        digest = _write_noise(source)
        free = _compare_downloads(source, digest, 0)
        held = _compare_downloads(source, digest, HELD_BYTES_PER_SECOND)
        upload = _compare_uploads(source)
    size = f"{SIZE_BYTES // 1_000_000} MB"
    return [
        _row(f"fetch {size}, loopback", *free),
        _row(f"fetch {size}, {HELD_BYTES_PER_SECOND // 1_000_000} MB/s for each connection", *held),
        _row(f"deliver {size}, loopback", *upload),
    ]


def _row(name: str, ours_seconds: float, peer_seconds: float) -> dict[str, Any]:
    megabytes = SIZE_BYTES / 1e6
    return {
        "name": name,
        "ours": megabytes / ours_seconds,
        "peer": megabytes / peer_seconds,
        "unit": "MB/s",
        "ratio": peer_seconds / ours_seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "note": f"peer: requests, one stream; median of {RUNS}",
    }


def _write_noise(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE_BYTES // 1_000_000):
            block = os.urandom(1_000_000)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _compare_downloads(source: Path, digest: str, rate: int) -> tuple[float, float]:
    with _server(source, rate) as endpoint:
        dest = source.with_name("fetched")
        url = f"http://{endpoint}/in.mp4"
        return _medians(
            lambda: _fetch(url, endpoint, dest),
            lambda: _requests_get(url, dest),
            lambda: _check(dest, digest),
        )


def _compare_uploads(source: Path) -> tuple[float, float]:
    with _server(source, 0) as endpoint:
        url = f"http://{endpoint}/out.mp4"
        return _medians(
            lambda: _deliver(url, endpoint, source),
            lambda: _requests_put(url, source),
            lambda: None,
        )


def _medians(
    ours: Callable[[], None], peer: Callable[[], None], after: Callable[[], None]
) -> tuple[float, float]:
    """Median seconds of both, run in turns so that a busy moment of the machine hits both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for work, times in zip((ours, peer), seconds, strict=True):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
            after()
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _fetch(url: str, endpoint: str, dest: Path) -> None:
    from gpu_worker.transfer import Source, TransferLimits, UrlPolicy, fetch
    from gpu_worker.transfer.safe_url import parse_url

    fetch(
        Source(parse_url(url, "input_url")),
        dest,
        policy=UrlPolicy(exempt_hosts=frozenset({endpoint})),
        limits=TransferLimits(),
        progress=_unshown,
        cancelled=threading.Event(),
    )


def _unshown(done: int, total: int | None) -> None:
    del done, total


def _requests_get(url: str, dest: Path) -> None:
    import requests

    with requests.get(url, stream=True, timeout=15) as response, dest.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)


def _deliver(url: str, endpoint: str, file: Path) -> None:
    from gpu_worker.transfer import Target, TransferLimits, UrlPolicy, deliver
    from gpu_worker.transfer.safe_url import parse_url

    deliver(
        Target(parse_url(url, "output_url")),
        file,
        policy=UrlPolicy(exempt_hosts=frozenset({endpoint})),
        limits=TransferLimits(),
        progress=_unshown,
        cancelled=threading.Event(),
    )


def _requests_put(url: str, file: Path) -> None:
    import requests

    with file.open("rb") as body:
        requests.put(url, data=body, timeout=60).raise_for_status()


def _check(file: Path, digest: str) -> None:
    with file.open("rb") as stream:
        found = (
            hashlib.file_digest(stream, "sha256")
            if sys.version_info >= (3, 11)
            else hashlib.sha256(stream.read())
        )
    if found.hexdigest() != digest:
        raise RuntimeError("the download is not the file")
    file.unlink()


@contextmanager
def _server(file: Path, rate: int) -> Iterator[str]:
    """Starts this module as a server of its own process; yields "host:port"."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(file), str(rate)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_served: Path
    rate: int

    def do_GET(self) -> None:
        size = self.path_served.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(wanted[1]), min(int(wanted[2]) + 1, size)) if wanted else (0, size)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", '"bench"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.flush()
        with self.path_served.open("rb") as file:
            began, position = time.perf_counter(), start
            while position < end:
                position += os.sendfile(
                    self.connection.fileno(),
                    file.fileno(),
                    position,
                    min(CHUNK_BYTES, end - position),
                )
                ahead = (
                    (position - start) / self.rate - (time.perf_counter() - began)
                    if self.rate
                    else 0
                )
                if ahead > 0:
                    time.sleep(ahead)

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while left:
            left -= self.rfile.readinto(buffer[: min(left, CHUNK_BYTES)])
        self.send_response(200)
        self.send_header("ETag", '"bench"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _serve(file: Path, rate: int) -> None:
    _Handler.path_served, _Handler.rate = file, rate
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
