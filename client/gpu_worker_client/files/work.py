"""A task on files as the caller asks for it: paths and URLs, checked before anything is sent; and
files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic

from typing_extensions import TypeVar

from gpu_worker_client.commands import Compilable, command_args, plainly_named
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.protocol import ErrorCode, OutputTask, TaskBase, TaskError, TaskResult
from gpu_worker_client.protocol.errors import job_error
from gpu_worker_client.protocol.parse import typed_task

if TYPE_CHECKING:  # importing the client loads no task
    from gpu_worker_client.protocol import RenderResult

FileOrUrl = str | PathLike[str]
"""A local path, or a URL: a text with `://` in it is a URL, anything else is a path."""

R_co = TypeVar("R_co", bound=TaskResult, covariant=True, default=TaskResult)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(file: FileOrUrl) -> bool:
    return isinstance(file, str) and _URL.match(file) is not None


@dataclass(frozen=True)
class FileWork(Generic[R_co]):
    """A task on files whose result is an `R_co`."""

    task: str
    params: Mapping[str, Any]
    reads: Mapping[str, FileOrUrl | None]
    """Task's field -> file: `input_url`, `tracks_url`. None leaves the field out."""
    inputs: Mapping[str, FileOrUrl] | None = None
    """Name -> file, of a task with several."""
    output: FileOrUrl | None = None

    @property
    def files(self) -> dict[str, FileOrUrl]:
        """Everything that is read, by its path in the task."""
        named = {f"inputs.{name}": file for name, file in (self.inputs or {}).items()}
        return {path: file for path, file in self.reads.items() if file is not None} | named

    @property
    def paths(self) -> dict[str, Path]:
        """What is read from this machine, by its path in the task."""
        return {name: Path(file) for name, file in self.files.items() if not is_url(file)}

    @property
    def output_path(self) -> Path | None:
        """Where the output shall appear on this machine."""
        return None if self.output is None or is_url(self.output) else Path(self.output)

    @property
    def needs_bucket(self) -> bool:
        """Whether a file of this machine is named."""
        return bool(self.paths) or self.output_path is not None

    @property
    def input_bytes(self) -> int:
        """What is read from this machine."""
        return sum(path.stat().st_size for path in self.paths.values())

    def as_task(self, urls: Mapping[str, str], fields: Mapping[str, Any]) -> TaskBase:
        """The task as it is sent, with `fields` besides. A file without a URL of its own in `urls`
        (path in the task -> URL) is named as it is, one of this machine by a `file:` URL. Raises
        InvalidTask: the parameters do not fit."""
        given = {path: _url(file) for path, file in self.files.items()} | dict(urls)
        named: dict[str, Any] = {field: given[field] for field in self.reads if field in given}
        if self.inputs is not None:
            named["inputs"] = {name: given[f"inputs.{name}"] for name in self.inputs}
        return typed_task({"task": self.task, "params": dict(self.params), **named, **fields})

    def check(self) -> TaskBase:
        """The task, after a search for what would fail after the upload.

        Raises:
            InvalidTask: the parameters do not fit.
            FileNotFoundError: an input is not there.
            OSError: as of `check_target`.
            ConfigError: as of it, or the output's suffix is no container that the task writes.
        """
        if (target := self.output_path) is not None:
            self.check_target(target)
        if self.task == "auto_crop" and self.output is None and not self.params.get("dry_run"):
            # The task's own sentence is about URLs.
            problem = "give an output path, or dry_run=True for coordinates only"
            raise job_error(TaskError(ErrorCode.invalid_task, problem).body())
        task = self.as_task({}, {} if self.output is None else {"output_url": _url(self.output)})
        for path in self.paths.values():
            path.stat()
        if target is not None:
            problem = task.suffix_problem(target.suffix) if isinstance(task, OutputTask) else None
            if problem is not None:
                raise ConfigError(f"{target.name}: {problem}")
        return task

    def check_target(self, path: Path) -> None:
        """Checks that a file can be written there, before anything is paid for. Raises ConfigError:
        it would replace an input; or FileNotFoundError, NotADirectoryError, IsADirectoryError."""
        if path.absolute() in map(Path.absolute, self.paths.values()):
            raise ConfigError(f"{path.name} is the input; give the output a name of its own")
        folder = path.absolute().parent
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "the output is a folder; name a file", str(path))
        if any(above.is_file() for above in (folder, *folder.parents)):
            problem = "a file stands where the output's folder should be"
            raise NotADirectoryError(errno.ENOTDIR, problem, str(path))
        if not folder.is_dir():
            problem = "the output's folder is not there; make it first"
            raise FileNotFoundError(errno.ENOENT, problem, str(path))


def _url(file: FileOrUrl) -> str:
    return str(file) if is_url(file) else Path(file).absolute().as_uri()


def render_work(
    command: Sequence[str] | Compilable,
    inputs: Mapping[str, FileOrUrl] | Sequence[FileOrUrl],
    output: FileOrUrl,
    require_hardware: bool,
) -> FileWork[RenderResult]:
    """
    Args:
        inputs: paths, which the command says by the names of their files, whatever those are; or
            names that the task takes.

    Raises:
        TypeError: the command is no list of words, or `inputs` is one text.
        ConfigError: two files in a list of paths have one name.
    """
    words, named = command_args(command), inputs
    if isinstance(named, str):
        raise TypeError("inputs is one text: give a list of paths, or a mapping of names")
    if not isinstance(named, Mapping):
        by_name = {Path(fspath(path)).name: path for path in named}
        if len(by_name) != len(named):
            raise ConfigError(
                "two inputs have the same file name: give a mapping with a name for each"
            )
        words, named = plainly_named(words, by_name, Path(fspath(output)).name)
    params = {"command_args": words, "require_hardware": require_hardware}
    return FileWork("render", params, {}, inputs=dict(named), output=output)


@contextmanager
def atomic_file(path: Path, mode: int = 0o644) -> Generator[BinaryIO]:
    """A file that appears under its name, with the rights `mode`, when the block ends well, and not
    at all otherwise. Raises OSError: its folder is not there, or cannot be written."""
    handle, name = tempfile.mkstemp(prefix=".gpu-worker-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
