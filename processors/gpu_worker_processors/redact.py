"""Keeps signatures and secrets out of logs, tracebacks and messages.

`scrub` cleans one text. `install` makes every log record of this process pass through it, message
and traceback alike, whichever handler prints it, and silences the libraries that log whole URLs. It
does not replace the first rule, which is to put no secret into a text.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, TextIO

from gpu_worker_client.protocol.foreign import MASK, redact

MIN_SECRET_CHARS = 8
"""A shorter value would blank out ordinary words."""
CHATTY_LOGGERS = (
    "urllib3",
    "requests",
    "httpx",
    "httpcore",
    "botocore",
    "boto3",
    "s3transfer",
    "aiohttp",
    "asyncio",
)
"""At INFO or DEBUG each of these prints URLs with their query, or headers with a token."""

_SECRET_NAME = re.compile(
    r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|SIGNATURE|AUTH", re.IGNORECASE
)


class _Known:
    """Secret values of the environment, longest first so that none is left half covered."""

    values: tuple[str, ...] = ()


def secret_values(env: Mapping[str, str]) -> tuple[str, ...]:
    """The values in an environment that must never be shown, by their variables' names."""
    found = {
        value
        for name, value in env.items()
        if _SECRET_NAME.search(name) and len(value) >= MIN_SECRET_CHARS
    }
    return tuple(sorted(found, key=len, reverse=True))


def scrub(text: str) -> str:
    """The text without URL queries, fragments, user info, signing parameters, tokens and known
    secrets."""
    for value in _Known.values:
        text = text.replace(value, MASK)
    return redact(text, query=f"?{MASK}")


def clean_record(record: logging.LogRecord) -> logging.LogRecord:
    """Scrubs message, traceback and stack in the record itself."""
    try:
        record.msg = scrub(record.getMessage())
    except (TypeError, ValueError, KeyError):
        record.msg = scrub(f"{record.msg} (arguments do not fit the format)")
    record.args = None
    if record.exc_info and not record.exc_text:
        record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    if record.exc_text:
        record.exc_text = scrub(record.exc_text)
    if record.stack_info:
        record.stack_info = scrub(record.stack_info)
    return record


class RedactingFilter(logging.Filter):
    """For a handler that must be safe on its own, without `install`."""

    def filter(self, record: logging.LogRecord) -> bool:
        clean_record(record)
        return True


class _ScrubbedStream(io.TextIOBase):
    """A text stream whose writes are scrubbed: the RunPod SDK prints instead of logging."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(scrub(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def buffer(self) -> Any:
        return getattr(self._stream, "buffer")  # noqa: B009  (absent on some text streams)


def install(env: Mapping[str, str] | None = None, *, streams: bool = False) -> None:
    """Redacts everything this process logs from now on. Calling it again replaces the secrets.

    Args:
        env: the environment whose secret values are to be hidden; this process's own when None.
        streams: also scrub what is printed to stdout and stderr.
    """
    _Known.values = secret_values(os.environ if env is None else env)
    logging.setLogRecordFactory(_clean_factory)
    for name in CHATTY_LOGGERS:
        _at_least(logging.getLogger(name), logging.WARNING)
    sys.excepthook = _print_uncaught
    threading.excepthook = _print_uncaught_in_thread
    if streams:
        sys.stdout, sys.stderr = _scrubbed(sys.stdout), _scrubbed(sys.stderr)


def _clean_factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
    return clean_record(logging.LogRecord(*args, **kwargs))


def _at_least(logger: logging.Logger, level: int) -> None:
    if logger.level < level:
        logger.setLevel(level)


def _scrubbed(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, _ScrubbedStream) else _ScrubbedStream(stream)  # type: ignore[return-value]


def _print_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    _print_scrubbed(traceback.format_exception(kind, error, trace))


def _print_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        _print_scrubbed(
            traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
        )


def _print_scrubbed(lines: Iterable[str]) -> None:
    sys.stderr.write(scrub("".join(lines)))
