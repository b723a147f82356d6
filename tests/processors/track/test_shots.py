"""Shots while tracking: every cut counts, a flash does not, and nothing is held back for longer
than the look-ahead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scenedetect import ContentDetector, detect

from gpu_worker_processors.detect_scenes.detectors import score_size
from gpu_worker_processors.media.decode import FrameReader, ThumbnailScaler
from gpu_worker_processors.media.probe import probe, require_video
from gpu_worker_processors.track.shots import FLASH_FRAMES, marked_cuts

COLORS = {"a": (40, 90, 20), "b": (20, 30, 200), "c": (210, 160, 30), "F": (255, 255, 255)}


def picture(letter: str) -> NDArray[np.uint8]:
    return np.full((36, 64, 3), COLORS[letter], np.uint8)


def cuts(film: str) -> list[int]:
    marked = list(marked_cuts((index, picture(letter)) for index, letter in enumerate(film)))
    assert [index for index, _ in marked] == list(range(len(film)))
    return [index for index, is_cut in marked if is_cut]


@pytest.mark.parametrize(
    ("film", "expected"),
    [
        ("", []),
        ("a", []),
        ("aaaa", []),
        ("aaabbb", [3]),
        ("aab", [2]),
        ("aaabbbbaaa", [3, 7]),
        ("aabcccc", [2, 3]),
        ("aaaFaaa", []),
        ("aaaFFFaaa", []),
        ("aaaFFFFaaa", [3, 7]),
        ("aaaFbbbb", [3, 4]),
        ("aaaaF", [4]),
        ("aFaFaaabbbbb", [7]),
        ("aaabbbbbFbbbcc", [3, 12]),
    ],
)
def test_cuts_and_flashes(film: str, expected: list[int]) -> None:
    assert cuts(film) == expected


def test_nothing_is_held_back_longer_than_the_look_ahead() -> None:
    taken = 0

    def frames() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        nonlocal taken
        for index, letter in enumerate("aaaabbbbbbbbcFcccccc"):
            taken = index
            yield index, picture(letter)

    assert max(taken - index for index, _ in marked_cuts(frames())) == FLASH_FRAMES


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["bikes.mp4", "psd_testvideo.mp4", "big_buck_bunny_0_30.webm", "cockatoo.mp4"]
)
def test_every_cut_of_pyscenedetect_on_real_clips_without_flashes(media: Path, name: str) -> None:
    path = media / "scenes" / name
    info = probe(path)
    video = require_video(info)
    scale = ThumbnailScaler(*score_size(video.coded_width, video.coded_height))
    frames = ((item.index, scale(item.frame)) for item in FrameReader(path, info))
    expected = detect(str(path), ContentDetector(30.0, min_scene_len=0), start_in_scene=True)
    assert [index for index, is_cut in marked_cuts(frames) if is_cut] == [
        start.frame_num for start, _ in expected[1:]
    ]


def test_a_flash_over_a_real_picture(media: Path) -> None:
    """A frame three quarters of the way to white between its neighbours, as a photographer's lights
    leave it."""
    path = media / "tracking" / "basketball_720p24.mp4"
    info = probe(path)
    scale = ThumbnailScaler(256, 144)
    pictures = [
        scale(item.frame) for item, _ in zip(FrameReader(path, info), range(12), strict=False)
    ]
    lit: Any = cv2.addWeighted(pictures[5], 0.25, np.full_like(pictures[5], 255), 0.75, 0)
    assert cuts_of(pictures) == cuts_of([*pictures[:5], lit, *pictures[6:]]) == []
    assert cuts_of([*pictures[:5], *[lit] * 5]) == [5]


def cuts_of(pictures: list[NDArray[np.uint8]]) -> list[int]:
    return [index for index, is_cut in marked_cuts(enumerate(pictures)) if is_cut]
