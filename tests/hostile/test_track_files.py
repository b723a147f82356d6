"""Tracks that come with a job, as an attacker writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.auto_crop.tracks_file import read_tracks
from gpu_worker_processors.media.probe import probe


def mot_text(ids: range) -> str:
    return "".join(f"1,{n},0,0,1,1\n" for n in ids)


def json_text(ids: range) -> str:
    return json.dumps({"tracks": [{"track_id": n, "class_name": "p", "frames": []} for n in ids]})


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(mot_text, id="MOTChallenge text"),
        pytest.param(json_text, id="JSON", marks=pytest.mark.slow),
    ],
)
def test_a_hundred_thousand_tracks_are_the_most(
    written: Callable[[range], str], tmp_path: Path
) -> None:
    path = tmp_path / "tracks"
    path.write_text(written(range(1, 100_002)))
    video = probe(clips.make(tmp_path / "a.mp4", clips.Clip())).video
    assert video is not None
    with pytest.raises(TaskError, match="100000 tracks") as caught:
        read_tracks(path, video)
    assert caught.value.code is ErrorCode.invalid_task
