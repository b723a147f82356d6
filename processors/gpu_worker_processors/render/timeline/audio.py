"""The audio of a timeline's video: each clip's cut to its samples, joined as the frames are, with
music under it.

All of it is stereo at 48 kHz in floats. A clip's audio has exactly the samples of its frames:
silence where the input has none, nothing beyond its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gpu_worker_client.protocol.timeline import Music
from gpu_worker_processors.render.timeline.graph import Graph, filter_text
from gpu_worker_processors.render.timeline.plan import (
    SAMPLE_RATE,
    PlacedClip,
    VideoPlan,
    exact,
    nearest,
)
from gpu_worker_processors.render.timeline.sources import TimelineSource
from gpu_worker_processors.render.timeline.video import fades_of, runs

_FORM = filter_text(
    "aformat", sample_fmts="fltp", sample_rates=SAMPLE_RATE, channel_layouts="stereo"
)
_COUNTED = "asetpts=N/SR/TB"
_DUCK_THRESHOLD = 10 ** (-45 / 20)
_DUCK_RATIO = 20
_DUCK_ATTACK_MS, _DUCK_RELEASE_MS = 20, 400
_SLOW_MOTION = Fraction(3, 5)
"""Below it the phases of the bins stay independent, which is more exact in time for short
signals and blurs voices a little."""
_CEILING = 10 ** (-2.5 / 20)
"""Of the true peak, 1 dB below what is promised: AAC's own noise adds to peaks."""
_OVERSAMPLED = 4 * SAMPLE_RATE
"""Where the peaks between samples are seen. ITU-R BS.1770, annex 2."""


def clip_audio(graph: Graph, pad: str | None, placed: PlacedClip, plan: VideoPlan) -> str:
    """The pad of a clip's audio.

    Args:
        pad: the input's audio stream, "0:1"; None for silence.
    """
    length = plan.sample_at(placed.end) - plan.sample_at(placed.first)
    if pad is None:
        return graph.chain([], [*silence(), filter_text("atrim", end_sample=length)])
    filters = [
        *_on_time(placed.source, placed.start),
        *stretched(placed.speed),
        *_gain(placed.clip.volume_db),
        *exactly(length),
        *_faded(placed, plan, length),
    ]
    return graph.chain([pad], filters)


def join_audio(graph: Graph, pads: Sequence[str], plan: VideoPlan) -> str:
    """The pad of all clips' audio, as long as the video to the sample."""
    joined = ""
    for run in runs(plan):
        part = pads[run[0]]
        if len(run) > 1:
            part = graph.chain(
                [pads[n] for n in run], [filter_text("concat", n=len(run), v=0, a=1)]
            )
        if not joined:
            joined = part
            continue
        first, frames = plan.clips[run[0]].first, plan.joins[run[0] - 1].dissolve
        samples = plan.sample_at(first + frames) - plan.sample_at(first)
        joined = graph.chain(
            [joined, part], [filter_text("acrossfade", ns=samples, c1="qsin", c2="qsin")]
        )
    return joined


def with_music(
    graph: Graph, audio: str, pad: str, music: Music, source: TimelineSource, plan: VideoPlan
) -> str:
    """The pad of the video's audio with music under it."""
    length = plan.sample_at(plan.frames)
    filters = [*_on_time(source, exact(music.start)), *_gain(music.gain_db), *exactly(length)]
    if music.fade_out_seconds:
        samples = min(length, nearest(exact(music.fade_out_seconds) * SAMPLE_RATE))
        filters.append(filter_text("afade", t="out", ss=length - samples, ns=samples))
    under = graph.chain([pad], filters)
    if music.duck_db is not None:
        audio, key = graph.add([audio], ["asplit"], outputs=2)
        under = graph.chain([under, key], [_ducked(music.duck_db)])
    return graph.chain([audio, under], ["amix=inputs=2:normalize=0:duration=first"])


def finished(graph: Graph, audio: str, gain_db: float | None, plan: VideoPlan) -> str:
    """The pad to encode, `gain_db` louder with its true peaks limited; None leaves it as it is."""
    if gain_db is None:
        return graph.chain([audio], [_FORM, _COUNTED])
    level = [
        filter_text("volume", f"{gain_db:.3f}dB"),
        filter_text("aresample", _OVERSAMPLED),
        filter_text("alimiter", limit=_CEILING, level="disabled", attack=5, release=50, latency=1),
        filter_text("aresample", SAMPLE_RATE),
    ]
    return graph.chain([audio], [*level, *exactly(plan.sample_at(plan.frames))])


def stretched(speed: Fraction) -> list[str]:
    """Filters that play audio at another speed and preserve its pitch and its position in time.

    The audio is dithered first: in digital silence Rubber Band starts anew, and what follows would
    be shifted.
    """
    if speed == 1:
        return []
    dithered = filter_text("aresample", osf="s16", dither_method="triangular")
    return [dithered, *(text for stage in _stages(speed) for text in _stage(stage))]


def _stages(speed: Fraction) -> list[Fraction]:
    """Speeds whose product it is. Above 2 Rubber Band is less exact than 2 times 2."""
    return [speed] if speed <= 2 else [Fraction(2), *_stages(speed / 2)]


def _stage(speed: Fraction) -> list[str]:
    """Without its care for attacks: it sees one in every other window of a steady low tone, and
    what it does to keep it throws the tone off its pitch (440 Hz became 447 at twice the speed)."""
    lead = standstill(speed)
    phase = "independent" if speed < _SLOW_MOTION else "laminar"
    return [
        filter_text("adelay", delays=f"{lead}S", all=1),
        filter_text(
            "rubberband", tempo=float(speed), transients="smooth", window="short", phase=phase
        ),
        filter_text("atrim", start_sample=lead),
        _COUNTED,
    ]


def standstill(speed: Fraction) -> int:
    """Samples into the audio at which Rubber Band's time stands still, where it should at 0: with
    its short window a sample at t comes out at t / speed + standstill * (1 - 1 / speed). By design
    that is half the window of 1024. These were measured with bursts of 0.3, 1 and 3 kHz, noise and
    clicks, in silence and in noise. What is left is below 5 ms at 0.5, 2 and 4 for nearly all of
    them and at 0.25 for most (8 ms at worst), and up to 18 ms around 0.4."""
    if speed < _SLOW_MOTION:
        return 228 if speed < Fraction(3, 8) else 530
    return 400 if speed < 1 else 290 if speed < Fraction(7, 4) else 160


def exactly(samples: int) -> list[str]:
    """Filters that give audio exactly that many samples, counted from 0."""
    return [
        _FORM,
        filter_text("apad", whole_len=samples),
        filter_text("atrim", end_sample=samples),
        _COUNTED,
    ]


def silence() -> list[str]:
    return [filter_text("anullsrc", channel_layout="stereo", sample_rate=SAMPLE_RATE), _FORM]


def _on_time(source: TimelineSource, start: Fraction) -> list[str]:
    """Filters after which sample 0 is the source's audio at `start` seconds; gaps in it are
    silence."""
    offset = float(source.origin_seconds + start)
    return [
        filter_text("asetpts", f"PTS-({offset:.9f})/TB"),
        filter_text("aresample", SAMPLE_RATE, first_pts=0, **{"async": 1}),
    ]


def _gain(decibels: float) -> list[str]:
    if decibels <= -90:
        return ["volume=0"]
    return [filter_text("volume", f"{decibels:.3f}dB")] if decibels else []


def _faded(placed: PlacedClip, plan: VideoPlan, length: int) -> list[str]:
    fade_in, fade_out = fades_of(placed, plan)
    first = plan.sample_at(placed.first)
    samples_in = plan.sample_at(placed.first + fade_in) - first
    start_out = plan.sample_at(placed.end - fade_out) - first
    filters = [filter_text("afade", t="in", ss=0, ns=samples_in)] if fade_in else []
    return filters + (
        [filter_text("afade", t="out", ss=start_out, ns=length - start_out)] if fade_out else []
    )


def _ducked(decibels: float) -> str:
    """A compressor keyed by the clips. Its ratio takes the music far down wherever they are above
    the threshold; mixing the rest of it back in is what bounds the step to so many decibels."""
    return filter_text(
        "sidechaincompress",
        threshold=_DUCK_THRESHOLD,
        ratio=_DUCK_RATIO,
        attack=_DUCK_ATTACK_MS,
        release=_DUCK_RELEASE_MS,
        mix=1 - 10 ** (-decibels / 20),
    )
