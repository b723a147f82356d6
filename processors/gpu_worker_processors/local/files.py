"""The files of one task as paths of this machine: inputs are read where they lie, output and result
appear whole under their names, both or neither."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from gpu_worker_client.protocol import OutputPart
from gpu_worker_processors.atomic_file import atomic_file, disk_errors
from gpu_worker_processors.engine.host import EngineJob
from gpu_worker_processors.engine.untrusted_file import open_made
from gpu_worker_processors.local.paths import TaskPaths
from gpu_worker_processors.results import AnswerLimits, JobResult

LIMITS = AnswerLimits(inline=1_000_000, most=sys.maxsize)
"""A larger result that is in a file already is printed as its summary, as the worker answers it."""
COPY_BYTES = 1 << 20
GZIP_LEVEL = 6


class PathFiles:
    """See `runner.JobFiles`."""

    def __init__(self, paths: TaskPaths) -> None:
        self._paths = paths
        self.output_name = quote(paths.output.name) if paths.output else None
        self.output_suffix = paths.output.suffix.lower() if paths.output else ""

    @property
    def sources(self) -> list[Path]:
        """What the engine must be able to read."""
        paths = (self._paths.input, *self._paths.extra_inputs.values())
        return [path.resolve() for path in paths if path is not None]

    def earlier_answer(self) -> None:
        """None: without a network there is no earlier result to ask for."""

    def fetch_weights(self, names: tuple[str, ...]) -> None:
        """Nothing: without a network none can be fetched, and the processor says which is
        missing."""

    def fetch(self, job: EngineJob) -> None:
        """Links: nothing of a path that a user chose reaches a command line."""
        if self._paths.input is not None and job.input_path is not None:
            job.input_path.symlink_to(self._paths.input.resolve())
        for name, path in self._paths.extra_inputs.items():
            job.extra_inputs[name].symlink_to(path.resolve())

    @contextmanager
    def delivered(self, job: EngineJob) -> Generator[list[OutputPart] | None]:
        with ExitStack() as stack:
            if self._paths.output is not None and job.output_path is not None:
                copy = stack.enter_context(atomic_file(self._paths.output, "output_url"))
                with open_made(job.output_path) as file, disk_errors():
                    shutil.copyfileobj(file, copy, COPY_BYTES)
            yield None

    def answer(self, result: JobResult, stop: threading.Event) -> dict[str, Any]:
        output, written = self._paths.output, self._paths.result
        result = result.plus(
            output_url=None if output is None else str(output),
            result_url=None if written is None else str(written),
        )
        with disk_errors():
            whole: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the block below
        with whole:
            answer = result.write(whole, LIMITS, stop).answer
            if written is None:
                return json.load(whole)
            with atomic_file(written, "result_url") as file, disk_errors(), ExitStack() as zipping:
                zipped = written.suffix.lower() == ".gz"
                out = (
                    zipping.enter_context(gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))
                    if zipped
                    else file
                )
                shutil.copyfileobj(whole, out, COPY_BYTES)
        return answer

    def halt(self) -> None:
        """Nothing: a local copy ends by itself."""
