"""Why a word of a command is refused, and where that becomes an answer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from gpu_worker_client.protocol import ErrorCode, TaskError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,39}")


class Denied(Exception):
    """A word, or a part of one, that is not in the tables.

    Args:
        reason: a clause that says what is not allowed, and what is; never the caller's text but for
            what has the form of a name.
        name: what was written, when it should have been one of `allowed`.
        allowed: names among which the nearest is sought.
    """

    def __init__(self, reason: str, name: str = "", allowed: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nearest = nearest(name, allowed)

    def within(self, context: str) -> Denied:
        """The same with where it was found in front: "in the filter scale"."""
        outer = Denied(f"{context}: {self.reason}")
        outer.nearest = self.nearest
        return outer


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like `name`, however far; None when there is no name to compare."""
    by_lower = {known.lower(): known for known in allowed}
    close = difflib.get_close_matches(name[:64].lower(), by_lower, n=1, cutoff=0)
    return by_lower[close[0]] if close and name else None


def shown(name: str) -> str:
    """A name as it may stand in a message; text that has not the form of one is not echoed."""
    return f'"{name}"' if _NAME.fullmatch(name) else "of that name"


@contextmanager
def at_token(index: int) -> Generator[None]:
    """Turns a `Denied` inside into the task's error.

    Args:
        index: 0-based position of the word in `command_args`.

    Raises:
        TaskError: `ffmpeg_arg_denied` with `token_index`, `reason` and `nearest` in its details.
    """
    try:
        yield
    except Denied as denied:
        hint = f'; the nearest allowed is "{denied.nearest}"' if denied.nearest else ""
        raise TaskError(
            ErrorCode.ffmpeg_arg_denied,
            f"command_args[{index}]: {denied.reason}{hint}",
            token_index=index,
            reason=denied.reason,
            nearest=denied.nearest,
        ) from None
