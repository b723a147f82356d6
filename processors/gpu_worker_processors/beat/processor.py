"""The beat task: tempo, beat times, downbeats where the engine knows them, onsets, loudness, and a
mix-down to listen to.

The audio is decoded once into a file of the job's directory and read from there a piece at a time:
memory hardly grows with the length. Light on import: PyAV and NumPy come in when a job runs. No
compiler is started and no large library loaded, so the first answer of a fresh process takes hardly
longer than the next.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING

from gpu_worker_client.protocol.beat import BeatParams, BeatResult, BeatStats
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.models.weights import WeightStore

if TYPE_CHECKING:
    from gpu_worker_processors.beat.findings import Findings
    from gpu_worker_processors.beat.waveform_file import Spool
    from gpu_worker_processors.media.audio import AudioSource

WEIGHTS = {"small": "beat_this_small", "final": "beat_this_final"}
"""`BeatParams.model` -> name in the manifest."""

_AUDIBLE = 10 ** (-70 / 20)
"""Peak, 70 dB below full scale, above the dither and the noise of an input without a plug."""


class BeatProcessor:
    """See `base.Processor`."""

    name = "beat"

    def required_weights(self, params: BeatParams, inputs: Collection[str] = ()) -> tuple[str, ...]:
        return (WEIGHTS[params.model],) if params.engine == "beat_this" else ()

    def prepare(self, job: LocalJob) -> None:
        """Imports what `run` needs, and loads the network of `beat_this`."""
        for name in ("media.audio", "beat.findings", "beat.energy", "beat.click"):
            import_module(f"gpu_worker_processors.{name}")
        if job.params.engine == "beat_this":
            _network(job)

    def run(self, job: LocalJob) -> BeatResult:
        from gpu_worker_processors.beat.energy import energy

        started = time.monotonic()
        params: BeatParams = job.params
        audio, spool = _audible(job)
        found = _findings(job, spool)
        loudness = energy(spool, params.energy_hz)
        spool.path.unlink()
        if job.output_path is not None:
            _mix_down(job, audio, found)
        job.warnings.extend(audio.warnings)
        return BeatResult(
            tempo=found.tempo,
            beat_times=found.beats,
            confidence=found.confidence,
            downbeats=found.downbeats,
            onsets=found.onsets if params.onsets else None,
            tempo_candidates=found.candidates,
            energy=loudness,
            duration=round(spool.seconds, 6),
            stats=BeatStats(
                processing_time_sec=round(time.monotonic() - started, 3),
                beats=len(found.beats),
                codec=audio.codec,
                source_sample_rate=audio.sample_rate,
                channels=audio.channels,
                audio_stream=audio.number,
            ),
        )


def _audible(job: LocalJob) -> tuple[AudioSource, Spool]:
    """The likeliest audio stream that is not silent, or the likeliest one; decoded."""
    from gpu_worker_client.protocol import ResultWarning
    from gpu_worker_processors.media.audio import audio_sources

    sources = audio_sources(job.require_input(), job.params.audio_stream, job.limits)
    first = sources[0]
    spool = _decoded(job, first)
    for audio in sources[1:] if spool.peak < _AUDIBLE else ():
        spool = _decoded(job, audio)
        if spool.peak >= _AUDIBLE:
            message = f"audio stream {first.number} is silent; stream {audio.number} was analysed"
            job.warnings.append(ResultWarning(code="audio_stream_silent", message=message))
            return audio, spool
    return first, spool if len(sources) == 1 or spool.peak >= _AUDIBLE else _decoded(job, first)


def _decoded(job: LocalJob, audio: AudioSource) -> Spool:
    from gpu_worker_client.protocol.beat import ANALYSIS_RATE_HZ
    from gpu_worker_processors.beat.waveform_file import Spool
    from gpu_worker_processors.media.audio import AudioReader

    total = round(audio.duration_seconds) if audio.duration_seconds else None
    seconds = 0.0

    def counted():  # noqa: ANN202 - a generator of Samples
        nonlocal seconds
        for block in AudioReader(audio, ANALYSIS_RATE_HZ, job.limits):
            seconds += len(block) / ANALYSIS_RATE_HZ
            job.progress("process", round(seconds), total, "seconds")
            yield block

    return Spool.write(job.work_dir / "mono.f32", ANALYSIS_RATE_HZ, counted())


def _findings(job: LocalJob, spool: Spool) -> Findings:
    from gpu_worker_processors.beat.findings import by_network, by_onsets

    if job.params.engine == "librosa":
        return by_onsets(spool, job.params)
    network = _network(job)
    return by_network(
        spool, network, lambda done, total: job.progress("process", done, total, "frames")
    )


def _network(job: LocalJob):  # noqa: ANN202 - beat_this.Network, a module that the parent must not import
    from gpu_worker_processors.beat.beat_this import load

    weights = WeightStore.of(job.settings).resolve(WEIGHTS[job.params.model])
    return load(weights.path, job.settings.device != "cpu")


def _mix_down(job: LocalJob, audio: AudioSource, found: Findings) -> None:
    from gpu_worker_processors.beat.click import write_click_track

    job.progress("encode", 0, None, "seconds")
    write_click_track(audio, found.beats, found.downbeats or [], job.require_output(), job.limits)


PROCESSOR = BeatProcessor()
