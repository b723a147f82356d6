"""The selftest task: a fresh worker proves itself without any URL.

Every other processor of the registry runs once, for real, on a tiny clip whose content is known,
and its result is judged. That takes seconds (networks load), so an engine does it once: what has
been proven in this engine process is answered from memory afterwards, and `detail` says so. What
failed is tried again every time, and whether weights are present and the sandbox is closed is
checked every time. A processor that cannot run here is an answer (`ok: false` and why), not a
failure of the self-test.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import (
    TASKS,
    FileTask,
    ProcessorCheck,
    RequestModel,
    SelftestParams,
    SelftestResult,
    Stats,
    TaskError,
)
from gpu_worker_processors import registry
from gpu_worker_processors.base import LocalJob, Processor, ignore_progress
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.samples import CLIP_NAME, Sample, clip, sample_of

logger = logging.getLogger(__name__)

PACKAGES = (
    "gpu-worker",
    "gpu-worker-processors",
    "gpu-worker-client",
    "torch",
    "torchvision",
    "av",
    "numpy",
    "opencv-python-headless",
    "spandrel",
    "scenedetect-headless",
)
"""Distributions on which results depend; one that is not installed is left out."""

FROM_MEMORY = "proven earlier by this engine"


class SelftestProcessor:
    """See `base.Processor`."""

    name = "selftest"

    def __init__(self) -> None:
        self._proven: dict[str, ProcessorCheck] = {}

    def required_weights(
        self, params: SelftestParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        """None: weights that are missing are part of the answer."""
        return ()

    def prepare(self, job: LocalJob) -> None:
        """Nothing: the first run loads what it tries."""

    def run(self, job: LocalJob) -> SelftestResult:
        started = time.perf_counter()
        names = [name for name in registry.PROCESSORS if name != self.name]
        checks = dict[str, ProcessorCheck]()
        for done, name in enumerate(names):
            job.progress("process", done, len(names), "processors")
            checks[name] = self._check(name, job)
        return SelftestResult(
            versions=versions(),
            device=device(job.settings.device),
            encoders=encoders(),
            weights=weights(WeightStore.of(job.settings)),
            processors=checks,
            sandbox=sandbox(),
            stats=Stats(processing_time_sec=round(time.perf_counter() - started, 4)),
        )

    def _check(self, name: str, job: LocalJob) -> ProcessorCheck:
        if name in self._proven:
            return self._proven[name]
        started = time.perf_counter()
        ok, detail = _attempt(name, job)
        check = ProcessorCheck(
            ok=ok, seconds=round(time.perf_counter() - started, 4), detail=detail
        )
        if ok:
            self._proven[name] = check.model_copy(update={"detail": f"{detail}; {FROM_MEMORY}"})
        return check


def _attempt(name: str, job: LocalJob) -> tuple[bool, str]:
    """Whether the processor gave the right result, and what was run or what was wrong."""
    try:
        sample = sample_of(name)
        processor = registry.get(name)
        params = _runnable(processor, sample, WeightStore.of(job.settings))
        tiny = _tiny_job(name, params, sample, job)
        processor.prepare(tiny)
        wrong = sample.judge(processor.run(tiny))
    except TaskError as error:
        return False, f"{error.code.value}: {error.message}"
    except Exception as error:  # noqa: BLE001 - a processor that is broken in any way is what this task must report
        logger.exception("selftest of %s", name)
        return False, f"internal: {type(error).__name__}; the worker's log has the traceback"
    if wrong:
        return False, f"output_invalid: {wrong}"
    chosen = params.model_dump(exclude_unset=True)
    return True, "ran with " + (
        ", ".join(f"{key} {value}" for key, value in chosen.items()) or "the defaults"
    )


def _runnable(processor: Processor, sample: Sample, store: WeightStore) -> RequestModel:
    """The first parameters whose weights are all present and as pinned.

    Raises:
        TaskError: why the last ones are not: `weights_missing`, `weights_rejected`.
    """
    kind = TASKS[processor.name].params
    problem: TaskError | None = None
    for variant in sample.variants:
        params = kind.model_validate(variant)
        try:
            for weight in processor.required_weights(params):
                store.resolve(weight)
        except TaskError as error:
            problem = problem or error
            continue
        return params
    assert problem is not None, "a sample has at least one variant"
    raise problem


def _tiny_job(name: str, params: RequestModel, sample: Sample, job: LocalJob) -> LocalJob:
    folder = job.work_dir / f"selftest-{name}"
    folder.mkdir()
    source = folder / "input"
    source.write_bytes((sample.source or clip)())
    makes_a_file = sample.makes_a_file or issubclass(TASKS[name].request, FileTask)
    return replace(
        job,
        params=params,
        work_dir=folder,
        input_path=source,
        inputs={CLIP_NAME: source},
        output_path=folder / "output.mp4" if makes_a_file else None,
        progress=ignore_progress,
        warnings=[],
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@lru_cache(maxsize=1)
def encoders() -> dict[str, bool]:
    from gpu_worker_processors.selftest.encoders import PIXEL_FORMATS, encode_one_frame

    return {name: encode_one_frame(name) is None for name in PIXEL_FORMATS}


@lru_cache(maxsize=8)
def device(setting: str) -> str:
    """The torch device that the setting means here, or why there is none."""
    from gpu_worker_processors.models.devices import pick_device

    try:
        return str(pick_device(setting))
    except TaskError as error:
        return f"unavailable: {error.message}"


def weights(store: WeightStore) -> dict[str, bool]:
    """Manifest name -> whether its file is there with the size that the manifest gives. Contents
    are proven by running."""
    return {spec.name: _size_fits(store.path(spec.name), spec.bytes) for spec in store.list()}


def _size_fits(path: Path | None, size_bytes: int) -> bool:
    return path is not None and (not size_bytes or path.stat().st_size == size_bytes)


def sandbox() -> dict[str, Any]:
    """What this process finds when it tries the walls of its own sandbox."""
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    )
    return {
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "system_call_filter": status["Seccomp"].strip() == "2",
        "files_closed": _refused_to_list(Path("/")),
        "network_closed": _refused_a_socket(),
        "user": os.getuid(),
    }


def _refused_to_list(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except PermissionError:
        return True
    return False


def _refused_a_socket() -> bool:
    try:
        socket.socket().close()
    except PermissionError:
        return True
    return False


PROCESSOR = SelftestProcessor()
