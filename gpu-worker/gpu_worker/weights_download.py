"""Downloads one file of model weights from its publisher into WEIGHTS_DIR.

It appears under its name only after size and SHA-256 matched the manifest, by an atomic rename; two
processes that want it wait for each other. Release hosts answer with redirects, so up to three hops
are followed, each checked like the first address; nothing else in the worker follows one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin

from gpu_worker.transfer.connect import Network
from gpu_worker.transfer.fetch import fetch
from gpu_worker.transfer.http import HttpChannel
from gpu_worker.transfer.limits import GIB, TransferLimits
from gpu_worker.transfer.safe_url import SafeUrl, parse_url
from gpu_worker.transfer.store_errors import Transient
from gpu_worker.transfer.urls import Source, UrlPolicy
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.manifest import LOCAL_MANIFEST, WeightSpec
from gpu_worker_processors.models.weights import verify

MAX_REDIRECTS = 3
"""GitHub needs one hop for a release file, two for a file in Git LFS."""
MAX_WEIGHT_BYTES = 8 * GIB
"""For an entry whose size the manifest does not know."""
_LOCK_AGAIN_SECONDS = 0.2
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSED = frozenset(
    {
        ErrorCode.input_not_found,
        ErrorCode.url_denied,
        ErrorCode.url_expired,
        ErrorCode.length_required,
    }
)

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Puller:
    """How weights are downloaded."""

    folder: Path
    policy: UrlPolicy
    limits: TransferLimits = TransferLimits()
    cancelled: threading.Event = field(default_factory=threading.Event)
    trust_on_first_use: bool = False
    """Takes a file whose digest nobody has confirmed, and pins what came in
    `manifest.local.toml`."""
    network: Network | None = None

    def pull(self, spec: WeightSpec, progress: Progress = lambda _done, _total: None) -> Path:
        """Makes sure the right file is there; downloads it when it is missing or wrong, a second
        time when it arrived wrong.

        Raises:
            TaskError: `weights_rejected` (wrong digest twice, or none pinned), `weights_missing`
                (no URL, refused), or the transfer's own retryable codes. No file is left behind
                then.
        """
        path = self.folder / spec.file
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock(spec) as exclusive:
            if problem_with(path, spec) is None:
                return path
            if exclusive:
                for stale in self.folder.glob(f".{spec.file}.*.part"):
                    stale.unlink(missing_ok=True)
            self._check_source(spec)
            try:
                self._download(spec, path, progress)
            except TaskError as error:
                if error.code is not ErrorCode.weights_rejected:
                    raise
                self._download(spec, path, progress)
        return path

    @contextmanager
    def _lock(self, spec: WeightSpec) -> Generator[bool]:
        """Holds an advisory lock that dies with the process. Yields False on a file system without
        locks.

        Raises:
            TaskError: `download_timeout` when another holds it for longer than a download may take:
                whoever can read the folder can hold it, a captured engine too; `cancelled`.
        """
        path = self.folder / f".{spec.file}.lock"
        deadline = time.monotonic() + self.limits.total_seconds
        with path.open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if self.cancelled.wait(_LOCK_AGAIN_SECONDS):
                        raise TaskError(ErrorCode.cancelled, "the job was stopped") from None
                    if time.monotonic() > deadline:
                        message = (
                            f"another process has held {path.name} in WEIGHTS_DIR for"
                            f" {self.limits.total_seconds:g} s; end it, or remove the file"
                        )
                        raise TaskError(
                            ErrorCode.download_timeout, message, name=spec.name
                        ) from None
                except OSError:
                    yield False
                    return
                else:
                    yield True
                    return

    def _check_source(self, spec: WeightSpec) -> None:
        if not spec.url:
            message = (
                f"{spec.name} has no download address in the manifest; put {spec.file} into"
                " WEIGHTS_DIR by hand"
            )
            raise TaskError(ErrorCode.weights_missing, message, name=spec.name)
        if not spec.sha256 and not self.trust_on_first_use:
            message = (
                f"nobody has confirmed a SHA-256 for {spec.name}; add --trust-on-first-use to take"
                " what the address serves"
            )
            raise TaskError(ErrorCode.weights_rejected, message, name=spec.name, reason="no_digest")

    def _download(self, spec: WeightSpec, path: Path, progress: Progress) -> None:
        temporary = self.folder / f".{spec.file}.{os.getpid()}-{secrets.token_hex(4)}.part"
        where = f"weights {spec.name}"
        limits = replace(self.limits, max_input_bytes=spec.bytes or MAX_WEIGHT_BYTES)
        try:
            source = Source(self._final_url(spec, where), where=where)
            fetch(
                source,
                temporary,
                policy=self.policy,
                limits=limits,
                progress=progress,
                cancelled=self.cancelled,
                network=self.network,
            )
            pinned = (
                spec
                if spec.sha256
                else replace(spec, sha256=_sha256(temporary), bytes=temporary.stat().st_size)
            )
            verify(temporary, pinned, downloaded=True)
            _publish(temporary, path)
            if not spec.sha256:
                _pin(self.folder / LOCAL_MANIFEST, pinned)
        except TaskError as error:
            if error.code is ErrorCode.input_too_large:
                message = (
                    f"{where}: the address serves a larger file than the manifest's {spec.bytes}"
                    " bytes"
                )
                raise TaskError(
                    ErrorCode.weights_rejected, message, name=spec.name, reason="size_mismatch"
                ) from None
            if error.code in _REFUSED:
                raise TaskError(ErrorCode.weights_missing, error.message, name=spec.name) from None
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def _final_url(self, spec: WeightSpec, where: str) -> SafeUrl:
        """Where the redirects of a release host end; every hop must be allowed by the policy and by
        the address guard."""
        url = parse_url(spec.url, where)
        for _ in range(MAX_REDIRECTS + 1):
            self.policy.check(url, where)
            location = self._location(url, where)
            if location is None:
                return url
            url = parse_url(urljoin(url.reveal(), location), where)
        raise TaskError(
            ErrorCode.redirect_not_allowed,
            f"{where}: more than {MAX_REDIRECTS} redirects",
            path=where,
        )

    def _location(self, url: SafeUrl, where: str) -> str | None:
        """Where one answer redirects to; None when it is no redirect. Reads no body."""
        with HttpChannel(
            self.policy, self.limits, self.cancelled, "download", self.network
        ) as channel:
            retry = channel.retry()
            while True:
                try:
                    with channel.request("GET", url, where, {"Range": "bytes=0-0"}) as response:
                        return (
                            response.header("Location") if response.status in _REDIRECTS else None
                        )
                except Transient as failure:
                    retry.pause(failure)


def problem_with(path: Path, spec: WeightSpec) -> TaskError | None:
    """Why the file cannot be used; None when it is the one the manifest pins."""
    try:
        verify(path, spec)
    except TaskError as error:
        return error
    return None


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o644)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _pin(manifest: Path, spec: WeightSpec) -> None:
    """A later entry of a name overrides single fields of an earlier one, so appending is enough."""
    url = json.dumps(spec.url, ensure_ascii=False)
    entry = (
        f'\n[[weights]]\nname = "{spec.name}"\nfile = "{spec.file}"\nurl = {url}\nsha256 ='
        f' "{spec.sha256}"\n'
    )
    with manifest.open("a", encoding="utf-8") as file:
        file.write(entry + f'bytes = {spec.bytes}\nsource = "trusted on first use"\n')
