"""probe: what it says about clips whose every property was chosen here, and what it says in place
of guessing."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.first_frame import choose_fps
from gpu_worker_processors.media.probe import VideoInfo, probe, require_video, upright

X265 = {"codec": "libx265", "options": (("x265-params", "log-level=none"),)}


def ffmpeg(*args: object) -> bytes:
    """The ffmpeg command of imageio-ffmpeg: another build than PyAV's, with its own idea of
    rotation and stream choice."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def video(path: Path) -> VideoInfo:
    return require_video(probe(path))


def test_a_plain_clip(tmp_path: Path) -> None:
    info = probe(clips.make(tmp_path / "a.mp4", clips.Clip(audio_seconds=1.0)))
    got = require_video(info)
    assert (got.width, got.height, got.frame_count, got.fps) == (64, 48, 50, 25)
    assert (got.codec, got.pix_fmt, got.bit_depth, got.rotation, got.sar) == (
        "h264",
        "yuv420p",
        8,
        0,
        1,
    )
    assert got.duration_seconds == pytest.approx(2.0)
    assert [(a.codec, a.sample_rate, a.channels) for a in info.audio] == [("aac", 48000, 1)]
    assert (info.subtitles, info.chapters, info.has_cover) == ((), 0, False)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("angle", [0, 90, -90, 180])
@pytest.mark.parametrize(
    "flips", [(False, False), (True, False), (False, True), (True, True)], ids=str
)
def test_turning_by_rotation_and_mirror_gives_what_ffmpeg_shows(
    tmp_path: Path, suffix: str, angle: int, flips: tuple[bool, bool]
) -> None:
    path = tmp_path / f"turned.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(angle, hflip=flips[0], vflip=flips[1])
        frame = av.VideoFrame.from_ndarray(clips.corners(0, 64, 48), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    got = video(path)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    ours = np.rot90(stored, -got.rotation // 90)
    ours = ours[:, ::-1] if got.mirrored else ours
    shown = np.frombuffer(ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
    assert np.array_equal(shown.reshape(got.height, got.width, 3), ours)
    assert (got.coded_width, got.coded_height) == (64, 48)


@pytest.mark.parametrize(
    ("degrees", "quarter", "left"),
    [
        (0, 0, 0),
        (90, 90, 0),
        (-90, 270, 0),
        (180, 180, 0),
        (37, 0, 37),
        (359, 0, -1),
        (-134, 270, -44),
    ],
)
def test_the_nearest_quarter_turn(degrees: int, quarter: int, left: int) -> None:
    assert upright(degrees) == (quarter, pytest.approx(left))


def test_an_odd_angle_is_rounded_with_a_warning(tmp_path: Path) -> None:
    info = probe(clips.make(tmp_path / "a.mp4", clips.Clip(rotation=-37, frames=2)))
    assert require_video(info).rotation == 0
    assert [w.code for w in info.warnings] == ["rotation_rounded"]


def test_pixel_shape_is_of_the_upright_frame(tmp_path: Path) -> None:
    assert video(
        clips.make(tmp_path / "a.mp4", clips.Clip(sar=Fraction(4, 3), frames=2))
    ).sar == Fraction(4, 3)
    turned = video(
        clips.make(tmp_path / "b.mp4", clips.Clip(sar=Fraction(4, 3), frames=2, rotation=90))
    )
    assert (turned.width, turned.height, turned.sar) == (48, 64, Fraction(3, 4))


@pytest.mark.parametrize(
    "color", [(1, 1, 1, 1), (5, 5, 6, 2), (6, 6, 6, 1)], ids=["bt709", "pal-full", "ntsc"]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_color_tags(tmp_path: Path, suffix: str, color: tuple[int, int, int, int]) -> None:
    got = video(clips.make(tmp_path / f"a.{suffix}", clips.Clip(frames=2, color=color)))
    assert (got.colorspace, got.primaries, got.transfer, got.color_range) == color


def test_hdr10(tmp_path: Path) -> None:
    got = video(
        clips.make(
            tmp_path / "a.mp4",
            clips.Clip(frames=5, color=(9, 9, 16, 1), pix_fmt="yuv420p10le", **X265),
        )
    )
    assert (got.bit_depth, got.colorspace, got.primaries, got.transfer) == (10, 9, 9, 16)


CONTAINERS: dict[str, dict[str, object]] = {
    "mp4": {},
    "mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "options": ()},
    "mkv": {"codec": "ffv1", "options": ()},
    "webm": {"codec": "libvpx-vp9", "options": (("cpu-used", "8"),)},
    "avi": {"codec": "mpeg4", "options": ()},
    "ts": {},
    "gif": {"codec": "gif", "pix_fmt": "rgb8", "options": ()},
    "flv": {},
}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_containers(tmp_path: Path, suffix: str) -> None:
    path = clips.make(tmp_path / f"a.{suffix}", clips.Clip(frames=10, **CONTAINERS[suffix]))
    unnamed = path.rename(tmp_path / "input")  # the fetched file has no suffix to go by
    assert (video(unnamed).width, video(unnamed).height) == (64, 48)


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ((Fraction(30000, 1001), None), Fraction(30000, 1001)),
        ((None, Fraction(24)), 24),
        ((Fraction(10**9), Fraction(50)), 50),
        ((None, None), 25),
    ],
)
def test_the_first_believable_rate(rates: tuple[Fraction | None, ...], chosen: Fraction) -> None:
    assert choose_fps(*rates) == chosen


def test_of_several_video_streams_the_one_ffmpeg_takes(media: Path, tmp_path: Path) -> None:
    path = media / "scenes" / "nasa_13013.mp4"
    info = probe(path)
    ffmpeg("-i", path, "-frames:v", "1", "-f", "rawvideo", tmp_path / "frame.yuv")
    shown_bytes = (tmp_path / "frame.yuv").stat().st_size
    got = require_video(info)
    assert (got.index, got.width * got.height * 3 // 2, got.frame_count) == (3, shown_bytes, 390)
    assert len(info.audio) == 2
    assert [s.codec for s in info.subtitles] == ["mov_text", "mov_text"]


def test_too_many_pixels_are_refused_by_the_configured_limit(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=2))
    with pytest.raises(TaskError, match="64x48") as caught:
        probe(path, Limits(max_pixels=64 * 48 - 1))
    assert caught.value.code is ErrorCode.media_limit
    probe(path, Limits(max_pixels=64 * 48))
