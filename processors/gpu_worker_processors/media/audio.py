"""The audio of a media file as one mono signal at one rate, in blocks, in memory that does not
depend on its length.

Accepts any file that `sniff` knows, video or audio. Time 0 is the first frame of the video where
there is one and the first sample otherwise, so times in the audio are times of the video. Audio
before time 0 is cut; a late start and gaps are filled with silence. Damage is a typed error; only
a broken last second, which players skip too, is a warning. With `on_damage="conceal"` all damage is
a warning that says where, and what cannot be decoded is silent.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.audio_length import audio_length
from gpu_worker_processors.media.audio_timeline import AudioTimeline
from gpu_worker_processors.media.clock import ClockJump, continuous, jump_warnings
from gpu_worker_processors.media.container import admitted, opened
from gpu_worker_processors.media.damage import Damage
from gpu_worker_processors.media.decoders import AUDIO_DECODERS
from gpu_worker_processors.media.downmix import Downmix, Samples
from gpu_worker_processors.media.probe import pick_video, stated_seconds
from gpu_worker_processors.media.programs import foreign_ids
from gpu_worker_processors.media.sniff import Kind
from gpu_worker_processors.media.truncation import missing_bytes

MAX_SECONDS = 12 * 3600.0
"""Longest audio that is analysed; a header that claims more is wrong or hostile."""
RATES_HZ = range(2_000, 768_001)
"""From the poorest telephone to the finest studio. A file of 100 kB that claims 1 Hz would last a
day."""
MAX_CHANNELS = 64
"""FFmpeg's resampler takes no more (SWR_CH_MAX)."""
_TAIL_SECONDS = 1.0
"""Damage in the last second is a cut-off download's or an editor's: what lies before it is
whole."""
_EXACT_LENGTH = frozenset({"mov", "wav", "w64", "flac", "aiff", "caf"})
"""Containers whose header says how long the audio is. MP3 and ADTS are guessed from the bit
rate."""
_ASIDE = (
    Disposition.visual_impaired
    | Disposition.descriptions
    | Disposition.hearing_impaired
    | Disposition.comment
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.dependent
)
"""What is made for some listeners or to be mixed with another stream, and is not the main audio."""
_GAPLESS = frozenset({"wav", "w64", "flac", "aiff", "caf"})
"""Containers without timestamps of their own: a gap in them is damage that the parser
skipped."""


@dataclass
class AudioSource:
    """One audio stream of a file, and the warnings that reading it gave."""

    path: Path
    kind: Kind
    index: int
    """Index of the stream in the container."""
    number: int
    """Of the stream among the audio streams, from 0."""
    codec: str
    sample_rate: int
    """Hz, as stored in the file."""
    channels: int
    duration_seconds: float | None
    """Length that the header states; None when it states none."""
    start_seconds: float
    """Where the audio begins on the file's timeline, from time 0; negative when before it."""
    warnings: list[ResultWarning] = field(default_factory=list[ResultWarning])
    """Filled while reading."""


def find_audio(path: Path, stream: int | None = None, limits: Limits = Limits()) -> AudioSource:  # noqa: B008 - frozen dataclass
    """The first of `audio_sources`."""
    return audio_sources(path, stream, limits)[0]


def audio_sources(path: Path, stream: int | None, limits: Limits) -> list[AudioSource]:
    """The audio stream of that number, counted from 0 among the audio streams; None: all that may
    be meant, the likeliest first.

    Likeliest is what players take: of the programme of the video, not an audio description or
    commentary, marked as default.

    Raises:
        TaskError: `not_media`, `unsupported_media`, `corrupt_media`, `no_audio_stream`,
            `media_limit`.
    """
    kind = admitted(path, limits)
    with opened(path, kind, limits) as container:
        found = _candidates(container, path, kind, stream)
        readable = [one for one in found if _codec(one) in AUDIO_DECODERS]
        return [_source(container, path, kind, one) for one in readable or found]


def _codec(stream: AudioStream) -> str:
    context = stream.codec_context
    return context.name if cast(Any, context) is not None else "unknown"


def _source(container: InputContainer, path: Path, kind: Kind, stream: AudioStream) -> AudioSource:
    name, context = _codec(stream), stream.codec_context
    if name not in AUDIO_DECODERS:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"the audio codec `{name}` is not supported; re-encode to AAC, MP3, Opus, Vorbis,"
            " FLAC or PCM",
            codec=name,
        )
    if context.sample_rate not in RATES_HZ or not 1 <= context.channels <= MAX_CHANNELS:
        raise TaskError(
            ErrorCode.unsupported_media,
            f"the sound has {context.channels} channels at {context.sample_rate} Hz; "
            f"allowed are 1 to {MAX_CHANNELS} channels at {RATES_HZ[0]} to {RATES_HZ[-1]} Hz",
            sample_rate=context.sample_rate,
            channels=context.channels,
        )
    return AudioSource(
        path,
        kind,
        stream.index,
        [one.index for one in container.streams.audio].index(stream.index),
        name,
        context.sample_rate,
        context.channels,
        _announced_seconds(path, kind, stream)
        or stated_seconds(path, kind, stream)
        or stated_seconds(path, kind, container),
        _start(container, stream),
    )


def _candidates(
    container: InputContainer, path: Path, kind: Kind, number: int | None
) -> list[AudioStream]:
    streams = list(container.streams.audio)
    if not streams:
        raise TaskError(
            ErrorCode.no_audio_stream, "the input has no audio stream; this task listens to one"
        )
    if number is None:
        video = pick_video(container)
        foreign = foreign_ids(path, kind, video.id) if video is not None else frozenset[int]()
        own = [stream for stream in streams if stream.id not in foreign]
        return sorted(own or streams, key=_unlikeliness)
    if number >= len(streams):
        raise TaskError(
            ErrorCode.no_audio_stream,
            f"audio_stream {number} does not exist: the input has {len(streams)}, counted from 0",
            streams=len(streams),
        )
    return [streams[number]]


def _unlikeliness(stream: AudioStream) -> tuple[bool, bool]:
    return bool(stream.disposition & _ASIDE), not stream.disposition & Disposition.default


def _announced_seconds(path: Path, kind: Kind, stream: AudioStream) -> float:
    """What a WAV or AIFF header says, where FFmpeg says how long the rest of the file is; 0 when it
    says nothing."""
    bits = stream.codec_context.bit_rate
    return audio_length(path, kind).announced_bytes * 8 / bits if bits else 0.0


def _start(container: InputContainer, stream: AudioStream) -> float:
    video = pick_video(container)
    if video is None or video.start_time is None or stream.start_time is None:
        return 0.0
    assert video.time_base is not None and stream.time_base is not None, (
        "set for every demuxed stream"
    )
    return float(stream.start_time * stream.time_base - video.start_time * video.time_base)


class AudioReader:
    """Iterates an audio stream as blocks of mono samples. Each `iter()` opens the file anew.

    Args:
        audio: from `find_audio`.
        rate: Hz of the samples that come out.
        limits: of the job.
    """

    def __init__(self, audio: AudioSource, rate: int, limits: Limits = Limits()) -> None:  # noqa: B008
        self._audio = audio
        self._rate = rate
        self._limits = limits
        self._damage = Damage("audio")

    def __iter__(self) -> Iterator[Samples]:
        """
        Raises:
            TaskError: `corrupt_media`, `media_limit`.
        """
        made = 0
        skip = round(max(0.0, -self._audio.start_seconds) * self._rate)
        for block in self._aligned():
            if skip:
                skip, block = skip - min(skip, len(block)), block[skip:]
            made += len(block)
            if made > MAX_SECONDS * self._rate:
                raise TaskError(
                    ErrorCode.media_limit,
                    f"the sound is longer than {MAX_SECONDS / 3600:.0f} hours",
                    limit=MAX_SECONDS,
                )
            if len(block):
                yield block

    def _aligned(self) -> Iterator[Samples]:
        """Blocks of the whole stream, late start and gaps filled."""
        late = min(self._audio.start_seconds, MAX_SECONDS)
        if late > 0:
            yield from _silence(round(late * self._rate))
        mixer = Downmix(self._rate)
        self._damage = Damage("audio")
        if self._conceals and (missing := missing_bytes(self._audio.path, self._audio.kind)):
            self._damage.end_early(f"at least {missing} bytes are missing at the end of the file")
        with opened(self._audio.path, self._audio.kind, self._limits) as container:
            stream = container.streams[self._audio.index]
            assert isinstance(stream, AudioStream), "find_audio picked it"
            jumps: list[ClockJump] = []
            timeline = AudioTimeline(self._audio.duration_seconds, jumps)
            gapless = self._audio.kind.demuxer in _GAPLESS
            for frame in self._frames(container, stream, jumps, timeline):
                gap = timeline.gap_before(frame)
                if gap < 0:
                    continue
                if gap and gapless:
                    self._judge_gap(timeline.seconds, gap)
                if gap:
                    yield from mixer.flush()
                    yield from _silence(round(gap * self._rate))
                yield from mixer.add(frame)
            yield from mixer.flush()
            self._check_length(timeline.seconds)
        self._warn(self._damage.warnings)

    def _frames(
        self,
        container: InputContainer,
        stream: AudioStream,
        jumps: list[ClockJump],
        timeline: AudioTimeline,
    ) -> Generator[AudioFrame]:
        """Every frame that can be decoded. Where the first damage lies decides at the end what it
        means."""
        leader = pick_video(container) or stream
        for unread in container.streams:
            if unread.index not in (stream.index, leader.index):
                unread.discard = Discard.all
        decoded = 0.0
        damaged_at: float | None = None
        try:
            for packet in continuous(container, self._audio.kind, [stream], leader, jumps):
                frames, is_intact = _decode(packet)
                if decoded and not is_intact:  # a recording that starts midway cannot be decoded
                    damaged_at = decoded if damaged_at is None else damaged_at
                    self._damage.add(self._late + timeline.seconds)
                    timeline.be_strict()
                for frame in frames:
                    decoded += frame.samples / frame.sample_rate
                    yield frame
        except FFmpegError:
            damaged_at = decoded if damaged_at is None else damaged_at
            self._damage.end_early(f"it cannot be read on after {timeline.seconds:.2f} s")
        self._warn(jump_warnings(jumps))
        if damaged_at is not None or not decoded:
            self._judge_damage(damaged_at or 0.0, decoded)

    def _warn(self, warnings: list[ResultWarning]) -> None:
        self._audio.warnings += [w for w in warnings if w not in self._audio.warnings]

    @property
    def _late(self) -> float:
        return max(0.0, self._audio.start_seconds)

    @property
    def _conceals(self) -> bool:
        return self._limits.on_damage == "conceal"

    def _judge_gap(self, end: float, gap: float) -> None:
        """It ends the job, or is noted and passed over."""
        if not self._conceals:
            raise self._damaged(end - gap)
        self._damage.add(self._late + end - gap)
        self._damage.add(self._late + end)

    def _judge_damage(self, damaged_at: float, decoded: float) -> None:
        total = max(
            decoded,
            self._audio.duration_seconds or 0.0
            if self._audio.kind.demuxer in _EXACT_LENGTH
            else 0.0,
        )
        if not decoded and not damaged_at and not self._audio.duration_seconds:
            return  # a header and nothing else: no audio, no damage
        if decoded and self._conceals:
            return
        if not decoded or total - damaged_at > _TAIL_SECONDS:
            raise self._damaged(damaged_at)
        self._warn_of_the_tail(
            f"the sound is damaged after {damaged_at:.1f} seconds, within the last second"
        )

    def _damaged(self, at_seconds: float) -> TaskError:
        return TaskError(
            ErrorCode.corrupt_media,
            f"the sound is damaged {at_seconds:.1f} seconds after its start; upload an intact copy"
            " or re-encode it",
        )

    def _check_length(self, decoded: float) -> None:
        """Refuses a file that is shorter than its header states: it was cut off."""
        listed = self._audio.duration_seconds
        if (
            self._audio.kind.demuxer not in _EXACT_LENGTH
            or listed is None
            or listed - decoded <= _TAIL_SECONDS
        ):
            return
        what = f"ends after {decoded:.1f} of the {listed:.1f} seconds that its header announces"
        if not self._conceals:
            raise TaskError(ErrorCode.corrupt_media, f"the sound {what}; upload it again")
        self._damage.end_early(f"it {what}")

    def _warn_of_the_tail(self, message: str) -> None:
        if not any(warning.code == "sound_tail_damaged" for warning in self._audio.warnings):
            self._audio.warnings.append(
                ResultWarning(
                    code="sound_tail_damaged", message=f"{message}; that part is left out"
                )
            )


def _decode(packet: Packet[AudioStream]) -> tuple[list[AudioFrame], bool]:
    """The packet's frames, and whether it is intact."""
    try:
        frames = packet.decode()
    except FFmpegError:
        return [], False
    return frames, not packet.is_corrupt and not any(frame.is_corrupt for frame in frames)


def _silence(samples: int, block: int = 1 << 16) -> Iterator[Samples]:
    for start in range(0, samples, block):
        yield np.zeros(min(block, samples - start), np.float32)
