"""beat: where the music hits, how fast it is and how loud, from the audio of a video or an audio
file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gpu_worker_client.protocol.base import CONTAINERS, AnsweredBy, Many, ResponseModel
from gpu_worker_client.protocol.result import Stats, TaskResult
from gpu_worker_client.protocol.task import OnDamage, OptionalFileTask, RequestModel

ANALYSIS_RATE_HZ = 22_050
"""All audio is resampled to this rate, librosa's and Beat This!'s."""
MIN_BPM, MAX_BPM = 30.0, 300.0
"""Slowest and fastest tempo that is considered."""

Bpm = Annotated[float, Field(ge=MIN_BPM, le=MAX_BPM)]


class BeatParams(RequestModel):
    hop_length: int = Field(default=512, ge=64, le=4096)
    """Samples at 22,050 Hz from one value of onset strength to the next when the tempo is
    estimated. Beat times are exact to milliseconds whatever it is."""
    energy_hz: float = Field(default=10.0, gt=0, le=100)
    """Values of `energy` per second."""
    engine: Literal["librosa", "beat_this"] = "librosa"
    """`librosa`: onset strength and tempo as that library defines them, beats followed through
    changes of tempo and moved onto the attack; where bass and cymbals differ, onto that of the
    steadier. `beat_this`: the network of that name, which finds downbeats as well; needs its
    weights."""
    model: Literal["small", "final"] = "final"
    """Weights of `beat_this`: `small` 8 MB, `final` 78 MB and somewhat better. Without effect on
    the other engine."""
    audio_stream: int | None = Field(default=None, ge=0, le=63)
    """Which of the file's audio streams to listen to, counted from 0. None: what players take, the
    default one of the video's programme and no audio description; the next where that is silent."""
    bpm: Bpm | None = None
    """The tempo, when it is known: beats are searched near it."""
    min_bpm: Bpm = 40.0
    """No slower tempo is considered."""
    max_bpm: Bpm = MAX_BPM
    """No faster tempo is considered; at least 1.5 times `min_bpm`."""
    onsets: bool = False
    """Answer `onsets` as well: every attack, on a beat or not."""
    on_damage: OnDamage = "fail"
    """`fail`: damaged or cut-off audio is `corrupt_media`. `conceal`: what can be decoded is taken,
    the rest is silent, and the warning `damage_concealed` gives the count of damaged spots and
    where they are."""

    def _problems(self) -> Iterator[str]:
        if self.max_bpm < 1.5 * self.min_bpm:
            yield "max_bpm must be at least 1.5 times min_bpm; give bpm for a known tempo"
        if self.bpm is not None and not self.min_bpm <= self.bpm <= self.max_bpm:
            yield "bpm must lie between min_bpm and max_bpm"


class Energy(ResponseModel):
    """Loudness over time."""

    times: Many[float] = []
    """Seconds; the middle of each window of 1 / `energy_hz`."""
    rms: Many[float] = []
    """Root mean square of the window, 0 to 1 of full scale."""


class TempoCandidate(ResponseModel):
    bpm: float
    """Beats per minute."""
    score: float
    """Share of the evidence, 0 to 1; over all candidates they sum to 1."""


class BeatStats(Stats):
    beats: int = 0
    """Length of `beat_times`."""
    codec: str | None = None
    """Codec of the audio stream."""
    source_sample_rate: int | None = None
    """Hz, as stored."""
    channels: int | None = None
    """As stored; the mean of them is analysed, and none cancels another."""
    audio_stream: int = 0
    """Which of the file's audio streams was analysed, counted from 0."""


class BeatResult(TaskResult):
    task: Literal["beat"] = "beat"
    tempo: float = 0.0
    """Beats per minute, the middle of the piece's beats; 0 when there is no beat, as in noise."""
    beat_times: Many[float] = []
    """Seconds, rising: from the first frame in a video, from the first sample in an audio file."""
    confidence: Many[float] = []
    """0 to 1 for each beat: whether there is an attack, how well it fits its neighbours, and how
    clear the pulse of the whole piece is."""
    downbeats: Many[float] | None = None
    """Times of the first beats of bars, each one of `beat_times`. None from an engine that does not
    know them."""
    onsets: Many[float] | None = None
    """Times of all attacks, when asked for."""
    tempo_candidates: Many[TempoCandidate] = []
    """The likeliest tempos, best first. Halves, doubles, thirds, quarters and dotted values of the
    answer are always among them: which of them is the beat is the usual doubt."""
    energy: Energy = Energy.model_construct()
    """How loud it is over time."""
    duration: float = 0.0
    """Seconds of audio, gaps and a late start included."""
    sample_rate: int = ANALYSIS_RATE_HZ
    """Hz of the audio that was analysed."""
    stats: BeatStats


AUDIO_CONTAINERS = CONTAINERS | {
    ".m4a": "mp4",
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".ogg": "ogg",
}
"""Suffix of a mix-down -> FFmpeg's muxer."""


class BeatTask(OptionalFileTask, AnsweredBy[BeatResult]):
    """With `output_url` a mix-down comes as well: the audio with a click on every beat, for the ear
    to judge. The name's suffix chooses the format: .wav, .flac, .mp3, .m4a, .ogg, or a video's for
    AAC."""

    OUTPUT_SUFFIXES: ClassVar[frozenset[str] | None] = frozenset({"", *AUDIO_CONTAINERS})
    task: Literal["beat"] = "beat"
    params: BeatParams = BeatParams.model_construct()


def save_analysis(result: BeatResult, path: str | Path) -> Path:
    """Writes `analysis.json`: `tempo`, `beat_times`, `energy{times, rms}`, `duration`,
    `sample_rate`."""
    fields = {"tempo", "beat_times", "energy", "duration", "sample_rate"}
    text = json.dumps(result.model_dump(include=fields), indent=2, allow_nan=False)
    target = Path(path)
    target.write_text(text + "\n", encoding="utf-8")
    return target
