"""The track task from file to result: shots, numbering, strides, pieces of a feed, and videos in
which nobody is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError, TrackParams, TrackResult
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.track.processor import PROCESSOR

Picture = NDArray[np.uint8]


def run(
    path: Path, weights_dir: Path | None, output: Path | None = None, **params: Any
) -> TrackResult:
    settings = ProcessorSettings(weights_dir, "cpu")
    job = LocalJob(
        "job", TrackParams(**params), path.parent, path, output_path=output, settings=settings
    )
    PROCESSOR.prepare(job)
    result = PROCESSOR.run(job)
    assert isinstance(result, TrackResult)
    return result.unpacked()


def pictures(path: Path, start: int = 0, count: int | None = None) -> Iterator[Picture]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        for frame in islice(frames, start, None if count is None else start + count):
            yield frame.to_ndarray(format="bgr24")


def film(path: Path, frames: Iterable[Picture], rate: int = 10) -> Path:
    """Written without loss, so that a piece of a film holds exactly the frames of the film."""
    with av.open(str(path), "w") as container:
        stream = None
        for index, picture in enumerate(frames):
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=rate, options={"qp": "0", "preset": "ultrafast"}
                )
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def fitted(frames: Iterable[Picture], width: int = 640, height: int = 360) -> Iterator[Picture]:
    for picture in frames:
        yield cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[misc]


THREE = (
    "basketball_720p24.mp4",
    "towncentre_pedestrians_1080p.mp4",
    "pets_vtest/vtest_480x360.avi",
)


@pytest.fixture(scope="module")
def three_shots(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of each of three real clips, one after the other."""
    path = tmp_path_factory.mktemp("shots") / "three.mp4"
    frames = (
        picture for name in THREE for picture in fitted(pictures(media / "tracking" / name, 20, 12))
    )
    return film(path, frames, rate=25)


@pytest.fixture(scope="module")
def tracked(three_shots: Path, weights_dir: Path) -> TrackResult:
    return run(three_shots, weights_dir, confidence_threshold=0.3, return_state=True)


def test_no_id_spans_a_cut_and_cuts_are_exact(tracked: TrackResult) -> None:
    result = tracked
    assert [cut.frame for cut in result.cuts] == [12, 24]
    assert [cut.time for cut in result.cuts] == pytest.approx([12 / 25, 24 / 25], abs=1e-6)
    assert result.stats.shots == 3
    found = {track.shot for track in result.tracks}
    assert found == {0, 1, 2}, "people are in all three"
    for track in result.tracks:
        assert {box.frame // 12 for box in track.frames} == {track.shot}


@pytest.mark.slow
def test_without_reset_a_track_may_go_on_over_a_cut(
    media: Path, weights_dir: Path, tmp_path: Path
) -> None:
    """The same street twice, darkened: whoever stands there matches across, unless a cut is a
    cut."""
    street = list(fitted(pictures(media / "tracking" / THREE[1], 0, 8)))
    still = [street[0]] * 8
    night = [(picture * 0.25).astype(np.uint8) for picture in still]
    path = film(tmp_path / "night.mp4", [*still, *night], rate=25)
    across = run(path, weights_dir, reset_at_cuts=False, confidence_threshold=0.3)
    assert [cut.frame for cut in across.cuts] == [8]
    assert any(track.frames[0].frame < 8 <= track.frames[-1].frame for track in across.tracks)
    kept_apart = run(path, weights_dir, confidence_threshold=0.3)
    assert not any(
        track.frames[0].frame < 8 <= track.frames[-1].frame for track in kept_apart.tracks
    )


@pytest.mark.slow
def test_two_jobs_on_a_warm_worker_answer_the_same(
    three_shots: Path, weights_dir: Path, tracked: TrackResult
) -> None:
    assert run(three_shots, weights_dir, confidence_threshold=0.3).tracks == tracked.tracks
    assert min(track.track_id for track in tracked.tracks) == 1


@pytest.mark.slow
def test_the_drawn_video_has_every_frame(
    three_shots: Path, weights_dir: Path, tmp_path: Path
) -> None:
    plain = run(three_shots, weights_dir)
    drawn = run(three_shots, weights_dir, tmp_path / "drawn.mp4")
    assert drawn.tracks == plain.tracks
    assert drawn.worker is not None and drawn.worker.encoder == "libx264"
    assert sum(1 for _ in pictures(tmp_path / "drawn.mp4")) == 36


def test_a_stride_keeps_frame_numbers_and_cuts(three_shots: Path, weights_dir: Path) -> None:
    result = run(three_shots, weights_dir, frame_stride=5, confidence_threshold=0.3)
    assert [cut.frame for cut in result.cuts] == [12, 24], "cuts are looked for in every frame"
    frames = {box.frame for track in result.tracks for box in track.frames}
    assert frames <= set(range(0, 36, 5))
    assert len(frames) > 4
    assert result.stats.total_frames == 36


@pytest.mark.parametrize(
    "algorithm", ["botsort", pytest.param("bytetrack", marks=pytest.mark.slow)]
)
def test_a_feed_in_pieces_gets_the_ids_of_the_whole(
    media: Path, weights_dir: Path, tmp_path: Path, algorithm: str
) -> None:
    whole = list(pictures(media / "tracking" / THREE[2], 339, 14))
    split = 6
    expected = run(film(tmp_path / "whole.mp4", whole), weights_dir, track_algorithm=algorithm)
    first = run(
        film(tmp_path / "1.mp4", whole[:split]),
        weights_dir,
        track_algorithm=algorithm,
        return_state=True,
    )
    assert first.state_out is not None and first.state_out["frames"] == split
    # As a caller has it: through JSON.
    state = TrackResult.model_validate_json(first.model_dump_json()).state_out
    second = run(
        film(tmp_path / "2.mp4", whole[split:]),
        weights_dir,
        track_algorithm=algorithm,
        state_in=state,
    )
    joined = {
        (track.track_id, box.frame + offset): box.bbox
        for result, offset in ((first, 0), (second, split))
        for track in result.tracks
        for box in track.frames
    }
    boxes = {
        (track.track_id, box.frame): box.bbox for track in expected.tracks for box in track.frames
    }
    assert {track.track_id for track in first.tracks} & {track.track_id for track in second.tracks}
    missing = set(boxes) - set(joined)
    assert all(frame == split - 1 for _, frame in missing), (
        "only what the next piece alone confirms may be missing"
    )
    assert {key: boxes[key] for key in joined} == joined


def test_a_state_of_another_detector_is_refused(
    three_shots: Path, weights_dir: Path, tracked: TrackResult
) -> None:
    with pytest.raises(TaskError) as caught:
        run(
            three_shots,
            weights_dir,
            confidence_threshold=0.3,
            state_in=tracked.state_out,
            classes=["dog"],
        )
    assert caught.value.code == ErrorCode.invalid_task


@pytest.mark.parametrize("model", ["yolov8n", "hog"])
def test_nobody_there_is_an_answer(tmp_path: Path, weights_dir: Path, model: str) -> None:
    path = clips.make(
        tmp_path / "empty.mp4", clips.Clip(frames=4), clips.flat((90, 90, 90), every=4)
    )
    result = run(path, weights_dir, model=model, classes=["person"])
    assert (result.tracks, result.stats.unique_tracks, result.stats.total_frames) == ([], 0, 4)
    assert result.status == "completed"


SIZES = {"one pixel": (1, 1), "one frame": (64, 48), "wide": (1600, 32), "8K": (7680, 4320)}


@pytest.mark.parametrize(
    "name", [n if n != "8K" else pytest.param(n, marks=pytest.mark.slow) for n in SIZES]
)
def test_extreme_sizes(tmp_path: Path, weights_dir: Path, name: str) -> None:
    width, height = SIZES[name]
    options = (("preset", "ultrafast"),) if min(width, height) > 1 else ()
    codec, pix_fmt, suffix = (
        ("libx264", "yuv420p", "mp4") if options else ("ffv1", "yuv444p", "mkv")
    )
    spec = clips.Clip(
        width=width, height=height, frames=1, codec=codec, pix_fmt=pix_fmt, options=options
    )
    result = run(clips.make(tmp_path / f"clip.{suffix}", spec), weights_dir)
    assert result.video is not None
    assert (result.video.width, result.video.height, result.stats.total_frames) == (
        width,
        height,
        1,
    )


def test_boxes_stand_upright_in_a_turned_video(
    media: Path, weights_dir: Path, tmp_path: Path
) -> None:
    """The same frames, stored lying with a display matrix that turns them back: the same boxes but
    for rounding."""
    frames = list(fitted(pictures(media / "tracking" / THREE[0], 20, 4)))
    spec = clips.Clip(
        width=360,
        height=640,
        frames=4,
        rotation=-90,
        options=(("qp", "0"), ("preset", "ultrafast")),
    )

    def lying(index: int, width: int, height: int) -> Picture:
        turned: Any = cv2.rotate(frames[index], cv2.ROTATE_90_COUNTERCLOCKWISE)
        assert turned.shape[:2] == (height, width)
        return np.ascontiguousarray(turned[:, :, ::-1])

    upright = run(film(tmp_path / "upright.mp4", frames, rate=25), weights_dir)
    turned = run(clips.make(tmp_path / "lying.mp4", spec, lying), weights_dir)
    assert turned.video is not None and (turned.video.width, turned.video.height) == (640, 360)
    assert len(turned.tracks) == len(upright.tracks) > 0
    for one, other in zip(turned.tracks, upright.tracks, strict=True):
        assert one.class_name == other.class_name
        assert np.allclose(one.frames[0].bbox, other.frames[0].bbox, atol=4)


def test_times_of_a_variable_rate_are_known_to_the_result(
    tmp_path: Path, weights_dir: Path
) -> None:
    path = clips.make(
        tmp_path / "vfr.mp4", clips.Clip(frames=8, pts=(0, 40, 80, 200, 240, 280, 400, 440))
    )
    video = run(path, weights_dir).video
    assert video is not None and video.is_vfr
    with av.open(str(path)) as container:
        truth = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert truth[3] / truth[1] == pytest.approx(200 / 40)
    assert [video.seconds_of(frame) for frame in range(8)] == pytest.approx(truth, abs=1e-3)


def test_unknown_class_and_model_say_what_there_is(tmp_path: Path, weights_dir: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=2))
    with pytest.raises(TaskError, match="person") as caught:
        run(path, weights_dir, classes=["persn"])
    assert caught.value.code == ErrorCode.invalid_task
    with pytest.raises(TaskError, match="yolov8n") as caught:
        run(path, weights_dir, model="yolov9000")
    assert caught.value.code == ErrorCode.invalid_task
