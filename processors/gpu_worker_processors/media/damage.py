"""What was damaged in a video or its audio that was decoded all the same, for the caller of a
task."""

from __future__ import annotations

from gpu_worker_client.protocol import ResultWarning

_JOINED_SECONDS = 1.0
"""Damage nearer to each other is one: the frames that refer to a damaged one are damaged too."""
_MOST_SPANS = 20
"""Named in the warning; more would be a report, not a warning."""


class Damage:
    """Collects what is damaged while a stream is decoded.

    Args:
        what: "video" or "audio".
    """

    def __init__(self, what: str = "video") -> None:
        self._what = what
        self.count = 0
        """Packets that could not be decoded, and frames with errors."""
        self._spans: list[tuple[float, float]] = []
        self._missing: list[str] = []

    def add(self, seconds: float) -> None:
        """A packet or frame at a time from the first frame."""
        self.count += 1
        if self._spans and seconds - self._spans[-1][1] <= _JOINED_SECONDS:
            self._spans[-1] = self._spans[-1][0], max(seconds, self._spans[-1][1])
        else:
            self._spans.append((seconds, seconds))

    def end_early(self, what: str) -> None:
        """The file breaks off: in words of the error that it would have been."""
        self._missing.append(what)

    @property
    def warnings(self) -> list[ResultWarning]:
        if not self.count and not self._missing:
            return []
        shown = [f"{start:.2f}-{end:.2f} s" for start, end in self._spans[:_MOST_SPANS]]
        if len(self._spans) > _MOST_SPANS:
            shown.append(f"and {len(self._spans) - _MOST_SPANS} more")
        what = [f"{self.count} damaged packets or frames ({', '.join(shown)})"] if shown else []
        found = "; ".join(what + self._missing)
        message = f"the {self._what} is damaged and was decoded all the same: {found}"
        return [ResultWarning(code="damage_concealed", message=message)]
