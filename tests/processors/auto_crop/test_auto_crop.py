"""The auto_crop task from file to result: frames and times, tracks that come along, keyframes that
come back, and wishes that a video cannot fulfil."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import clips
from support.crop_kit import (
    WIDE,
    centroid,
    crop,
    job,
    luma,
    marker,
    marker_positions,
    track_result,
    walking,
    windows_at,
    write_tracks,
)
from support.upscale_kit import packets, seen

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.auto_crop import AutoCropParams, CropOverride
from gpu_worker_processors.auto_crop.analyse import rising
from gpu_worker_processors.auto_crop.processor import PROCESSOR, classes_to_find
from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe

VFR = [0, 3000, 4500, 12000, 15003, 15903, 40000, 40900, 90000, 91000, 93000, 99000]
"""1/90000 s, from 10 ms to half a second apart."""
STILL = [{"time": 0.0, "x": 0.0}]

# ---- frames and time

SOURCES: dict[str, tuple[str, clips.Clip]] = {
    "constant": ("mp4", clips.Clip(frames=30, audio_seconds=1.2)),
    "ntsc": ("mp4", clips.Clip(frames=30, rate=Fraction(30000, 1001))),
    "variable": ("mp4", clips.Clip(frames=len(VFR), pts=VFR, audio_seconds=1.5)),
    "matroska": ("mkv", clips.Clip(frames=len(VFR), pts=VFR)),
    "turned": ("mp4", clips.Clip(frames=10, rotation=-90)),
    "odd": ("mkv", clips.Clip(width=67, height=49, frames=10, pix_fmt="yuv444p")),
    "ten bits": ("mp4", clips.Clip(frames=10, codec="libx265", pix_fmt="yuv420p10le", options=())),
    "4:2:2": ("mkv", clips.Clip(frames=10, pix_fmt="yuv422p")),
    "one frame": ("mp4", clips.Clip(frames=1)),
    "late": ("mp4", clips.Clip(frames=10, start_pts=5, audio_seconds=1.0)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_frame_comes_out_with_its_own_timestamp(tmp_path: Path, name: str) -> None:
    suffix, clip = SOURCES[name]
    source = clips.make(tmp_path / f"in.{suffix}", clip)
    output = tmp_path / f"out.{suffix}"
    result = crop(source, output, keyframes=STILL)
    found, given = seen(output), seen(source)
    assert found.pts_seconds == given.pts_seconds
    assert result.stats.frames_processed == len(found.pts_seconds) == clip.frames
    assert f"{found.size[0]}x{found.size[1]}" == result.stats.output_resolution
    assert found.size[0] % 2 == found.size[1] % 2 == 0
    assert found.rotation == 0 and found.sar in (None, 1)
    assert packets(output, "audio") == packets(source, "audio")


@pytest.mark.parametrize("codec", ["h264", "hevc", "prores"])
def test_colours_and_depth_are_kept(tmp_path: Path, codec: str) -> None:
    clip = clips.Clip(
        frames=3, codec="libx265", pix_fmt="yuv420p10le", options=(), color=(9, 9, 14, 1)
    )
    source = clips.make(tmp_path / "in.mp4", clip)
    output = tmp_path / "out.mov"
    result = crop(source, output, keyframes=STILL, codec=codec)
    assert seen(output).colors == (9, 9, 14, 1)
    bits = av.VideoFormat(seen(output).pix_fmt).components[0].bits
    assert bits == (8 if codec == "h264" else 10)
    assert ("bit_depth_reduced" in {w.code for w in result.warnings}) == (codec == "h264")


def test_a_turned_video_is_cropped_upright(tmp_path: Path) -> None:
    """A phone's film: stored 320x180, shown 180x320. The marker is low on the screen; a square
    around it is cropped."""
    spot_shown = (60.0, 250.0)
    stored = (spot_shown[1], 180 - spot_shown[0])  # a quarter clockwise turns it back
    spec = clips.Clip(width=320, height=180, frames=3, rotation=-90)
    source = clips.make(tmp_path / "in.mp4", spec, marker(lambda _: stored))
    keys = [{"frame": 0, "x": 10.25, "y": 200.0, "width": 100.0, "height": 100.0}]
    result = crop(
        source, tmp_path / "out.mp4", keyframes=keys, target_aspect="1:1", output_width=100
    )
    assert result.stats.input_resolution == "180x320"
    assert np.abs(marker_positions(tmp_path / "out.mp4") - (49.75, 50)).max() < 0.25


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sound_and_picture_do_not_drift_in_ten_minutes(tmp_path: Path) -> None:
    """At 29.97 frames/s, a white frame at 1 s and one at the end; the sound's packets are where
    they were."""
    rate, frames = Fraction(30000, 1001), 17982
    flashes = {30, frames - 30}

    def paint(index: int, width: int, height: int) -> Any:
        return np.full((height, width, 3), 235 if index in flashes else 16, np.uint8)

    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(frames=frames, rate=rate, audio_seconds=600), paint
    )
    keys = [{"frame": 0, "x": 0.0}, {"frame": frames - 1, "x": 30.0}]
    crop(source, tmp_path / "out.mp4", keyframes=keys)
    times = seen(tmp_path / "out.mp4").pts_seconds
    bright = [
        times[index]
        for index, picture in enumerate(luma(tmp_path / "out.mp4"))
        if picture.mean() > 128
    ]
    assert bright == [index / rate for index in sorted(flashes)]
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        starts = [
            [packet.pts for packet in container.demux(audio=0) if packet.size]
            for container in (before, after)
        ]
    assert starts[0] == starts[1]


# ---- tracks that come along


def test_the_window_follows_and_restarts_at_the_cut(tmp_path: Path) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    output = tmp_path / "out.mp4"
    result = crop(source, output, tracks=write_tracks(tmp_path / "tracks.json", tracks))
    assert [
        (segment.shot, segment.start_frame, segment.end_frame) for segment in result.segments
    ] == [(0, 0, 24), (1, 25, 49)]
    assert [segment.subject.track_id for segment in result.segments] == [1, 2]
    assert (result.stats.shots, result.stats.in_view, result.stats.subject_frames) == (2, 1.0, 50)
    keys = {key.frame: key.x for key in result.crop_keyframes}
    assert keys[25] - keys[24] > 100, "no easing across the cut"
    windows = windows_at(result, [index / 25 for index in range(50)])
    truth = np.array([70.0 + i if i < 25 else 265.0 for i in range(50)])
    off = marker_positions(output)[:, 0] - (truth - windows[:, 0])
    print(
        f"off by {np.sqrt((off**2).mean()):.4f} px rms, at the cut {np.abs(off[24:26]).max():.4f}"
    )
    assert np.sqrt((off**2).mean()) < 0.25
    assert np.abs(off[24:26]).max() < 0.5 + 0.25, (
        "half a pixel is what straight lines between keyframes may be off"
    )


def test_tracks_of_every_fourth_frame_give_the_same_path(tmp_path: Path) -> None:
    """He walks evenly, so straight lines between the frames looked at are the truth; over the cut
    nothing is drawn."""
    source, tracks = walking(tmp_path / "in.mp4")
    boxes = {one.track_id: {box.frame: box.bbox for box in one.frames} for one in tracks.tracks}
    kept = {
        track_id: {f: b for f, b in found.items() if f % 4 == 0 or f == 24}
        for track_id, found in boxes.items()
    }
    sparse = track_result(kept, size=(320, 180), frames=50, cuts=(25,))
    whole, thin = (
        crop(source, tracks=write_tracks(tmp_path / "t.json", one)) for one in (tracks, sparse)
    )
    assert thin.stats.subject_frames == 50 - 3 - 1, (
        "frames 25 to 27 and 49 lie outside of all that was seen"
    )
    assert [s.subject.track_id for s in thin.segments] == [
        s.subject.track_id for s in whole.segments
    ]
    times = [index / 25 for index in range(50)]
    assert np.abs(windows_at(thin, times)[:, 0] - windows_at(whole, times)[:, 0]).max() < 5, (
        "of a window of 101"
    )


def test_a_list_of_frames_that_is_wrong_is_not_believed(tmp_path: Path) -> None:
    """Between two pictures stands one that is "not coded" (MPEG-4 part 2, 6.2.5, vop_coded 0); only
    decoding tells. The job begins again with what was decoded."""
    plain = clips.make(tmp_path / "plain.mkv", clips.Clip(frames=20, codec="mpeg4", options=()))
    source, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(plain)) as given, av.open(str(source), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            pts, base, packet.stream = packet.pts, packet.time_base, stream
            made.mux(packet)
            if index == 9:
                empty = av.Packet(
                    bytes([0, 0, 1, 0xB6, 0x50, 0xCF])
                )  # type P, one tick of 1/25 s, not coded
                empty.pts = empty.dts = pts + round(Fraction(1, 50) / base)
                empty.time_base, empty.stream = base, stream
                made.mux(empty)
    listed = FrameReader(source, probe(source)).listed()
    assert listed is not None and len(listed) == 21
    result = crop(source, output, keyframes=STILL)
    assert result.stats.frames_processed == 20
    assert seen(output).pts_seconds == seen(source).pts_seconds
    assert len(result.warnings) == len({warning.code for warning in result.warnings})


@pytest.mark.parametrize("name", SOURCES)
def test_the_list_of_frames_is_what_decoding_finds(tmp_path: Path, name: str) -> None:
    suffix, clip = SOURCES[name]
    source = clips.make(tmp_path / f"in.{suffix}", clip)
    reader = FrameReader(source, probe(source))
    listed = reader.listed()
    assert listed is not None
    assert [pts for pts, _ in listed] == [item.pts for item in reader]


def test_the_model_is_not_loaded_for_tracks_or_keyframes(tmp_path: Path) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    path = write_tracks(tmp_path / "tracks.json", tracks)
    assert crop(source, tracks=path, weights_dir=None).stats.subject_frames == 50
    assert PROCESSOR.required_weights(AutoCropParams.model_validate({"keyframes": STILL})) == ()
    assert PROCESSOR.required_weights(AutoCropParams()) == ("yolov8n",)
    with pytest.raises(TaskError) as caught:
        crop(source, weights_dir=tmp_path)
    assert caught.value.code == ErrorCode.weights_missing


# ---- coordinates


def test_a_dry_run_answers_what_a_render_shows(tmp_path: Path) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    path = write_tracks(tmp_path / "tracks.json", tracks)
    dry = crop(source, tracks=path)
    wet = crop(source, tmp_path / "out.mp4", tracks=path)
    assert dry.crop_keyframes == wet.crop_keyframes
    assert (
        dry.stats.output_resolution == "" and dry.worker is not None and dry.worker.encoder is None
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "tracks.json"]


@pytest.mark.parametrize("normalised", [False, True])
def test_the_answer_sent_back_as_keyframes_gives_the_same_video(
    tmp_path: Path, normalised: bool
) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    path = write_tracks(tmp_path / "tracks.json", tracks)
    first = crop(source, tmp_path / "first.mp4", tracks=path, normalised=normalised)
    if normalised:
        assert all(
            key.x + key.width <= 1 + 1e-6 and key.height <= 1 for key in first.crop_keyframes
        )
    keys = [key.model_dump() for key in first.crop_keyframes]
    second = crop(source, tmp_path / "second.mp4", keyframes=keys, normalised=normalised)
    assert second.segments == []
    places = marker_positions(tmp_path / "first.mp4"), marker_positions(tmp_path / "second.mp4")
    assert np.abs(places[0] - places[1]).max() < 0.75, (
        "half a pixel is what straight lines may be off"
    )


def test_two_apart_are_shown_whole(tmp_path: Path) -> None:
    """Two who matter alike, far apart: one of them; or, as asked, the whole picture over a blurred
    copy."""
    boxes = {
        1: dict.fromkeys(range(20), (10.0, 40.0, 50.0, 160.0)),
        2: dict.fromkeys(range(20), (270.0, 40.0, 310.0, 160.0)),
    }
    tracks = write_tracks(tmp_path / "tracks.json", track_result(boxes, size=WIDE, frames=20))
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(*WIDE, frames=20), marker(lambda _: (30.0, 90.0))
    )
    whole = crop(source, tmp_path / "whole.mp4", tracks=tracks, framing="group")
    assert [segment.layout for segment in whole.segments] == ["blur"]
    scale = 102 / 320
    inner = [centroid(picture[64:116]) for picture in luma(tmp_path / "whole.mp4")]
    assert np.abs(np.array(inner) - (30 * scale, 26)).max() < 0.3
    one = crop(source, tmp_path / "one.mp4", tracks=tracks)
    assert [segment.layout for segment in one.segments] == ["crop"]
    assert one.stats.in_view == 1.0


# ---- wishes that a video cannot fulfil


def test_a_wider_target_takes_less_height(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(width=320, height=180, frames=3))
    assert (
        crop(
            source, tmp_path / "out.mp4", keyframes=STILL, target_aspect="4:1"
        ).stats.output_resolution
        == "320x80"
    )


def test_what_a_subject_names_is_looked_for(tmp_path: Path) -> None:
    params = AutoCropParams(
        subject="dog",
        classes=["person"],
        overrides=[CropOverride(start_time=0, end_time=1, subject="cat")],
    )
    assert classes_to_find(params) == ["person", "dog", "cat"]
    source, _ = walking(tmp_path / "in.mp4")
    with pytest.raises(
        TaskError, match=r"^invalid_task: params\.subject is no class that hog knows"
    ) as caught:
        crop(source, model="hog", classes=["person"], subject="player")
    assert caught.value.details["path"] == "params.subject"


def test_of_the_default_classes_hog_looks_for_those_it_knows() -> None:
    assert classes_to_find(AutoCropParams(model="hog")) == ["person"]
    assert classes_to_find(AutoCropParams(model="hog", classes=["dog"])) == ["dog"], (
        "refused by the detector, where it stands"
    )


@pytest.mark.parametrize("subject", ["dog", "auto"])
def test_nobody_there_is_an_answer(tmp_path: Path, subject: str) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    nobody = tracks.model_copy(
        update={"tracks": [], "stats": tracks.stats.model_copy(update={"unique_tracks": 0})}
    )
    path = write_tracks(tmp_path / "tracks.json", nobody if subject == "auto" else tracks)
    result = crop(source, tmp_path / "out.mp4", tracks=path, subject=subject)
    assert (result.subject.track_id, result.stats.subject_frames, result.stats.in_view) == (
        None,
        0,
        None,
    )
    assert result.subject.reason
    assert [warning.code for warning in result.warnings] == (
        [] if subject == "auto" else ["subject_absent"]
    )
    windows = windows_at(result, [0.0, 1.9])
    assert np.allclose(windows[:, 0], (320 - windows[0, 2]) / 2, atol=1), "the middle"
    assert len(luma(tmp_path / "out.mp4")) == 50


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown id": ({"subject": 7}, "there are: 1, 2"),
    "an unknown id for a time": (
        {"overrides": [{"start_time": 0.0, "end_time": 1.0, "subject": 9}]},
        "overrides.0.subject",
    ),
    "a keyframe outside": ({"keyframes": [{"frame": 0, "x": 250.0}]}, r"params\.keyframes\.0"),
    "a keyframe too late": ({"keyframes": [{"frame": 50, "x": 0.0}]}, "0 to 49"),
    "a time too late": ({"keyframes": [{"time": 2.5, "x": 0.0}]}, "after the end"),
    "no room": ({"zoom": 8.0}, "16 pixels"),
    "an override outside": (
        {"overrides": [{"start_time": 0.0, "end_time": 1.0, "x": 300.0}]},
        r"overrides\.0\.x",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wishes_that_cannot_be_fulfilled_are_named(tmp_path: Path, name: str) -> None:
    source, tracks = walking(tmp_path / "in.mp4")
    params, words = REFUSED[name]
    path = None if "keyframes" in params else write_tracks(tmp_path / "tracks.json", tracks)
    with pytest.raises(TaskError, match=words) as caught:
        crop(source, tmp_path / "out.mp4", tracks=path, **params)
    assert caught.value.code == ErrorCode.invalid_task
    assert not (tmp_path / "out.mp4").exists()


def test_what_no_encoder_writes_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=3))
    reports: list[str] = []
    one = replace(
        job(source, tmp_path / "out.mp4", keyframes=STILL, output_width=16384, target_aspect="1:1"),
        progress=lambda stage, *_: reports.append(stage),
    )
    with pytest.raises(TaskError) as caught:
        PROCESSOR.run(one)
    assert caught.value.code == ErrorCode.media_limit
    assert reports == []


def test_times_that_hardly_rise_ask_for_no_infinite_speed() -> None:
    times = rising(np.array([0, 1e-9, 0.04, 0.0400001, 0.08, 1.0]))
    assert np.diff(times).min() >= 1e-3 - 1e-12
    assert np.abs(times - [0, 0.001, 0.04, 0.041, 0.08, 1.0]).max() < 1e-9
    even = np.arange(100) / 25
    assert rising(even) is even
