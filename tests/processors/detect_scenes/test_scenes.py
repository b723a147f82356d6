"""detect_scenes against published cuts, and against clips whose cuts were chosen here."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support import clips
from support.scenes_kit import run, starts

from gpu_worker_client import InvalidTask
from gpu_worker_client.protocol import DetectScenesParams, ErrorCode, TaskError
from gpu_worker_processors import registry
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.detect_scenes import processor
from gpu_worker_processors.detect_scenes.detectors import (
    CutFinder,
    analysis_size,
    make_detector,
    score_size,
)
from gpu_worker_processors.detect_scenes.scenes import FrameTimes, scenes_between
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe, require_video

DETECTORS = ("content", "adaptive", "hash")
BLACK, RED, WHITE, BLUE = (0, 0, 0), (220, 20, 20), (250, 250, 250), (30, 40, 230)


# ------------------------------------------------------------------ published truth

WITH_CUTS = (
    "bikes.mp4",
    "psd_issue-134-rotate.mp4",
    "psd_testvideo.mp4",
    "psd_fades.mp4",
    "big_buck_bunny_0_30.webm",
    "nasa_13013.mp4",
)
WITHOUT = ("ae_example.mp4", "chaplin.mp4", "cockatoo.mp4", "fire2.mp4")
LONG = ("ae_example.mp4", "big_buck_bunny_0_30.webm", "cockatoo.mp4", "psd_testvideo.mp4")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in [*WITH_CUTS, *WITHOUT]
    ],
)
def test_published_cuts(media: Path, name: str) -> None:
    """psd_counter.mp4, listed among the clips without cuts, is left out: its background changes
    colour at frames 10 and 20, and PySceneDetect finds the first too (see the parity test)."""
    truth = json.loads((media / "scenes" / "cuts.json").read_text())
    assert name in truth or name in truth["_no_cuts"]
    assert starts(run(media / "scenes" / name)) == [0, *truth.get(name, {"cuts": []})["cuts"]]


SIZES = {
    (1280, 720): ((256, 144), (256, 72)),
    (640, 272): ((256, 109), (256, 54)),
    (544, 1280): ((109, 256), (109, 128)),
    (3, 65500): ((1, 256), (1, 128)),
    (65500, 3): ((256, 1), (256, 1)),
    (64, 48): ((64, 48), (64, 48)),
    (256, 256): ((256, 256), (256, 256)),
}


@pytest.mark.parametrize(
    ("frame", "analysed", "scored"), [(frame, *sizes) for frame, sizes in SIZES.items()]
)
def test_sizes(frame: tuple[int, int], analysed: tuple[int, int], scored: tuple[int, int]) -> None:
    assert analysis_size(*frame) == analysed
    assert score_size(*frame) == scored


def test_a_hash_is_made_of_every_row(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=1, width=512, height=128))
    info = probe(path)
    [item] = FrameReader(path, info)
    shapes = {
        name: processor.upright_images(require_video(info), name)(item.frame).shape
        for name in DETECTORS
    }
    assert shapes == {"content": (32, 256, 3), "adaptive": (32, 256, 3), "hash": (64, 256, 3)}


# ------------------------------------------------------------------ chosen truth


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_scenes_tile_the_video(tmp_path: Path, suffix: str) -> None:
    path = clips.make(
        tmp_path / f"a.{suffix}",
        clips.Clip(frames=110),
        clips.flat(RED, WHITE, BLUE, BLACK, every=30),
    )
    result = run(path)
    assert [(s.start_frame, s.end_frame) for s in result.scenes] == [
        (0, 29),
        (30, 59),
        (60, 89),
        (90, 109),
    ]
    assert [s.start_time for s in result.scenes] == pytest.approx([0, 1.2, 2.4, 3.6], abs=0.0011)
    assert [s.end_time for s in result.scenes] == pytest.approx(
        [1.16, 2.36, 3.56, 4.36], abs=0.0011
    )
    assert (result.stats.total_scenes, result.stats.total_frames, result.stats.is_vfr) == (
        4,
        110,
        False,
    )
    assert result.stats.duration == pytest.approx(4.4, abs=0.002)
    assert result.stats.avg_scene_length == pytest.approx(1.1, abs=0.001)


VFR_PTS = [0, 3000, 9000, 12000, 45000, 48000, 90000, 93000, 96000, 200000, 203000, 206000, 290000]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_times_come_from_timestamps(tmp_path: Path, suffix: str) -> None:
    """Cuts at frames 4, 8, 12: 0.5 s, 1.0667 s and 3.2222 s. At an average rate they would be
    evenly spread."""
    path = clips.make(
        tmp_path / f"a.{suffix}",
        clips.Clip(frames=13, pts=VFR_PTS),
        clips.flat(RED, WHITE, BLUE, BLACK, every=4),
    )
    result = run(path, min_scene_length=0.0)
    assert starts(result) == [0, 4, 8, 12]
    assert [s.start_time for s in result.scenes] == pytest.approx(
        [VFR_PTS[i] / 90000 for i in (0, 4, 8, 12)], abs=0.001
    )
    assert [s.end_time for s in result.scenes] == pytest.approx(
        [VFR_PTS[i] / 90000 for i in (3, 7, 11, 12)], abs=0.001
    )
    assert result.stats.is_vfr


def test_the_minimum_length_counts_seconds_not_frames(tmp_path: Path) -> None:
    """A cut after 0.5 s is too soon, one after exactly 1 s is not; both are four frames away."""
    pts = [0, 7500, 15000, 30000, 45000, 50000, 60000, 70000, 135000, 140000, 150000, 160000]
    path = clips.make(
        tmp_path / "a.mp4", clips.Clip(frames=12, pts=pts), clips.flat(RED, WHITE, BLUE, every=4)
    )
    assert starts(run(path, min_scene_length=1.0)) == [0, 8]
    assert starts(run(path, min_scene_length=0.5)) == [0, 4, 8]


def test_a_trailer_of_quick_cuts_is_warned_of(tmp_path: Path) -> None:
    """A cut every 0.8 s at the default minimum of 1 s: one scene, and a word about the nine."""
    path = clips.make(
        tmp_path / "a.mp4", clips.Clip(frames=200), clips.flat(RED, WHITE, BLUE, every=20)
    )
    task = LocalJob("test", DetectScenesParams(), tmp_path, path)
    assert starts(registry.get("detect_scenes").run(task)) == [0]
    assert [warning.code for warning in task.warnings] == ["quick_cuts"]
    assert task.warnings[0].message.startswith("9 cuts")
    assert "min_scene_length: 0" in task.warnings[0].message
    assert starts(run(path, min_scene_length=0.0)) == list(range(0, 200, 20))


@pytest.mark.parametrize("rotation", [90, 180, -90])
@pytest.mark.parametrize("detector", DETECTORS)
def test_turned_clips(tmp_path: Path, rotation: int, detector: str) -> None:
    blocks = np.random.default_rng(3).integers(0, 256, (2, 6, 8, 3), np.uint8)

    def paint(index: int, width: int, height: int) -> np.ndarray:
        return np.kron(blocks[index // 30], np.ones((height // 6, width // 8, 1), np.uint8))

    upright = clips.make(tmp_path / "a.mp4", clips.Clip(frames=60), paint)
    turned = clips.make(tmp_path / "b.mp4", clips.Clip(frames=60, rotation=rotation), paint)
    assert (
        starts(run(upright, detector=detector)) == starts(run(turned, detector=detector)) == [0, 30]
    )


@pytest.mark.parametrize(
    ("rotation", "first"), [(0, "red"), (-90, "white"), (180, "blue"), (90, "green")]
)
def test_detectors_see_upright_images(tmp_path: Path, rotation: int, first: str) -> None:
    """Quarters red, green, blue, white clockwise; turning them clockwise by 90 degrees brings white
    to the top left."""
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=1, rotation=rotation), clips.corners)
    info = probe(path)
    [item] = FrameReader(path, info)
    image = processor.upright_images(require_video(info), "content")(item.frame)
    bgr = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}[
        first
    ]
    assert np.abs(image[4, 4].astype(int) - bgr).max() < 12
    assert image.shape == ((48, 64, 3) if rotation in (0, 180) else (64, 48, 3))


def test_a_start_after_zero_is_not_counted(tmp_path: Path) -> None:
    path = clips.make(
        tmp_path / "a.mp4", clips.Clip(frames=60, start_pts=100), clips.flat(RED, WHITE, every=30)
    )
    assert [s.start_time for s in run(path).scenes] == pytest.approx([0.0, 1.2])


@pytest.mark.parametrize("frames", [1, 2])
def test_one_scene_is_an_answer(tmp_path: Path, frames: int) -> None:
    result = run(clips.make(tmp_path / "a.mp4", clips.Clip(frames=frames)))
    assert [(s.start_frame, s.end_frame, s.start_time) for s in result.scenes] == [
        (0, frames - 1, 0.0)
    ]
    assert result.stats.avg_scene_length == result.stats.duration == pytest.approx(frames / 25)


def test_progress_rises_by_one_to_the_total(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=40))
    seen: list[tuple[str, int, int | None]] = []
    job = LocalJob(
        "job",
        DetectScenesParams(),
        tmp_path,
        path,
        progress=lambda stage, done, total=None, unit="": seen.append((stage, done, total)),
    )
    registry.get("detect_scenes").run(job)
    assert seen == [("process", done, 40) for done in range(1, 41)]


def test_damage_found_by_the_decoding_thread_reaches_the_caller(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mkv", clips.Clip(frames=200, width=320, height=240))
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    data[len(data) * 2 // 3 + 50] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(TaskError) as caught:
        run(path)
    assert caught.value.code is ErrorCode.corrupt_media


@pytest.mark.parametrize(
    ("detector", "threshold", "accepted"),
    [
        ("hash", 0.2, True),
        ("hash", 1.0, True),
        ("hash", 30.0, True),
        ("hash", 2.0, False),
        ("adaptive", 4.5, True),
        ("content", 2.0, True),
    ],
)
def test_a_hash_threshold_is_a_share(detector: str, threshold: float, accepted: bool) -> None:
    def build() -> DetectScenesParams:
        return DetectScenesParams(detector=detector, threshold=threshold)

    if accepted:
        build()
    else:
        with pytest.raises(InvalidTask, match="between 0 and 1"):
            build()


@pytest.mark.parametrize("detector", DETECTORS)
def test_negative_timestamps(detector: str) -> None:
    finder = CutFinder(
        make_detector(DetectScenesParams(detector=detector)), Fraction(1, 25), Fraction(25)
    )
    dice = np.random.default_rng(5)
    first, second = (dice.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2))
    for pts in range(-100, 0):
        finder.add(pts, first if pts < -50 else second)
    assert finder.finish() == [-50]


# ------------------------------------------------------------------ pure parts


def times(*ticks: int, last: int = 0) -> FrameTimes:
    made = FrameTimes(Fraction(1, 1000))
    for tick in ticks:
        made.add(tick, last)
    return made


def test_scenes_between() -> None:
    scenes = scenes_between([2, 3], times(500, 540, 580, 620, 660))
    assert [(s.start_frame, s.end_frame, s.start_time, s.end_time) for s in scenes] == [
        (0, 1, 0.0, 0.04),
        (2, 2, 0.08, 0.08),
        (3, 4, 0.12, 0.16),
    ]


@pytest.mark.parametrize(
    ("made", "is_vfr"),
    [
        (times(0, 41, 83, 125, 166), False),
        (times(0, 40, 80, 160), True),
        (times(0, 40), False),
        (times(7), False),
    ],
    ids=["rounded", "gap", "two", "one"],
)
def test_is_vfr(made: FrameTimes, is_vfr: bool) -> None:
    assert made.is_vfr is is_vfr


@pytest.mark.parametrize(
    ("made", "seconds"),
    [
        (times(0, 40, last=60), 0.1),
        (times(0, 40), 0.08),
        (times(9, last=40), 0.04),
        (times(9), 0.0),
    ],
)
def test_duration(made: FrameTimes, seconds: float) -> None:
    assert made.duration_seconds == seconds


def test_the_processor_is_light_to_import() -> None:
    heavy = "print([m for m in ('cv2', 'av', 'scenedetect', 'torch') if m in sys.modules])"
    code = f"import sys, gpu_worker_processors.detect_scenes.processor; {heavy}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
