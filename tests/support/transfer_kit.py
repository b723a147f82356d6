"""What the transfer tests share: the strict gate, objects with known digests, and calls with every
argument filled in."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.devserver.store.actions import GateLimits
from gpu_worker.devserver.store.gate import R2Gate, Seen
from gpu_worker.transfer import (
    Delivered,
    Fetched,
    Network,
    Source,
    Target,
    TransferLimits,
    UrlPolicy,
    check_task,
    check_upload,
    deliver,
    deliver_result,
    fetch,
    read_result,
)
from gpu_worker.transfer.watchdog import Guard
from gpu_worker_client.protocol import parse_task

KIB = 1024
SMALL = TransferLimits(
    connect_seconds=2,
    idle_seconds=3,
    response_seconds=5,
    total_seconds=60,
    first_range_bytes=64 * KIB,
    parallel_from_bytes=256 * KIB,
    range_parallelism=4,
)
"""Ranges so small that an object of one MiB takes several connections."""


def noise(size: int, seed: int = 1) -> bytes:
    """Incompressible bytes, the same in every run."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes | Path) -> str:
    return hashlib.sha256(data.read_bytes() if isinstance(data, Path) else data).hexdigest()


@contextmanager
def strict_gate(tmp: Path, *, write_interval_seconds: float = 0.0) -> Iterator[R2Gate]:
    """The gate on a loopback port. R2's one write a second per key is off unless asked for."""
    limits = GateLimits(write_interval_seconds=write_interval_seconds, min_part_bytes=5 * KIB)
    with LocalPlatform(data_dir=tmp, gate_limits=limits) as platform:
        yield platform.gate


@dataclass
class Kit:
    """One test's way to the gate. Pauses between tries are recorded, not slept."""

    gate: R2Gate
    folder: Path
    prefix: str = ""
    """Of every key this test uses."""
    limits: TransferLimits = SMALL
    pauses: list[float] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    reports: list[tuple[int, int | None]] = field(default_factory=list)

    @property
    def policy(self) -> UrlPolicy:
        return UrlPolicy(
            exempt_hosts=frozenset({self.gate.base_url.removeprefix("http://")}),
            allow_local_files=True,
        )

    @property
    def network(self) -> Network:
        def pause(guard: Guard, seconds: float) -> None:
            guard.check()
            self.pauses.append(seconds)

        return Network(pause=pause, random=lambda: 1.0)

    def put(self, key: str, data: bytes) -> None:
        self.gate.put(self.prefix + key, data)

    def read(self, key: str) -> bytes | None:
        return self.gate.read(self.prefix + key)

    def presign(self, method: str, key: str, **arguments: Any) -> str:
        return self.gate.presign(method, self.prefix + key, **arguments)

    def fault(self, fault: Fault, method: str) -> Fault:
        """Orders a fresh copy of `fault` for this test's keys."""
        return self.gate.faults.add(replace(fault, method=method, path=f"{self.prefix}*", hits=0))

    @property
    def log(self) -> list[Seen]:
        """What the gate saw of this test."""
        return [seen for seen in list(self.gate.log) if seen.key.startswith(self.prefix)]

    def with_limits(self, **changes: Any) -> Kit:
        return replace(self, limits=replace(self.limits, **changes))

    @property
    def dest(self) -> Path:
        return self.folder / "input"

    def _common(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "limits": self.limits,
            "cancelled": self.cancelled,
            "network": self.network,
        }

    def report(self, done: int, total: int | None) -> None:
        self.reports.append((done, total))

    def source(self, url: str, headers: Mapping[str, str] | None = None) -> Source:
        task = parse_task(
            {"task": "detect_scenes", "input_url": url, "headers": {"input": dict(headers or {})}}
        )
        found = check_task(
            task, self.policy, now=datetime.now(timezone.utc), min_remaining_seconds=0
        ).input
        assert found is not None
        return found

    def target(self, url: str | dict[str, Any], headers: Mapping[str, str] | None = None) -> Target:
        output = {"output_multipart": url} if isinstance(url, dict) else {"output_url": url}
        task = parse_task(
            {
                "task": "upscale",
                "input_url": "/in.mp4",
                **output,
                "headers": {"output": dict(headers or {})},
            },
        )
        found = check_task(
            task, self.policy, now=datetime.now(timezone.utc), min_remaining_seconds=0
        ).output
        assert found is not None
        return found

    def fetch(self, source: Source | str) -> Fetched:
        chosen = self.source(source) if isinstance(source, str) else source
        return fetch(chosen, self.dest, progress=self.report, **self._common())

    def check_upload(self, url: str) -> None:
        check_upload(self.target(url), **self._common())

    def deliver(self, target: Target | str, file: Path) -> Delivered:
        chosen = self.target(target) if isinstance(target, str) else target
        return deliver(chosen, file, progress=self.report, **self._common())

    def deliver_result(
        self, target: Target, payload: bytes, read_back: Source | None = None
    ) -> Delivered:
        return deliver_result(
            target, [payload[:5], payload[5:]], read_back=read_back, **self._common()
        )

    def read_result(self, source: Source) -> bytes | None:
        return read_result(source, **self._common())
