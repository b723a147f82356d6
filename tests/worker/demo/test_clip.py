"""The demo's clip is what it says it is: measured with PyAV and PySceneDetect, not with our own
detector."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scenedetect import ContentDetector, detect

from gpu_worker.demo import clip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip.make_clip(tmp_path_factory.mktemp("clip") / "demo.mp4")


def test_shape_and_length(made: Path) -> None:
    with av.open(str(made)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (
            clip.WIDTH,
            clip.HEIGHT,
            clip.FPS,
        )
        assert sum(1 for _ in container.decode(video=0)) == clip.FRAMES
        assert 6 <= clip.FRAMES / clip.FPS <= 8


def test_exactly_three_hard_cuts(made: Path) -> None:
    scenes = detect(str(made), ContentDetector(threshold=30, min_scene_len=1))
    assert tuple(start.frame_num for start, _ in scenes[1:]) == clip.CUTS
    assert len(clip.CUTS) == 3


def test_the_camera_moves_in_every_shot(made: Path) -> None:
    with av.open(str(made)) as container:
        frames = [
            frame.to_ndarray(format="gray").astype(float) for frame in container.decode(video=0)
        ]
    for start in (0, *clip.CUTS):
        assert np.abs(frames[start] - frames[start + clip.SHOT_FRAMES - 1]).mean() > 5


def test_a_click_sounds_on_every_beat_and_nowhere_else(made: Path) -> None:
    with av.open(str(made)) as container:
        sound = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
    level = np.abs(sound)
    for seconds in clip.beat_times():
        at = round(seconds * clip.SAMPLE_RATE)
        assert level[at : at + 2400].max() > 0.2
        assert level[at + 7200 : at + 14400].max() < 0.05  # 150 to 300 ms later: silence
    assert {cut / clip.FPS for cut in clip.CUTS} <= set(clip.beat_times())


def test_a_missing_package_is_replaced_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    locate = clip._locate
    monkeypatch.setattr(
        clip, "_locate", lambda shot: None if shot.package == "ultralytics" else locate(shot)
    )
    assert [shot.package for shot in clip.chosen_shots()] == [
        "matplotlib",
        "skimage",
        "skimage",
        "skimage",
    ]
    monkeypatch.setattr(clip, "_locate", lambda shot: None)
    with pytest.raises(clip.NoPhotographs, match="scikit-image"):
        clip.chosen_shots()
