"""Downloading weights from a real HTTP server on loopback: digests, redirects, a killed download,
two at once, the command."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpu_worker import cli
from gpu_worker.settings import Settings
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.urls import UrlPolicy
from gpu_worker.weights_download import Puller
from gpu_worker.weights_pull import ensure
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.manifest import WeightSpec
from gpu_worker_processors.models.weights import WeightStore

GOOD = bytes(range(256)) * 2000
SHA = hashlib.sha256(GOOD).hexdigest()
Answer = Callable[[BaseHTTPRequestHandler], None]


def body(content: bytes) -> Answer:
    """An object store's answer: ranges and a strong ETag."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        first, last = 0, len(content) - 1
        if wanted:
            low, high = wanted.removeprefix("bytes=").split("-")
            first, last = int(low), min(int(high), last)
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        request.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        request.send_header("Content-Length", str(last - first + 1))
        request.end_headers()
        request.wfile.write(content[first : last + 1])

    return answer


def redirect(target: str, status: int = 302) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", target)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def status(code: int) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


class Publisher:
    """A release host: answers per path, counts what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.asked.append(f"{self.path} {self.headers.get('Range')}")
                publisher.answers.get(self.path.partition("?")[0], status(404))(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://{self.endpoint}{path}"

    def bodies_asked(self) -> int:
        """Requests for content, without the first byte that finds out where redirects end."""
        return sum(not line.endswith(" bytes=0-0") for line in self.asked)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


@pytest.fixture
def puller(publisher: Publisher, tmp_path: Path) -> Puller:
    limits = TransferLimits(attempts=1, retry_budget_seconds=1, total_seconds=30)
    return Puller(tmp_path / "w", UrlPolicy(exempt_hosts=frozenset({publisher.endpoint})), limits)


def spec(
    publisher: Publisher, path: str = "/net.pth", sha256: str = SHA, size: int = len(GOOD)
) -> WeightSpec:
    return WeightSpec(
        name="net", file="net.pth", url=publisher.url(path), sha256=sha256, bytes=size
    )


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_missing_file_is_downloaded_verified_and_readable(
    publisher: Publisher, puller: Puller
) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    progress: list[tuple[int, int | None]] = []
    path = puller.pull(spec(publisher), lambda done, total: progress.append((done, total)))
    assert path.read_bytes() == GOOD and path.stat().st_mode & 0o777 == 0o644
    assert progress[-1] == (len(GOOD), len(GOOD))
    assert leftovers(puller.folder) == ["net.pth"]
    before = len(publisher.asked)
    puller.pull(spec(publisher))
    assert len(publisher.asked) == before, "what is there and right is not asked for again"


def test_a_wrong_digest_is_downloaded_once_more_and_then_rejected(
    publisher: Publisher, puller: Puller
) -> None:
    publisher.answers["/net.pth"] = body(GOOD[:-1] + b"x")
    with pytest.raises(TaskError) as caught:
        puller.pull(spec(publisher))
    assert caught.value.code is ErrorCode.weights_rejected
    assert publisher.bodies_asked() == 2
    assert leftovers(puller.folder) == []


def test_a_damaged_file_is_replaced(publisher: Publisher, puller: Puller) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    puller.folder.mkdir()
    (puller.folder / "net.pth").write_bytes(b"\0" + GOOD[1:])
    assert puller.pull(spec(publisher)).read_bytes() == GOOD


@pytest.mark.parametrize(
    ("content", "code"), [(GOOD + b"more", "size_mismatch"), (GOOD[:100], "size_mismatch")]
)
def test_another_size_is_rejected(
    publisher: Publisher, puller: Puller, content: bytes, code: str
) -> None:
    publisher.answers["/net.pth"] = body(content)
    with pytest.raises(TaskError) as caught:
        puller.pull(spec(publisher))
    assert caught.value.details["reason"] == code
    assert leftovers(puller.folder) == []


def test_redirects_are_followed_up_to_three(publisher: Publisher, puller: Puller) -> None:
    publisher.answers |= {
        "/1": redirect(publisher.url("/2"), 301),
        "/2": redirect("/3?X-Amz-Signature=canary", 307),
        "/3": redirect(publisher.url("/net.pth"), 302),
        "/net.pth": body(GOOD),
    }
    assert puller.pull(spec(publisher, "/1")).read_bytes() == GOOD
    publisher.answers["/0"] = redirect("/1")
    publisher.answers["/loop"] = redirect("/loop")
    for path in ("/0", "/loop"):
        (puller.folder / "net.pth").unlink(missing_ok=True)
        with pytest.raises(TaskError) as caught:
            puller.pull(spec(publisher, path))
        assert caught.value.code is ErrorCode.redirect_not_allowed
        assert "canary" not in str(caught.value) + str(caught.value.details)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", ErrorCode.url_not_allowed),
        ("https://169.254.169.254/latest/meta-data", ErrorCode.address_not_allowed),
        ("https://127.0.0.1/x", ErrorCode.address_not_allowed),
        ("https://[::1]/x", ErrorCode.address_not_allowed),
        ("file:///etc/passwd", ErrorCode.url_not_allowed),
        ("http://example.com/x", ErrorCode.url_not_allowed),
        ("https://user@example.com/x", ErrorCode.url_not_allowed),
    ],
)
def test_a_redirect_leads_nowhere_forbidden(
    publisher: Publisher, puller: Puller, target: str, code: ErrorCode
) -> None:
    publisher.answers["/net.pth"] = redirect(target)
    with pytest.raises(TaskError) as caught:
        puller.pull(spec(publisher))
    assert caught.value.code is code
    assert len(publisher.asked) == 1
    assert leftovers(puller.folder) == []


@pytest.mark.parametrize("code", [403, 404])
def test_a_refusal_says_that_the_weights_are_missing(
    publisher: Publisher, puller: Puller, code: int
) -> None:
    publisher.answers["/net.pth"] = status(code)
    with pytest.raises(TaskError, match="weights net") as caught:
        puller.pull(spec(publisher))
    assert caught.value.code is ErrorCode.weights_missing


def test_without_a_confirmed_digest_nothing_is_asked_for(
    publisher: Publisher, puller: Puller
) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    with pytest.raises(TaskError, match="--trust-on-first-use") as caught:
        puller.pull(spec(publisher, sha256=""))
    assert caught.value.code is ErrorCode.weights_rejected
    assert publisher.asked == []


def test_trust_on_first_use_pins_what_came(publisher: Publisher, puller: Puller) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    trusting = replace(puller, trust_on_first_use=True)
    trusting.pull(spec(publisher, sha256="", size=0))
    pinned = WeightStore(puller.folder).resolve("net").spec
    assert (pinned.sha256, pinned.bytes, pinned.url) == (SHA, len(GOOD), publisher.url("/net.pth"))


def test_two_processes_at_once_download_once(publisher: Publisher, tmp_path: Path) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    manifest(tmp_path, publisher)
    runs = [start(tmp_path, publisher) for _ in range(3)]
    for run in runs:
        out, error = run.communicate(timeout=60)
        assert run.returncode == 0, error
        assert out.strip() == str(tmp_path / "w" / "net.pth")
    assert (tmp_path / "w" / "net.pth").read_bytes() == GOOD
    assert publisher.bodies_asked() == 1


def has_open(pid: int, path: Path) -> bool:
    opened = Path("/proc", str(pid), "fd")
    return any(os.path.realpath(link) == str(path.resolve()) for link in opened.iterdir())


def test_a_process_waits_for_the_one_that_downloads(publisher: Publisher, tmp_path: Path) -> None:
    manifest(tmp_path, publisher)
    (tmp_path / "w").mkdir()
    with (tmp_path / "w" / ".net.pth.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = start(tmp_path, publisher)
        while not has_open(waiting.pid, Path(lock.name)):
            assert waiting.poll() is None, "it did not wait"
        (tmp_path / "w" / "net.pth").write_bytes(GOOD)
    out, error = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, error
    assert publisher.asked == []


@pytest.mark.parametrize("stopped", [True, False])
def test_a_lock_that_is_never_given_up_is_not_waited_for_for_ever(
    publisher: Publisher, puller: Puller, tmp_path: Path, stopped: bool
) -> None:
    """Whoever can read the folder can hold it: an engine under foreign control, too."""
    (tmp_path / "w").mkdir()
    puller = replace(puller, limits=TransferLimits(total_seconds=60 if stopped else 0))
    if stopped:
        puller.cancelled.set()
    (tmp_path / "w" / ".net.pth.lock").touch()
    with (tmp_path / "w" / ".net.pth.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TaskError) as caught:
            puller.pull(spec(publisher))
    expected = ErrorCode.cancelled if stopped else ErrorCode.download_timeout
    assert caught.value.code is expected and caught.value.code.retryable is not stopped
    assert stopped or "WEIGHTS_DIR" in caught.value.message


def test_a_killed_download_leaves_no_half_file_and_no_lock(
    publisher: Publisher, tmp_path: Path
) -> None:
    halfway, release = threading.Event(), threading.Event()

    def stalls(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(GOOD)))
        request.end_headers()
        request.wfile.write(GOOD[: len(GOOD) // 2])
        request.wfile.flush()
        if not request.headers["Range"].endswith("=0-0"):
            halfway.set()
            release.wait(60)

    publisher.answers["/net.pth"] = stalls
    manifest(tmp_path, publisher)
    killed = start(tmp_path, publisher)
    assert halfway.wait(60)
    waiting = start(tmp_path, publisher)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert not (tmp_path / "w" / "net.pth").exists()
    publisher.answers["/net.pth"] = body(GOOD)
    out, error = waiting.communicate(timeout=60)
    release.set()
    assert waiting.returncode == 0, error
    assert (tmp_path / "w" / "net.pth").read_bytes() == GOOD
    assert leftovers(tmp_path / "w") == ["net.pth"], "what the killed one left is gone"


def manifest(tmp_path: Path, publisher: Publisher, sha256: str = SHA) -> Path:
    path = tmp_path / "manifest.toml"
    path.write_text(
        f'[[weights]]\nname = "net"\nfile = "net.pth"\nurl = "{publisher.url("/net.pth")}"\nsha256'
        f' = "{sha256}"\nbytes = {len(GOOD)}\n[[weights]]\nname = "by-hand"\nfile ='
        f' "by-hand.pth"\nsha256 = "{SHA}"\n',
        encoding="utf-8",
    )
    return path


def environment(tmp_path: Path, publisher: Publisher) -> dict[str, str]:
    return {
        "WEIGHTS_DIR": str(tmp_path / "w"),
        "GPU_WORKER_MANIFEST": str(tmp_path / "manifest.toml"),
        "GPU_WORKER_EXEMPT_HOSTS": publisher.endpoint,
    }


def start(tmp_path: Path, publisher: Publisher) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "gpu_worker.cli", "weights", "pull", "net"]
    env = {**os.environ, **environment(tmp_path, publisher)}
    return subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


# The command and `ensure`
# ------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    publisher: Publisher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    manifest(tmp_path, publisher)
    for name, value in environment(tmp_path, publisher).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(["weights", *words])
        out, error = capsys.readouterr()
        return code, out, error

    return run


def test_list_pull_verify(
    publisher: Publisher, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    code, out, _ = command("list")
    assert code == 0 and [line.split()[1] for line in out.splitlines()] == ["missing", "missing"]
    assert command("pull", "--all")[0] == 0
    code, out, _ = command("verify")
    assert code == 0 and out.startswith("net ") and " ok " in out and "by-hand" not in out
    (tmp_path / "w" / "net.pth").write_bytes(b"damaged")
    code, out, _ = command("verify")
    assert code == 1 and "size_mismatch" in out
    code, _, error = command("pull", "by-hand")
    assert code == 1 and "by hand" in error


@pytest.mark.parametrize("answer", [body(b"damaged"), redirect("https://127.0.0.1/x")])
def test_a_failed_pull_does_not_advise_itself(
    publisher: Publisher, command: Callable[..., tuple[int, str, str]], answer: Answer
) -> None:
    publisher.answers["/net.pth"] = answer
    code, _, error = command("pull", "net")
    assert code == 1 and "pull" not in error and "params" not in error
    assert error.count("net") == 1


def test_usage(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, error = command("pull")
    assert code == 2 and "net, by-hand" in error
    code, _, error = command("pull", "unknown")
    assert code == 2 and "net, by-hand" in error
    monkeypatch.delenv("WEIGHTS_DIR")
    code, _, error = command("list")
    assert code == 2 and "WEIGHTS_DIR" in error


def test_a_job_downloads_only_where_that_is_allowed(
    publisher: Publisher, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    publisher.answers["/net.pth"] = body(GOOD)
    settings = Settings.from_env(environment(tmp_path, publisher))
    with pytest.raises(TaskError, match="gpu-worker weights pull net") as caught:
        ensure(["net"], settings)
    assert caught.value.code is ErrorCode.weights_missing and publisher.asked == []
    ensure(["net"], replace(settings, weights_download=True))
    assert (tmp_path / "w" / "net.pth").read_bytes() == GOOD
    ensure(["net"], settings)
    (tmp_path / "w" / "net.pth").unlink()
    publisher.answers["/net.pth"] = redirect("https://127.0.0.1/x")
    with pytest.raises(TaskError, match="address; `gpu-worker weights pull net`"):
        ensure(["net"], replace(settings, weights_download=True))
    publisher.answers["/net.pth"] = body(GOOD)
    with pytest.raises(TaskError, match=r"by-hand\.pth") as caught:
        ensure(["net", "by-hand"], replace(settings, weights_download=True))
    assert caught.value.code is ErrorCode.weights_missing
    with pytest.raises(TaskError, match="WEIGHTS_DIR"):
        ensure(["net"], replace(settings, weights_dir=None, weights_download=True))
