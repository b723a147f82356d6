"""The transfers of one job: they share its URL policy, its limits, its progress and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker.transfer.deliver import Delivered, deliver, deliver_result
from gpu_worker.transfer.fetch import fetch, read_result
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.probe import check_upload
from gpu_worker.transfer.urls import Source, Target, UrlPolicy
from gpu_worker_processors.base import ProgressSink


@dataclass(frozen=True)
class Transfers:
    """Every method raises a typed `TaskError`, and leaves nothing partial behind then."""

    policy: UrlPolicy
    limits: TransferLimits
    on_progress: ProgressSink
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Ends every transfer within a second."""

    def fetch(self, source: Source, dest: Path, limits: TransferLimits | None = None) -> None:
        """Downloads into the new file `dest`."""
        fetch(
            source,
            dest,
            policy=self.policy,
            limits=limits or self.limits,
            progress=lambda done, total: self.on_progress("fetch", done, total, "bytes"),
            cancelled=self.cancelled,
        )

    def check_upload(self, target: Target) -> None:
        """Refuses a target whose URL the store would refuse after the work."""
        check_upload(target, policy=self.policy, limits=self.limits, cancelled=self.cancelled)

    def deliver(self, target: Target, file: Path) -> Delivered:
        """Uploads an output."""
        return deliver(
            target,
            file,
            policy=self.policy,
            limits=self.limits,
            progress=lambda done, total: self.on_progress("deliver", done, total, "bytes"),
            cancelled=self.cancelled,
        )

    def read_result(self, source: Source) -> bytes | None:
        """An earlier result's JSON, None when there is none yet."""
        return read_result(source, policy=self.policy, limits=self.limits, cancelled=self.cancelled)

    def deliver_result(
        self, target: Target, payload: Iterable[bytes], folder: Path, read_back: Source | None
    ) -> None:
        """Uploads a result's JSON, written to a nameless file in `folder` first."""
        deliver_result(
            target,
            payload,
            policy=self.policy,
            limits=self.limits,
            cancelled=self.cancelled,
            folder=folder,
            read_back=read_back,
        )
