"""Work on files, made into a task on URLs: inputs uploaded, outputs presigned; and back: outputs
fetched, objects deleted.

`FileWork` says what to do, on paths and URLs as the caller gave them. `stage` uploads and presigns,
`Staged.collect` downloads, `Staged.clean_up` deletes. All of them block; `files.py` calls them from
`Client` and `AsyncClient` alike.

Keys follow from the work: a call that was killed and is made again finds the finished output and
result in the bucket, and no worker works twice.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import platform
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from gpu_worker_client._tasks import typed_task
from gpu_worker_client.errors import ConfigError, StorageError
from gpu_worker_client.policy import Policy, checked_policy
from gpu_worker_client.protocol import OutputTask, TaskBase, TaskResult
from gpu_worker_client.protocol.presigned import MAX_EXPIRES_SECONDS
from gpu_worker_client.storage import DEFAULT_EXPIRES_SECONDS, PartsUpload, Storage

Place = str | PathLike[str]
"""A local path, or a URL: a text with `://` in it is a URL, anything else is a path."""

SINGLE_PUT_BYTES = 4_900 * 1024**2
"""Largest output of one PUT: R2 takes 5 MiB less than 5 GiB.
https://developers.cloudflare.com/r2/platform/limits/"""
OUTPUT_GROWTH = 40
"""How many times its input's size an output may have: x4 has 16 times the pixels, and sources are
packed tighter."""
OUTPUT_PARTS = 256
"""Parts presigned for an output that may exceed one PUT. A URL has up to 800 bytes, and a task 256
KiB."""
MIN_OUTPUT_PART_BYTES = 16 * 1024**2
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_log = logging.getLogger("gpu_worker_client")


@dataclass(frozen=True)
class Transfer:
    """Bytes on their way between this machine and the bucket; an `Event` beside those of the
    job."""

    direction: Literal["upload", "download"]
    name: str
    """Of the local file, without its folder."""
    done_bytes: int
    total_bytes: int


Tell = Callable[[Transfer], object]


def check_output_place(path: Path) -> None:
    """Looks whether a file can be written there, before anything is paid for.

    Raises:
        FileNotFoundError, NotADirectoryError, IsADirectoryError: its folder is not there or is a
            file, or it is a folder itself.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "the output is a folder; name a file", str(path))
    if folder.is_dir():
        return
    if any(above.is_file() for above in (folder, *folder.parents)):
        raise NotADirectoryError(
            errno.ENOTDIR, "a file stands where the output's folder should be", str(path)
        )
    raise FileNotFoundError(
        errno.ENOENT, "the output's folder is not there; make it first", str(path)
    )


def is_url(place: Place) -> bool:
    return isinstance(place, str) and _URL.match(place) is not None


@dataclass(frozen=True)
class FileWork:
    """A task on files."""

    task: str
    params: Mapping[str, Any]
    reads: Mapping[str, Place | None]
    """Task's field -> file: `input_url`, `tracks_url`. None leaves the field out."""
    inputs: Mapping[str, Place] | None = None
    """Name -> file, of a task with several."""
    output: Place | None = None

    @property
    def files(self) -> dict[str, Place]:
        """Everything that is read, by its path in the task."""
        named = {f"inputs.{name}": place for name, place in (self.inputs or {}).items()}
        return {path: place for path, place in self.reads.items() if place is not None} | named

    @property
    def paths(self) -> dict[str, Path]:
        """What is read from this machine, by its path in the task."""
        return {name: Path(place) for name, place in self.files.items() if not is_url(place)}

    @property
    def output_path(self) -> Path | None:
        """Where the output shall appear on this machine."""
        return None if self.output is None or is_url(self.output) else Path(self.output)

    @property
    def needs_bucket(self) -> bool:
        """Whether a file of this machine is named."""
        return bool(self.paths) or self.output_path is not None

    def typed(self) -> TaskBase:
        """The task itself, with `file:` URLs for what is on this machine.

        Raises:
            InvalidTask: the parameters do not fit.
        """
        put = {} if self.output is None else {"output_url": _url(self.output)}
        return typed_task({"task": self.task, "params": dict(self.params), **self.fields({}, put)})

    def fields(self, urls: Mapping[str, str], output: Mapping[str, Any]) -> dict[str, Any]:
        """The task's fields that name its files.

        Args:
            urls: path in the task -> URL; a file that is not among them is named as it is.
            output: the fields that say where the output goes.
        """
        given = {path: _url(place) for path, place in self.files.items()} | dict(urls)
        found: dict[str, Any] = {field: given[field] for field in self.reads if field in given}
        if self.inputs is not None:
            found["inputs"] = {name: given[f"inputs.{name}"] for name in self.inputs}
        return found | dict(output)

    def check(self) -> TaskBase:
        """The task, after a search for what would fail after the upload.

        Raises:
            InvalidTask: the parameters do not fit.
            FileNotFoundError: an input is not there.
            OSError: as of `check_output_place`.
            ConfigError: the output would replace an input, or its suffix is no container that the
                task writes.
        """
        target = self.output_path
        if target is not None and target.absolute() in map(Path.absolute, self.paths.values()):
            raise ConfigError(f"{target.name} is the input; give the output a name of its own")
        task = self.typed()
        for path in self.paths.values():
            path.stat()
        if target is not None:
            check_output_place(target)
            suffixes = task.OUTPUT_SUFFIXES if isinstance(task, OutputTask) else None
            if suffixes is not None and target.suffix.lower() not in suffixes:
                known = ", ".join(sorted(suffixes - {""}))
                raise ConfigError(f"{target.name}: the name must end in one of {known}")
        return task


def _url(place: Place) -> str:
    return str(place) if is_url(place) else Path(place).absolute().as_uri()


@dataclass
class Staged:
    """A task whose files lie in the bucket."""

    task: TaskBase = field(repr=False)
    """For `Client.run`. Holds presigned URLs."""
    work: FileWork
    storage: Storage | None = None
    """None when the work names no path."""
    output_key: str | None = None
    parts: PartsUpload | None = None
    passing: list[str] = field(default_factory=list[str])
    """Keys of objects that only this work needs."""

    def collect(self, result: TaskResult, tell: Tell) -> None:
        """Downloads the output, when it goes to a path.

        Raises:
            StorageError, OSError: it did not come; it is kept, and the same call made again only
                fetches it.
        """
        target = self.work.output_path
        if self.storage is None or self.output_key is None or target is None:
            return
        if self.parts is not None and result.output_parts and not result.deduplicated:
            self.storage.complete_parts(self.parts, result.output_parts)
        self.storage.download(self.output_key, target, _telling(tell, "download", target))

    def clean_up(self) -> None:
        """Deletes what only this work needed. A failure is logged: the lifecycle rule of the prefix
        sees to the rest."""
        if self.storage is None:
            return
        try:
            if self.parts is not None:
                self.storage.abort_parts(self.parts)
            self.storage.delete(*self.passing)
        except StorageError as error:
            _log.warning("objects of a finished job were left in the bucket: %s", error)


def stage(
    work: FileWork, storage: Callable[[], Storage], policy: Policy | None, tell: Tell
) -> Staged:
    """Uploads the inputs that are paths and presigns what the worker needs.

    Args:
        work: checked here, before anything is sent.
        storage: gives the bucket; called only when a path is named.
        policy: of the job: the URLs live as long as the job may.
        tell: told of every `Transfer`.

    Raises:
        InvalidTask: the task does not fit; nothing was sent.
        ConfigError: a setting is missing or not valid.
        StorageError: the bucket refused a request or was not reached.
        OSError: an input cannot be read.
    """
    checked_policy(policy)
    task = work.check()
    return (
        _Stager(work, task, storage(), policy, tell).staged()
        if work.needs_bucket
        else Staged(task, work)
    )


class _Stager:
    """The steps of `stage` for work that needs a bucket."""

    def __init__(
        self, work: FileWork, task: TaskBase, storage: Storage, policy: Policy | None, tell: Tell
    ) -> None:
        self._work = work
        self._task = task
        self._storage = storage
        self._policy = policy
        self._tell = tell

    def staged(self) -> Staged:
        work, storage = self._work, self._storage
        paths = work.paths
        keys = {
            name: storage.upload(path, on_progress=_telling(self._tell, "upload", path))
            for name, path in paths.items()
        }
        name = _name_of(work, keys)
        result_key = storage.key("out", name, "result.json")
        staged = Staged(self._task, work, storage, passing=[result_key])
        if not storage.keep_inputs:
            staged.passing += keys.values()
        seconds = self._expiry()
        put = self._output(staged, name, seconds)
        self._forget_half_a_job(staged, result_key)
        urls = {path: storage.presign_get(key, seconds) for path, key in keys.items()}
        staged.task = type(self._task)(
            task=work.task,
            params=self._task.params,
            **work.fields(urls, put),
            idempotency_key=name,
            result_url=storage.presign_put(result_key, seconds),
            result_get_url=storage.presign_get(result_key, seconds),
        )
        return staged

    def _expiry(self) -> int:
        policy = self._policy or Policy.for_task(self._task)
        return min(MAX_EXPIRES_SECONDS, round(policy.ttl_seconds or DEFAULT_EXPIRES_SECONDS))

    def _output(self, staged: Staged, name: str, seconds: int) -> dict[str, Any]:
        """The task's fields that say where the output goes."""
        if self._work.output is None:
            return {}
        if (target := self._work.output_path) is None:
            return {"output_url": str(self._work.output)}
        staged.output_key = key = self._storage.key("out", name, f"output{target.suffix.lower()}")
        staged.passing.append(key)
        likely_bytes = OUTPUT_GROWTH * sum(
            path.stat().st_size for path in self._work.paths.values()
        )
        if likely_bytes <= SINGLE_PUT_BYTES:
            return {"output_url": self._storage.presign_put(key, seconds)}
        part_bytes = max(MIN_OUTPUT_PART_BYTES, -(-likely_bytes // OUTPUT_PARTS))
        staged.parts = self._storage.presign_parts(key, part_bytes, OUTPUT_PARTS, seconds)
        return {"output_multipart": staged.parts.multipart}

    def _forget_half_a_job(self, staged: Staged, result_key: str) -> None:
        """A result whose output is gone must not be taken for a finished job."""
        if staged.output_key is not None and self._storage.head(staged.output_key) is None:
            self._storage.delete(result_key)


def _name_of(work: FileWork, keys: Mapping[str, str]) -> str:
    """One name for one piece of work on one machine: the same call has it again. Random when an
    input is a URL, behind which there may be something else the next time."""
    if len(keys) < len(work.files):
        return uuid.uuid4().hex
    output = (
        None
        if work.output is None
        else str(work.output_path.absolute() if work.output_path else work.output)
    )
    identity = [work.task, work.params, sorted(keys.items()), output, platform.node()]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def _telling(
    tell: Tell, direction: Literal["upload", "download"], path: Path
) -> Callable[[int, int], object]:
    return lambda done, total: tell(Transfer(direction, path.name, done, total))
