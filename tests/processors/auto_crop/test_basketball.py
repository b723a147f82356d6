"""Two real players and a ball, from the detector to the window. Slow: the detector searches 270
frames; `test_subject` and `test_group` hold the same on tracks that are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.crop_kit import crop, luma, windows_at, write_tracks

from gpu_worker_client.protocol import TrackParams, TrackResult
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.track.processor import PROCESSOR as TRACK

pytestmark = pytest.mark.slow
FRAMES = 270


@pytest.fixture(scope="module")
def game(
    media: Path, weights_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, TrackResult]:
    """Two players and a ball, and what the track task says of them."""
    folder = tmp_path_factory.mktemp("game")
    source = media / "tracking" / "basketball_720p24.mp4"
    settings = ProcessorSettings(weights_dir, "cpu")
    follow = LocalJob("track", TrackParams(), folder, source, settings=settings)
    TRACK.prepare(follow)
    tracks = TRACK.run(follow)
    assert isinstance(tracks, TrackResult)
    return source, write_tracks(folder / "tracks.json", tracks), tracks.unpacked()


def test_the_group_shows_both_players_and_the_ball(game: tuple[Path, Path, TrackResult]) -> None:
    """They take 453 to 749 px from left to right, and a window that fills the output is 404 wide:
    so it is wider, with bars, but no more than it need be, and stands for them, not for the whole
    picture."""
    source, path, tracks = game
    result = crop(source, tracks=path, framing="group")
    assert {segment.layout for segment in result.segments} == {"blur"}
    windows = windows_at(result, [index / 24 for index in range(FRAMES)])
    assert windows[:, 2].max() <= 1280 * 0.7 and (windows[:, 2] == windows[0, 2]).all()
    cut = {
        "person": np.zeros(FRAMES, bool),
        "sports ball": np.zeros(FRAMES, bool),
    }  # not whole in the window
    for track in tracks.tracks:
        frames, boxes = (
            [box.frame for box in track.frames],
            np.array([box.bbox for box in track.frames]),
        )
        near, far = windows[frames, :2] - 0.5, windows[frames, :2] + windows[frames, 2:] + 0.5
        cut[track.class_name][frames] |= ((boxes[:, :2] < near) | (boxes[:, 2:] > far)).any(1)
    whole = [1 - lost.mean() for lost in (cut["person"], cut["person"] | cut["sports ball"])]
    print(
        f"window {windows[0, 2]:.0f} px; players whole {whole[0]:.2%}, and the ball {whole[1]:.2%}"
    )
    assert whole[1] >= 0.95
    assert {track.track_id for track in tracks.tracks if len(track.frames) > 6} == set(
        result.segments[0].subject.track_ids
    )
    assert result.stats.still > 0.7 and result.stats.jerk < 1


def test_the_thrower_and_the_ball_fill_the_output(
    game: tuple[Path, Path, TrackResult], tmp_path: Path
) -> None:
    """By default. The one who throws, and the ball in frames in which the detector sees it. In 14
    of the 270 the two are farther apart than the window is wide, 404 px: no window at all shows
    both, and the player is what is shown."""
    source, path, tracks = game
    result = crop(source, tmp_path / "out.mp4", tracks=path)
    assert {segment.layout for segment in result.segments} == {"crop"}
    windows = windows_at(result, [index / 24 for index in range(FRAMES)])
    assert (windows[:, 2:] == (404, 720)).all(), "full-bleed"
    written = luma(tmp_path / "out.mp4")
    assert [frame.shape for frame in written] == [(720, 404)] * FRAMES
    (player,) = (track for track in tracks.tracks if track.track_id == result.subject.track_id)
    assert player.class_name == "person"
    edges = np.full((2, FRAMES, 2), np.nan)  # of player and ball: left and right
    for index, track in [
        (0, player),
        *((1, one) for one in tracks.tracks if one.class_name == "sports ball"),
    ]:
        for box in track.frames:
            edges[index, box.frame] = box.bbox[0], box.bbox[2]
    begin, end = (
        windows[:, 0] - 0.5,
        windows[:, 0] + windows[:, 2] + 0.5,
    )  # what straight lines may be off
    missed = (edges[..., 0] < begin) | (
        edges[..., 1] > end
    )  # not so where NaN: what is not seen is not missed
    middle = edges[1].mean(1)
    lost = missed[0] | (middle < begin) | (middle > end)
    apart = np.fmax.reduce(edges[..., 1]) - np.fmin.reduce(edges[..., 0]) > windows[:, 2]
    print(
        f"both whole: {1 - missed.any(0).mean():.2%}; player whole and the ball's middle:"
        f" {1 - lost.mean():.2%}"
    )
    assert not missed[0].any()
    assert apart.sum() <= 14 and not (missed[1] & ~apart).any(), (
        "both wherever one window holds both"
    )
    assert 1 - lost.mean() >= 0.95
