"""From the URLs of a task to what the worker may read and write: the policy, and the check of a
whole task before any work.

Accepts a parsed task. Guarantees that every URL in the returned `TaskUrls` is well-formed, allowed
by the policy, signed in a way the store will take, alive for long enough, and that no output is an
input. Makes no connection and no name lookup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from gpu_worker.transfer.address import refusal
from gpu_worker.transfer.presign import signed_subset
from gpu_worker.transfer.presign_rules import Method, check_presign
from gpu_worker.transfer.safe_url import DEFAULT_PORTS, SafeUrl, literal_address, parse_url
from gpu_worker_client.protocol import (
    ErrorCode,
    InputTask,
    OutputMultipart,
    OutputTask,
    TaskBase,
    TaskError,
)
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.local.paths import (
    check_distinct,
    check_suffix,
    check_target,
    local_path,
)

INPUT_REMAINING_SECONDS = 30.0
"""An input is fetched first, so its URL needs to live only that long; a transfer under way outlives
its URL."""


@dataclass(frozen=True)
class UrlPolicy:
    """Which URLs may be used at all."""

    allowed_hosts: tuple[str, ...] = ()
    """Host suffixes, matched on whole labels: "r2.cloudflarestorage.com" allows that and
    "x.r2.cloudflarestorage.com". With ":port" that port is allowed too. Empty: any public host."""
    exempt_hosts: frozenset[str] = frozenset()
    """"host:port" entries that may be http, on that port, and private: the local platform names its
    own gate."""
    allow_local_files: bool = False
    """Whether `file:///path` and bare paths are taken for URLs. Never in the image."""

    def is_exempt(self, url: SafeUrl) -> bool:
        return url.endpoint in self.exempt_hosts

    def check(self, url: SafeUrl, where: str) -> None:
        """Raises `url_not_allowed` or `address_not_allowed`. Pure: names are resolved when they
        are dialled."""
        if self.is_exempt(url):
            return
        if url.scheme != "https":
            raise TaskError(
                ErrorCode.url_not_allowed, f"{where}: the URL must be https", path=where
            )
        address = literal_address(url.host)
        reason = refusal(address) if address is not None else None
        if reason is not None:
            raise TaskError(
                ErrorCode.address_not_allowed,
                f"{where}: the host is a {reason} address",
                path=where,
            )
        if self.allowed_hosts and not any(
            _host_matches(url, entry) for entry in self.allowed_hosts
        ):
            message = (
                f"{where}: the host is not among those this worker may use"
                f" ({', '.join(self.allowed_hosts)})"
            )
            raise TaskError(ErrorCode.url_not_allowed, message, path=where)
        if not self.allowed_hosts and url.port != DEFAULT_PORTS["https"]:
            raise TaskError(
                ErrorCode.url_not_allowed, f"{where}: only port 443 is allowed", path=where
            )


def _host_matches(url: SafeUrl, entry: str) -> bool:
    host, _, port = entry.lower().strip().lstrip(".").partition(":")
    on_port = url.port == (parse_integer(port) if port else DEFAULT_PORTS["https"])
    return on_port and (url.host == host or url.host.endswith(f".{host}"))


@dataclass(frozen=True)
class Source:
    """Something to read: a URL, or a local file where those are allowed."""

    location: SafeUrl | Path
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Signed into the URL, so sent with it. May hold encryption keys: not shown."""
    where: str = "input_url"
    """Where it stands in the task, for messages."""

    def __str__(self) -> str:
        return str(self.location)


@dataclass(frozen=True)
class Parts:
    """The URLs of one multipart upload."""

    part_size: int
    urls: tuple[SafeUrl, ...]
    """For parts 1, 2, 3, ..."""
    complete: SafeUrl | None


@dataclass(frozen=True)
class Target:
    """Somewhere to write: a URL, a local path, or the parts of a multipart upload."""

    location: SafeUrl | Path
    """For a multipart upload the first part's URL: it names the object."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    where: str = "output_url"
    """Where it stands in the task, for messages."""
    multipart: Parts | None = None

    @property
    def suffix(self) -> str:
        """Suffix of the object's name, ".mp4" for example; "" without one."""
        return self.location.suffix.lower()

    @property
    def name(self) -> str:
        """Last part of the path as a relative URL says it: percent-encoded, "my%20clip.mp4" for
        example."""
        if isinstance(self.location, SafeUrl):
            return quote(self.location.path.rpartition("/")[2], safe="%")
        return quote(self.location.name)

    def __str__(self) -> str:
        """What may be shown and answered: no query."""
        return str(self.location)


@dataclass(frozen=True)
class TaskUrls:
    """Everything a task reads and writes."""

    input: Source | None = None
    output: Target | None = None
    result: Target | None = None
    result_get: Source | None = None
    extra_inputs: Mapping[str, Source] = field(default_factory=dict[str, Source])
    """As `LocalJob.inputs`."""


def check_task(
    task: TaskBase, policy: UrlPolicy, *, now: datetime, min_remaining_seconds: float
) -> TaskUrls:
    """Checks every URL of a task before any work is done for it.

    Args:
        now: aware, UTC.
        min_remaining_seconds: how long the outputs' URLs must live: the longest this job may run.

    Raises:
        TaskError: `url_not_allowed`, `address_not_allowed`, `url_expired`, `url_denied` or
            `invalid_task`; the message starts with the field that holds the URL.
    """
    check = _TaskCheck(policy, now, min_remaining_seconds)
    headers = task.headers
    source = (
        check.source(task.input_url, "input_url", headers.input, "headers.input")
        if isinstance(task, InputTask)
        else None
    )
    output = (
        check.output(task, headers.output)
        if isinstance(task, OutputTask) and task.makes_a_file
        else None
    )
    result = (
        check.target(task.result_url, "result_url", headers.result, "headers.result")
        if task.result_url
        else None
    )
    earlier = check.earlier(task.result_get_url, headers.result) if task.result_get_url else None
    if output is not None and isinstance(task, OutputTask):
        check_suffix(task, output.suffix, output.where)
    extra_inputs = check.extra_inputs(task, headers.input)
    named = [
        found for found in (source, output, result, *extra_inputs.values()) if found is not None
    ]
    check_distinct([(found.where, found.location) for found in named], _same)
    return TaskUrls(source, output, result, earlier, extra_inputs)


@dataclass(frozen=True)
class _TaskCheck:
    """Checks one URL after the other under the same policy and clock."""

    policy: UrlPolicy
    now: datetime
    min_remaining_seconds: float

    def source(
        self, text: str, where: str, headers: Mapping[str, str], headers_field: str
    ) -> Source:
        location = self._location(text, where)
        if isinstance(location, SafeUrl):
            self._check(location, where, "GET", headers, headers_field)
        return Source(location, headers, where)

    def earlier(self, text: str, headers: Mapping[str, str]) -> Source:
        """The result's headers serve its PUT and its GET; each URL signed its own."""
        return self._with_its_own(text, "result_get_url", headers, "headers.result")

    def extra_inputs(self, task: TaskBase, headers: Mapping[str, str]) -> dict[str, Source]:
        """The input's headers serve all inputs; each URL signed its own."""
        urls = task.reads()
        return {
            name: self._with_its_own(urls[where], where, headers, "headers.input")
            for name, where in task.extra_inputs().items()
        }

    def _with_its_own(
        self, text: str, where: str, headers: Mapping[str, str], headers_field: str
    ) -> Source:
        location = self._location(text, where)
        if not isinstance(location, SafeUrl):
            return Source(location, {}, where)
        signed = signed_subset(location.presign, headers)
        self._check(location, where, "GET", signed, headers_field)
        return Source(location, signed, where)

    def target(
        self, text: str, where: str, headers: Mapping[str, str], headers_field: str
    ) -> Target:
        location = self._location(text, where)
        if isinstance(location, SafeUrl):
            self._check(location, where, "PUT", headers, headers_field)
        else:
            check_target(location, where)
        return Target(location, headers, where)

    def output(self, task: OutputTask, headers: Mapping[str, str]) -> Target:
        if task.output_multipart is not None:
            return self._multipart(task.output_multipart, headers)
        return self.target(task.output_url or "", "output_url", headers, "headers.output")

    def _multipart(self, upload: OutputMultipart, headers: Mapping[str, str]) -> Target:
        urls = tuple(self._part(part.url, part.n, headers) for part in upload.parts)
        complete = None
        if upload.complete is not None:
            complete = self._url(
                upload.complete.url, "output_multipart.complete.url", "POST", headers
            )
        return Target(urls[0], headers, "output_multipart", Parts(upload.part_size, urls, complete))

    def _part(self, text: str, n: int, headers: Mapping[str, str]) -> SafeUrl:
        where = f"output_multipart.parts.{n}.url"
        url = self._url(text, where, "PUT", headers)
        if url.presign is not None and url.presign.part_number not in (None, n):
            raise TaskError(
                ErrorCode.invalid_task,
                f"{where}: the URL was signed for another part number",
                path=where,
            )
        return url

    def _url(self, text: str, where: str, method: Method, headers: Mapping[str, str]) -> SafeUrl:
        """A URL of a multipart upload: never a local path, and only the headers it signed go with
        it."""
        url = parse_url(text, where)
        self.policy.check(url, where)
        self._check(url, where, method, signed_subset(url.presign, headers), "headers.output")
        return url

    def _check(
        self,
        url: SafeUrl,
        where: str,
        method: Method,
        headers: Mapping[str, str],
        headers_field: str,
    ) -> None:
        needed = (
            min(INPUT_REMAINING_SECONDS, self.min_remaining_seconds)
            if method == "GET"
            else self.min_remaining_seconds
        )
        check_presign(
            url,
            where,
            method=method,
            headers=headers,
            headers_field=headers_field,
            now=self.now,
            min_remaining_seconds=needed,
        )

    def _location(self, text: str, where: str) -> SafeUrl | Path:
        local = local_path(text, where)
        if local is None or not self.policy.allow_local_files:
            url = parse_url(text, where)
            self.policy.check(url, where)
            return url
        return local


def _same(first: SafeUrl | Path, second: SafeUrl | Path) -> bool:
    if isinstance(first, SafeUrl) and isinstance(second, SafeUrl):
        return first.same_object(second)
    return (
        isinstance(first, Path) and isinstance(second, Path) and first.resolve() == second.resolve()
    )
