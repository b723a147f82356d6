"""Where notes start: onset strength as librosa defines it, and a finer envelope for
exact times."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpu_worker_processors.beat.spectrum import (
    Floats,
    frame_count,
    magnitudes,
    mel_edges,
    mel_filters,
)
from gpu_worker_processors.beat.waveform_file import Spool

RATE_HZ = 22_050
"""librosa's default rate, to which every recording is brought."""
_KEEP_FRAMES = 1 << 15
"""16 MB of mel spectra; six minutes at the default hop."""
_N_FFT, _BANDS, _TOP_DB, _TINY = 2048, 128, 80.0, 1e-10
"""librosa's defaults: melspectrogram(n_fft, n_mels), power_to_db(top_db, amin)."""


def onset_strength(audio: Spool, hop: int) -> Floats:
    """librosa.onset.onset_strength(aggregate=np.median): float32 of shape (frames,), 0 and up, one
    per `hop` samples.

    The floor at 80 dB below the loudest band needs the whole audio: a long one is transformed
    twice, the spectra of a short one are reused.
    """
    flux = np.zeros(frame_count(audio.samples, hop), np.float32)
    spectra = list(_mel_power(audio, hop)) if len(flux) <= _KEEP_FRAMES else None
    floor = (
        10 * np.log10(max(float(power.max()) for power in spectra or _mel_power(audio, hop)))
        - _TOP_DB
    )
    done, before = 0, None
    for power in spectra or _mel_power(audio, hop):
        decibels = np.maximum(10 * np.log10(power), floor)
        rows = decibels if before is None else np.vstack([before, decibels])
        rise = np.median(np.maximum(0, np.diff(rows, axis=0)), axis=1)
        flux[done + len(decibels) - len(rise) : done + len(decibels)] = rise
        done, before = done + len(decibels), decibels[-1:]
    # librosa moves the envelope by half a window: `center=True` of onset_strength.
    late = _N_FFT // (2 * hop)
    return np.concatenate([np.zeros(late, np.float32), flux])[: len(flux)]


def _mel_power(audio: Spool, hop: int) -> Iterator[Floats]:
    """Batches of float32 (frames, bands), at least 1e-10."""
    filters = mel_filters(audio.rate, _N_FFT, _BANDS, 0.0, audio.rate / 2).T
    for spectrum in magnitudes(audio, _N_FFT, hop):
        yield np.maximum(np.square(spectrum) @ filters, np.float32(_TINY))


FINE_HOP = 128
"""Samples per value of the attack envelope: 5.8 ms."""
_FINE_FFT, _FINE_BANDS, _FINE_LOW_HZ, _FINE_HIGH_HZ = 1024, 40, 30.0, 10_000.0
_FINE_GAIN = 6.0
"""Magnitudes are compressed as log(1 + gain * x), x in units of the loud passages' magnitude: a
soft attack in a loud piece still counts, its noise floor does not."""
_LAG = 2
"""Frames over which a rise is measured: half the window of 1024 would be four, one is noisy."""


_HIGH_HZ = 4000.0
"""Bands around this and above hold cymbals, and of other instruments little but the stroke. Any
limit from 2.5 to 6 kHz finds the same beats in annotated music."""


def _band_weights() -> Floats:
    """Weights of the mel bands, float32 of shape (bands, 2), each column's sum 1: the square root
    of the band's width in octaves; in the second column only the high bands count.

    A kick drum or a bass carries the beat in few bands, hats between beats are spread over many.
    With equal weights of bands the hats would win, with equal weights of octaves the bass. This
    lies halfway.
    """
    edges = mel_edges(_FINE_BANDS, _FINE_LOW_HZ, _FINE_HIGH_HZ)
    weights = np.sqrt(np.log2(edges[2:] / edges[:-2]))
    columns = np.stack([weights, weights * (edges[1:-1] >= _HIGH_HZ)], axis=1)
    return (columns / columns.sum(axis=0)).astype(np.float32)


def attack_envelopes(audio: Spool, loud_rms: float) -> tuple[Floats, Floats]:
    """How strongly something new starts, fine in time, in all bands and in the high ones: each
    float32 of shape (frames,), 0 and up, one per `FINE_HOP` samples.

    The rise of each mel band over the loudest of it and its neighbours two frames before (so that
    vibrato is no onset, as in Boeck and Widmer's SuperFlux, 2013), averaged as square roots: many
    bands that rise a little are an attack, one is a tone.

    Args:
        audio: the decoded audio.
        loud_rms: of its loud passages.
    """
    filters = mel_filters(
        audio.rate, _FINE_FFT, _FINE_BANDS, _FINE_LOW_HZ, _FINE_HIGH_HZ, area=False
    ).T
    filters = filters * np.float32(_FINE_GAIN / (_FINE_FFT / 4 * max(loud_rms, 1e-9)))
    weights = _band_weights()
    held = np.zeros((_LAG, _FINE_BANDS), np.float32)
    parts = list[Floats]()
    for spectrum in magnitudes(audio, _FINE_FFT, FINE_HOP):
        rows = np.vstack([held, np.log1p(spectrum @ filters)])
        before = rows[:-_LAG].copy()
        before[:, 1:] = np.maximum(before[:, 1:], rows[:-_LAG, :-1])
        before[:, :-1] = np.maximum(before[:, :-1], rows[:-_LAG, 1:])
        parts.append(np.sqrt(np.maximum(0, rows[_LAG:] - before)) @ weights)
        held = rows[-_LAG:]
    envelopes = np.concatenate(parts).T
    envelopes[:, -1 - _FINE_FFT // 2 // FINE_HOP :] = (
        0  # the edge at which a file was cut off is no attack
    )
    whole, high = np.ascontiguousarray(envelopes)
    return whole, high
