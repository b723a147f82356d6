"""The same scenes as PySceneDetect finds in the same files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scenedetect import (
    AdaptiveDetector,
    ContentDetector,
    FrameTimecode,
    HashDetector,
    SceneDetector,
    SceneManager,
    detect,
    open_video,
)
from support.scenes_kit import run

from gpu_worker_client.protocol import DetectScenesParams
from gpu_worker_processors.detect_scenes import processor
from gpu_worker_processors.detect_scenes.detectors import content_score, make_detector, to_hsv
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe, require_video

PARITY = [
    *(("content", value) for value in (27.0, 30.0, 35.0)),
    *(("adaptive", value) for value in (None, 2.0, 4.5)),
    ("hash", None),
]


def theirs(detector: str, threshold: float | None, seconds: float) -> SceneDetector:
    if detector == "content":
        return ContentDetector(threshold=threshold or 30.0, min_scene_len=seconds)
    if detector == "adaptive":
        return AdaptiveDetector(adaptive_threshold=threshold or 3.0, min_scene_len=seconds)
    return (
        HashDetector(min_scene_len=seconds)
        if threshold is None
        else HashDetector(threshold=threshold, min_scene_len=seconds)
    )


def assert_same_scenes(path: Path, detector: str, threshold: float | None, seconds: float) -> None:
    expected = detect(str(path), theirs(detector, threshold, seconds), start_in_scene=True)
    first = expected[0][0].seconds
    given = {} if threshold is None else {"threshold": threshold}
    got = run(path, detector=detector, min_scene_length=seconds, **given)
    assert [s.start_time for s in got.scenes] == pytest.approx(
        [s[0].seconds - first for s in expected], abs=0.002
    )


SHORT = ("fire2.mp4", "psd_counter.mp4", "psd_delayed_start.mp4")


@pytest.mark.parametrize(
    ("name", "seconds", "detector", "threshold"),
    [
        # Each clip with each detector and threshold, at one of the two distances in turn.
        pytest.param(name, float(by_distance), *how, marks=pytest.mark.slow if is_other else ())
        for clip, name in enumerate(SHORT)
        for number, how in enumerate(PARITY)
        for by_distance in (0, 1)
        for is_other in [(clip + number + by_distance) % 2]
    ],
)
def test_same_scenes_as_pyscenedetect(
    media: Path, name: str, seconds: float, detector: str, threshold: float | None
) -> None:
    assert_same_scenes(media / "scenes" / name, detector, threshold, seconds)


LONG_CLIPS = (
    *(
        f"scenes/{name}.mp4"
        for name in ("bikes", "psd_testvideo", "psd_issue-134-rotate", "cockatoo", "chaplin")
    ),
    "scenes/big_buck_bunny_0_30.webm",
    "shaky/nus_video-1.m4v",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seconds", "detector", "threshold"),
    [
        # Each clip with each detector and threshold, at one of the two distances in turn.
        (name, (0.6, 1.0)[(clip + number) % 2], *how)
        for clip, name in enumerate(LONG_CLIPS)
        for number, how in enumerate(PARITY[:-1])
    ],
)
def test_same_scenes_as_pyscenedetect_on_long_clips(
    media: Path, name: str, seconds: float, detector: str, threshold: float | None
) -> None:
    """Without `hash`: its 64 bits turn on single pixels, so a distance next to the threshold may
    fall either way."""
    assert_same_scenes(media / name, detector, threshold, seconds)


@pytest.mark.parametrize("size", [(144, 256), (109, 256), (1, 1)], ids=str)
def test_the_quick_score_is_pyscenedetects_to_the_last_bit(size: tuple[int, int]) -> None:
    dice = np.random.default_rng(1)
    ours, original = make_detector(DetectScenesParams()), ContentDetector()
    for index in range(20):
        image = dice.integers(0, 256, (*size, 3), np.uint8)
        at = FrameTimecode(index, 25.0)
        ours.process_frame(at, image)
        original.process_frame(at, image)
        assert ours._frame_score == original._frame_score  # noqa: SLF001 - the value under test has no public name


class Recording(ContentDetector):
    """Keeps the score of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[float] = []

    def process_frame(self, timecode: FrameTimecode, frame_img: np.ndarray) -> list[FrameTimecode]:
        cuts = super().process_frame(timecode, frame_img)
        assert self._frame_score is not None
        self.scores.append(self._frame_score)
        return cuts


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bikes.mp4", "fire2.mp4", "psd_issue-134-rotate.mp4", "psd_testvideo.mp4"]
)
def test_the_scores_of_real_frames_are_pyscenedetects(media: Path, name: str) -> None:
    """It scales whole BGR frames bilinearly; here pixels are picked, from every other row: 0.02 to
    0.16 apart on average, 0.6 at most, where a cut is what reaches 30."""
    path = media / "scenes" / name
    original = Recording()
    manager = SceneManager()
    manager.add_detector(original)
    manager.detect_scenes(open_video(str(path)))
    info = probe(path)
    small_image = processor.upright_images(require_video(info), "content")
    images = [to_hsv(small_image(item.frame)) for item in FrameReader(path, info)]
    ours = [content_score(one, other) for other, one in itertools.pairwise(images)]
    apart = np.abs(np.subtract(ours, original.scores[1:]))
    assert apart.mean() < 0.2
    assert apart.max() < 0.8
