"""What the timeline tests share: clips that carry their frame's number as a bar code and short
tones at known times, a video made of them by the ffmpeg binary, and what such a video must show and
play, computed from the caller's table only."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from gpu_worker_client.protocol import RenderParams, RenderResult
from gpu_worker_client.protocol.timeline import Timeline
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.processor import PROCESSOR
from gpu_worker_processors.render.timeline import (
    TimelineRendering,
    compile_timeline,
    inspect_fonts,
    inspect_inputs,
)
from support import clips, music

Array = NDArray[np.float64]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 48_000
BLACK, WHITE = 16, 235
"""Luma of the bar code's cells."""
GRID = 4
"""Cells a side: 16 bits, the clip's number in the upper row, the frame's below."""
TONE_SECONDS = 0.03
FIRST_TONE, TONE_EVERY = 0.25, 0.4
"""Middles of the tones, seconds of the audio."""


@dataclass(frozen=True)
class Tape:
    """A source: a clip with its number in the image and tones in the audio."""

    number: int
    """1 to 15."""
    clip: clips.Clip = field(default_factory=lambda: clips.Clip(width=128, height=72, frames=75))
    suffix: str = ".mp4"
    audio: str | None = ".m4a"
    """Format of the audio, None for a silent clip."""
    audio_rate: int = RATE
    audio_seconds: float | None = None
    """By default a little longer than the image."""

    @property
    def name(self) -> str:
        return f"tape{self.number}{self.suffix}"

    @property
    def times(self) -> list[Fraction]:
        """When each frame begins, seconds from the first one."""
        if self.clip.pts is not None:
            return [Fraction(pts - self.clip.pts[0], 90_000) for pts in self.clip.pts]
        return [n / self.clip.rate for n in range(self.clip.frames)]

    @property
    def origin(self) -> Fraction:
        """Where the image begins on the audio's clock, seconds."""
        return Fraction(self.clip.start_pts) * (
            Fraction(1, 90_000) if self.clip.pts is not None else 1 / self.clip.rate
        )

    @property
    def seconds(self) -> Fraction:
        return self.times[-1] + 1 / self.clip.rate

    @property
    def tones(self) -> Array:
        """Middles of the tones, seconds from the first frame."""
        length = float(self.audio_seconds or self.seconds + self.origin)
        return (
            np.arange(FIRST_TONE, length - 0.1, TONE_EVERY) - float(self.origin)
            if self.audio
            else np.array([])
        )

    def record(self, folder: Path) -> Path:
        path = folder / self.name
        if self.audio is None:
            return clips.make(path, self.clip, self._paint)
        image = clips.make(folder / f"image{self.number}{self.suffix}", self.clip, self._paint)
        length = float(self.audio_seconds or self.seconds + self.origin + Fraction(1, 10))
        track = np.zeros(round(length * self.audio_rate), np.float32)
        t = np.arange(round(TONE_SECONDS * self.audio_rate)) / self.audio_rate
        tone = (np.sin(2 * np.pi * 1000 * t) * np.sin(np.pi * t / TONE_SECONDS) ** 2).astype(
            np.float32
        )
        music.put(
            track, self.tones + float(self.origin) - TONE_SECONDS / 2, tone, 0.5, self.audio_rate
        )
        audio = music.save(folder / f"audio{self.number}{self.audio}", track, rate=self.audio_rate)
        ffmpeg(
            "-copyts",
            "-i",
            str(image),
            "-i",
            str(audio),
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c",
            "copy",
            str(path),
        )
        return path

    def _paint(self, index: int, width: int, height: int) -> NDArray[np.uint8]:
        """Drawn so that it stands upright once the clip's rotation is undone."""
        turns = self.clip.rotation // 90 % 4
        if turns % 2:
            width, height = height, width
        rows = np.arange(height) * GRID // height
        columns = np.arange(width) * GRID // width
        upright = bits(self.number, index).reshape(GRID, GRID)[rows[:, None], columns[None, :]]
        gray = np.rot90((upright * 255).astype(np.uint8), -turns)
        return np.ascontiguousarray(np.repeat(gray[:, :, None], 3, axis=2))


def bits(number: int, frame: int) -> Array:
    """The bar code, 16 values of 0 or 1."""
    code = number << 12 | frame
    return np.array([code >> n & 1 for n in reversed(range(GRID * GRID))], np.float64)


def ffmpeg(*words: str) -> None:
    done = subprocess.run(
        ["nice", "-n", "10", FFMPEG, "-v", "error", "-y", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def compiled(
    timeline: Mapping[str, Any], inputs: Mapping[str, Path], output: Path, **more: Any
) -> TimelineRendering:
    wanted = Timeline.model_validate(timeline, strict=False)
    fonts = inspect_fonts(wanted, inputs)
    return compile_timeline(wanted, inspect_inputs(wanted, inputs), output, fonts=fonts, **more)


def render(
    timeline: Mapping[str, Any], inputs: Mapping[str, Path], output: Path
) -> TimelineRendering:
    """Compiles a timeline and runs its command as it stands."""
    rendering = compiled(timeline, inputs, output)
    ffmpeg(*rendering.argv())
    return rendering


def rendered_timeline(
    timeline: Mapping[str, Any], inputs: Mapping[str, Path], output: Path
) -> RenderResult:
    """The answer to a timeline, with its warnings: FFmpeg runs in its sandbox."""
    params = RenderParams.model_validate({"timeline": timeline}, strict=False)
    job = LocalJob("job", params, output.parent, None, dict(inputs), output)
    result = PROCESSOR.run(job)
    return result.model_copy(update={"warnings": [*result.warnings, *job.warnings]})


@dataclass(frozen=True)
class Shot:
    """One clip of a video as its table says, by hand-sized arithmetic and none of the code under
    test."""

    tape: Tape
    first: int
    """Frame of the video at which it begins."""
    frames: int
    start: Fraction
    speed: Fraction
    before: tuple[str, int] = ("cut", 0)
    """Transition into it: kind, frames."""
    after: tuple[str, int] = ("cut", 0)

    def weight(self, frame: int) -> float:
        """Share of the clip in a frame of the video, 0 to 1."""
        own, left = frame - self.first, self.first + self.frames - frame
        if not 0 <= own < self.frames:
            return 0.0
        kind, length = self.before
        rising = (
            1.0 if kind == "cut" or own >= part_in(kind, length) else own / part_in(kind, length)
        )
        kind, length = self.after
        falling = (
            1.0
            if kind == "cut" or left >= part_out(kind, length)
            else left / part_out(kind, length)
        )
        return min(rising, falling)

    def shown(self, frame: int, fps: Fraction) -> range:
        """Frames of the tape that may be seen in a frame of the video: those on screen within half
        a frame of it."""
        step = self.speed / fps
        middle = self.start + (frame - self.first) * step
        times = self.tape.times
        low = max([n for n, time in enumerate(times) if time <= middle - step / 2], default=0)
        high = max([n for n, time in enumerate(times) if time <= middle + step / 2], default=0)
        return range(low, high + 1)


def part_in(kind: str, frames: int) -> int:
    return frames if kind == "dissolve" else frames - frames // 2


def part_out(kind: str, frames: int) -> int:
    return frames if kind == "dissolve" else frames // 2


def shots_of(timeline: Mapping[str, Any], tapes: Mapping[str, Tape], fps: Fraction) -> list[Shot]:
    """The video as its table says."""
    shots: list[Shot] = []
    common = timeline.get("transition", {})
    entries: Sequence[Mapping[str, Any]] = timeline["clips"]
    joins = [frames_of(entry.get("transition", common), fps) for entry in entries[1:]]
    first = 0
    for n, entry in enumerate(entries):
        tape = tapes[entry["input"]]
        start, speed = Fraction(str(entry.get("start", 0))), Fraction(str(entry.get("speed", 1)))
        end = Fraction(str(entry["end"])) if "end" in entry else tape.seconds
        frames = math.floor((end - start) / speed * fps + Fraction(1, 2))
        before = joins[n - 1] if n else ("cut", 0)
        first -= before[1] if before[0] == "dissolve" else 0
        shots.append(
            Shot(
                tape,
                first,
                frames,
                start,
                speed,
                before,
                joins[n] if n < len(joins) else ("cut", 0),
            )
        )
        first += frames
    return shots


def frames_of(transition: Mapping[str, Any], fps: Fraction) -> tuple[str, int]:
    kind = transition.get("kind", "cut")
    return kind, 0 if kind == "cut" else math.floor(
        Fraction(str(transition.get("seconds", 0.5))) * fps + Fraction(1, 2)
    )


def lumas(path: Path) -> Iterator[Array]:
    """The Y plane of each frame of a video, (height, width)."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            table = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            yield table[: frame.height, : frame.width].astype(np.float64)


def cells(luma: Array, shape: Fraction) -> Array:
    """The bar code in a frame, 16 values of 0 to 1: means of the middles of the cells of an image
    of a shape, width over height, that stands in the middle on black."""
    height, width = luma.shape
    wide = min(float(width), height * float(shape))
    high = min(float(height), width / float(shape))
    left, top = (width - wide) / 2, (height - high) / 2
    values = []
    for row in range(GRID):
        for column in range(GRID):
            y, x = top + (row + 0.5) * high / GRID, left + (column + 0.5) * wide / GRID
            values.append(luma[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean())
    return (np.array(values) - BLACK) / (WHITE - BLACK)


def samples(path: Path) -> Array:
    """The audio of a video, mono, by its time stamps; the encoder's own lead is dropped."""
    command = [
        FFMPEG,
        "-v",
        "error",
        "-i",
        str(path),
        "-map",
        "0:a",
        "-ac",
        "1",
        "-ar",
        str(RATE),
        "-f",
        "f32le",
        "-",
    ]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.float32).astype(np.float64)


def tone_errors(audio: Array, expected: Sequence[float], reach: float = 0.08) -> Array:
    """How late the tone nearest to each expected middle is, seconds; NaN where there is none."""
    errors = []
    for time in expected:
        start = max(0, round((time - reach) * RATE))
        energy = audio[start : round((time + reach) * RATE)] ** 2
        position = (
            (np.arange(len(energy)) * energy).sum() / energy.sum()
            if energy.sum() > 1e-3
            else math.nan
        )
        errors.append((start + position) / RATE - time)
    return np.array(errors)


def loud_seconds(audio: Array) -> float:
    """How long an audio is above -40 dBFS, in blocks of 10 ms."""
    blocks = audio[: len(audio) // 480 * 480].reshape(-1, 480)
    return float((np.sqrt((blocks**2).mean(axis=1)) > 0.01).sum() * 0.01)


def still(
    path: Path, gray: int = 0, size: tuple[int, int] = (192, 108), alpha: int | None = None
) -> Path:
    """An image of one gray, (width, height)."""
    value = [gray] * 3 + ([] if alpha is None else [alpha])
    assert cv2.imwrite(str(path), np.full((size[1], size[0], len(value)), value, np.uint8))
    return path


def bed(path: Path, seconds: float) -> Path:
    """Music: a steady tone of 440 Hz at -20 dBFS."""
    t = np.arange(round(seconds * RATE)) / RATE
    return music.save(path, (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32), rate=RATE)
