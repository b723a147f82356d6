"""How far the audio of a file has come, by its samples and by its timestamps."""

from __future__ import annotations

from collections.abc import Sequence

from av.audio.frame import AudioFrame

from gpu_worker_processors.media.clock import ClockJump

_GAP_SECONDS = 0.05
"""A timestamp this much later than the audio so far is a gap; less is a muxer's rounding (FLV and
Matroska: 1 ms) or drift."""
_OVERLAP_SECONDS = 1.0
"""A timestamp that lies behind by less is of audio that overlaps, as where two files were
joined."""
_JOINT_SECONDS = 1.0
"""For so long after a jump of the clock every overlap and gap of more than half a frame counts, so
that those of many joints do not add up."""


class AudioTimeline:
    """Follows how much audio has been decoded, and finds the gaps that the timestamps show."""

    def __init__(self, listed_seconds: float | None, jumps: Sequence[ClockJump]) -> None:
        self._listed = listed_seconds
        self._jumps = jumps
        self._jumps_seen = 0
        self._strict_until = 0.0
        self._first: float | None = None
        self.seconds = 0.0
        """Length of the audio so far, gaps included."""

    def be_strict(self) -> None:
        """For a while every overlap and gap of more than half a frame counts."""
        self._strict_until = self.seconds + _JOINT_SECONDS

    def gap_before(self, frame: AudioFrame) -> float:
        """Seconds of silence to put before this frame; negative where it repeats audio, so
        that it is left out. A jump beyond the file's own length, or far back, is a new clock."""
        gap = 0.0
        if frame.pts is not None and frame.time_base is not None:
            at = float(frame.pts * frame.time_base)
            if self._first is None:
                self._first = at
            ahead = at - self._first - self.seconds
            inside = self._listed is not None and at - self._first <= self._listed + 1
            if len(self._jumps) > self._jumps_seen:
                self._jumps_seen = len(self._jumps)
                self.be_strict()
            strict = self.seconds < self._strict_until
            rounding = frame.samples / frame.sample_rate / 2 if strict else _GAP_SECONDS
            if ahead > rounding and inside:
                gap = ahead
            elif -_OVERLAP_SECONDS < ahead < -rounding:
                return ahead
            elif abs(ahead) > rounding:
                self._first = at - self.seconds
        self.seconds += gap + frame.samples / frame.sample_rate
        return gap
