"""The demo's own clip: four photographs that installed packages ship, camera moves, three hard
cuts, a click on every beat.

Nothing is downloaded and no clip lies in the repository. Cuts and beats are chosen here, so the
report knows what is true.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 256, 144, 24
"""Small enough that a network enlarges it on two CPU cores within seconds."""
BEAT_FRAMES = 10
"""Frames from click to click: 144 beats a minute at 24 frames/s."""
SHOT_FRAMES = 4 * BEAT_FRAMES
CUTS = (SHOT_FRAMES, 2 * SHOT_FRAMES, 3 * SHOT_FRAMES)
"""First frames of the second, third and fourth shot. Each lies on a beat."""
FRAMES = 4 * SHOT_FRAMES
SAMPLE_RATE = 48_000
OVERSAMPLING = 3
"""Frames are drawn this much larger and then averaged down, so that a moving edge does not
flicker."""


@dataclass(frozen=True)
class Window:
    """What the camera sees: centre and width as fractions of the photograph; its height follows
    from 16:9."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Shot:
    package: str
    """The installed package that ships the photograph. It is located, never imported."""
    path: str
    start: Window
    end: Window


SHOTS = (
    # Public-domain or freely licensed sample images, read where pip put them; see each package's
    # data README.
    Shot(
        "ultralytics", "assets/bus.jpg", Window(0.40, 0.58, 0.80), Window(0.56, 0.60, 0.80)
    ),  # people in a street, pan
    Shot(
        "skimage", "data/coffee.png", Window(0.50, 0.50, 0.95), Window(0.46, 0.47, 0.60)
    ),  # zoom in
    Shot(
        "skimage", "data/astronaut.png", Window(0.44, 0.25, 0.62), Window(0.50, 0.36, 1.00)
    ),  # a person, zoom out
    Shot(
        "skimage", "data/rocket.jpg", Window(0.42, 0.62, 0.70), Window(0.56, 0.40, 0.78)
    ),  # pan upwards
)
SPARES = (
    Shot(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        Window(0.50, 0.30, 0.70),
        Window(0.50, 0.40, 1.00),
    ),
    Shot("skimage", "data/chelsea.png", Window(0.50, 0.45, 0.95), Window(0.55, 0.45, 0.65)),
)
"""Taken in order for a photograph that is not installed."""


class NoPhotographs(RuntimeError):
    """Fewer than four of the photographs are installed; the message names the packages."""


def make_clip(path: Path) -> Path:
    """Writes the clip: H.264 and AAC in mp4, `FRAMES` frames of `WIDTH` x `HEIGHT`.

    Raises:
        NoPhotographs: the packages that ship the photographs are not installed.
    """
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "16", "preset": "medium"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index, image in enumerate(images()):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for block in _audio_blocks():
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path


def images() -> Iterator[NDArray[np.uint8]]:
    """Every frame in order, uint8 BGR of shape (HEIGHT, WIDTH, 3)."""
    import cv2

    for shot, photograph in zip(chosen_shots(), _photographs(), strict=True):
        for index in range(SHOT_FRAMES):
            yield _view(cv2, photograph, between(shot.start, shot.end, index / (SHOT_FRAMES - 1)))


def chosen_shots() -> list[Shot]:
    """Four shots whose photographs are installed, the preferred ones first."""
    spares = [shot for shot in SPARES if _locate(shot)]
    shots = [shot if _locate(shot) else spares.pop(0) for shot in SHOTS if _locate(shot) or spares]
    if len(shots) < len(SHOTS):
        raise NoPhotographs(
            "the demo's clip needs photographs of scikit-image and matplotlib: install them, or"
            " give --video"
        )
    return shots


def between(start: Window, end: Window, fraction: float) -> Window:
    """The window a part of the way along the move, with a smooth start and stop."""
    t = fraction * fraction * (3 - 2 * fraction)
    return Window(*(a + (b - a) * t for a, b in zip(_astuple(start), _astuple(end), strict=True)))


def beat_times() -> list[float]:
    """Seconds at which there is a click."""
    return [frame / FPS for frame in range(0, FRAMES, BEAT_FRAMES)]


def click_track() -> NDArray[np.float32]:
    """The whole audio, float32 in -1..1 of shape (samples,): a short decaying tone on each beat,
    higher on each cut."""
    import numpy as np

    samples = np.zeros(SAMPLE_RATE * FRAMES // FPS, np.float32)
    t = np.arange(SAMPLE_RATE // 20) / SAMPLE_RATE
    for beat, seconds in enumerate(beat_times()):
        pitch = 1760 if beat % 4 == 0 else 880
        click = 0.6 * np.sin(2 * np.pi * pitch * t) * np.exp(-t * 90)
        start = round(seconds * SAMPLE_RATE)
        samples[start : start + len(click)] += click[: len(samples) - start].astype(np.float32)
    return samples


def _audio_blocks() -> Iterator[Any]:
    import av

    samples, block = click_track(), 1024
    for start in range(0, len(samples), block):
        frame = av.AudioFrame.from_ndarray(
            samples[None, start : start + block].copy(), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        yield frame


def _astuple(window: Window) -> tuple[float, float, float]:
    return window.x, window.y, window.width


def _locate(shot: Shot) -> Path | None:
    """Where the photograph lies, found without importing the package (importing ultralytics takes
    seconds)."""
    spec = importlib.util.find_spec(shot.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / shot.path).is_file():
            return path
    return None


def _photographs() -> Iterator[NDArray[np.uint8]]:
    import cv2

    for shot in chosen_shots():
        image = cv2.imread(str(_locate(shot)), cv2.IMREAD_COLOR)
        if image is None:
            raise NoPhotographs(
                f"{shot.package}'s {shot.path} cannot be read; reinstall it, or give --video"
            )
        yield image  # pyright: ignore[reportReturnType] - cv2's stubs widen the dtype


def _view(cv2: Any, photograph: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """The part of the photograph inside the window, drawn large and averaged down. Beyond its edge
    the image is mirrored."""
    import numpy as np

    height, width = photograph.shape[:2]
    scale = WIDTH * OVERSAMPLING / (window.width * width)
    left = window.x * width - window.width * width / 2
    top = window.y * height - window.width * width * HEIGHT / WIDTH / 2
    move = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    large = cv2.warpAffine(
        photograph, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
