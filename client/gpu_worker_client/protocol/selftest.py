"""selftest: a tiny real run of every installed processor. Needs no URL, so a fresh endpoint can
prove itself."""

from __future__ import annotations

from typing import Any, Literal

from gpu_worker_client.protocol.base import AnsweredBy, ResponseModel
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import RequestModel, TaskBase


class SelftestParams(RequestModel):
    """Takes no parameters."""


class ProcessorCheck(ResponseModel):
    ok: bool
    """It ran and its result was right."""
    seconds: float
    """Wall time of the check."""
    detail: str = ""
    """What ran, or why it could not ("weights_missing: ...")."""


class SelftestResult(TaskResult):
    task: Literal["selftest"] = "selftest"
    versions: dict[str, str]
    """Package name -> version of what the result depends on."""
    device: str
    """"cuda:0" or "cpu"."""
    encoders: dict[str, bool]
    """Encoder -> whether one frame could really be encoded with it here."""
    weights: dict[str, bool]
    """Manifest name -> present and of the right size."""
    processors: dict[str, ProcessorCheck]
    """Task name -> what its tiny run showed."""
    sandbox: dict[str, Any] = {}
    """What the sandbox of the engine enforces here."""
    stats: Stats


class SelftestTask(TaskBase, AnsweredBy[SelftestResult]):
    task: Literal["selftest"] = "selftest"
    params: SelftestParams = SelftestParams.model_construct()
