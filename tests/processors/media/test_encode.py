"""Encoder choice, the writer, and what is carried over from the source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.subtitles.subtitle import SubtitleSet
from support import clips
from support.upscale_kit import SOFTWARE, Repeat, job, packets, planes, seen, writer_spec

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.color import ColorTags
from gpu_worker_processors.media.encode import VideoSpec, VideoWriter
from gpu_worker_processors.media.encoders import (
    CANDIDATES,
    check_container,
    choose_encoder,
    encoder_options,
    working_encoders,
)
from gpu_worker_processors.media.passthrough import Passthrough
from gpu_worker_processors.media.probe import probe
from gpu_worker_processors.upscale.plan import denoise_method, target_size
from gpu_worker_processors.upscale.upscale import upscale_file

ALL = SOFTWARE | {"h264_nvenc", "hevc_nvenc", "av1_nvenc"}
TAGS = ColorTags(1, 1, 1, False)

# ---- choice

CHOICES = {
    # codec, width, height, bits, available, GPU -> encoder, pixel format, has a reason
    "h264 on a GPU": ("h264", 2880, 1920, 8, ALL, True, "h264_nvenc", "yuv420p", False),
    "h264 on a CPU": ("h264", 2880, 1920, 8, SOFTWARE, False, "libx264", "yuv420p", False),
    "a GPU without NVENC (H100, A100)": (
        "h264",
        2880,
        1920,
        8,
        SOFTWARE,
        True,
        "libx264",
        "yuv420p",
        True,
    ),
    "h264 at NVENC's width": ("h264", 4096, 2304, 8, ALL, True, "h264_nvenc", "yuv420p", False),
    "h264 too wide for NVENC": ("h264", 5120, 2880, 8, ALL, True, "libx264", "yuv420p", True),
    "hevc of the same width": ("hevc", 5120, 2880, 8, ALL, True, "hevc_nvenc", "yuv420p", False),
    "hevc 10 bit on a GPU": ("hevc", 3840, 2160, 10, ALL, True, "hevc_nvenc", "p010le", False),
    "hevc 12 bit source": (
        "hevc",
        3840,
        2160,
        12,
        SOFTWARE,
        False,
        "libx265",
        "yuv420p10le",
        False,
    ),
    "av1 10 bit": ("av1", 3840, 2160, 10, SOFTWARE, False, "libsvtav1", "yuv420p10le", False),
    "h264 10 bit source": ("h264", 1920, 1080, 10, SOFTWARE, False, "libx264", "yuv420p", False),
    "prores from 8 bit": (
        "prores",
        1920,
        1080,
        8,
        SOFTWARE,
        True,
        "prores_ks",
        "yuv422p10le",
        False,
    ),
}


@pytest.mark.parametrize("row", CHOICES)
def test_the_best_working_encoder_is_taken(row: str) -> None:
    codec, width, height, bits, available, with_gpu, name, pix_fmt, has_reason = CHOICES[row]
    choice = choose_encoder(codec, width, height, available, bits=bits, with_gpu=with_gpu)
    assert (choice.name, choice.pix_fmt) == (name, pix_fmt)
    assert (choice.fallback_reason is not None) == has_reason
    assert choice.half_height == (codec != "prores")


@pytest.mark.parametrize(
    ("codec", "width", "height", "says"),
    [("h264", 7680, 4800, "hevc"), ("h264", 17000, 64, "hevc"), ("av1", 8000, 8800, "scale")],
)
def test_a_picture_too_large_is_refused_with_a_way_out(
    codec: str, width: int, height: int, says: str
) -> None:
    with pytest.raises(TaskError) as caught:
        choose_encoder(codec, width, height, SOFTWARE)
    assert caught.value.code == ErrorCode.media_limit
    assert says in caught.value.message


def test_a_missing_encoder_is_said() -> None:
    with pytest.raises(TaskError) as caught:
        choose_encoder("av1", 640, 480, {"libx264"})
    assert caught.value.code == ErrorCode.unsupported_media


@pytest.mark.parametrize("name", sorted(ALL))
def test_crf_reaches_every_encoder_that_has_one(name: str) -> None:
    low, high = encoder_options(name, 10), encoder_options(name, 40)
    assert (low != high) == (name != "prores_ks")


def test_without_a_gpu_only_software_encoders_work() -> None:
    assert working_encoders(False) == SOFTWARE
    assert {candidate.name for group in CANDIDATES.values() for candidate in group} == ALL


@pytest.mark.parametrize(
    ("suffix", "codec", "muxer"),
    [
        (".mp4", "h264", "mp4"),
        (".MOV", "prores", "mov"),
        (".mkv", "av1", "matroska"),
        (".avi", "h264", None),
    ]
    + [("", "h264", None), (".mp4", "prores", None), (".mov", "av1", None)],
)
def test_the_container_must_hold_the_codec(suffix: str, codec: str, muxer: str | None) -> None:
    if muxer is not None:
        assert check_container(suffix, codec) == muxer
        return
    with pytest.raises(TaskError) as caught:
        check_container(suffix, codec)
    assert caught.value.code == ErrorCode.unsupported_media


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((720, 480), 4, (2880, 1920)),
        ((65, 49), 4, (260, 196)),
        ((65, 49), 3, (196, 148)),
        ((3, 3), 2, (16, 16)),
        ((96, 54), 1.5, (144, 82)),
        ((160, 90), 1.5, (240, 136)),
    ],
)
def test_target_sizes_are_even(
    size: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    assert target_size(*size, scale) == expected


@pytest.mark.parametrize(
    ("model", "strength", "expected"),
    [
        ("realesr-general-x4v3", None, "none"),
        ("realesr-general-x4v3", 0.0, "weights"),
        ("realesr-general-x4v3", 0.5, "weights"),
        ("RealESRGAN_x4plus", None, "none"),
        ("RealESRGAN_x4plus", 0.0, "none"),
        ("RealESRGAN_x4plus", 0.5, "filter"),
        ("SwinIR_4x_GAN", 1.0, "filter"),
    ],
)
def test_denoising_is_never_ignored(model: str, strength: float | None, expected: str) -> None:
    assert denoise_method(model, strength) == expected


# ---- the writer


def test_a_file_without_a_source(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", writer_spec()) as writer:
        for index in range(10):
            writer.write(planes(20 * index), index)
    assert seen(tmp_path / "out.mp4").pts_seconds == [Fraction(index, 25) for index in range(10)]
    assert writer.frames == 10


def test_mp4_can_start_before_it_is_whole(tmp_path: Path) -> None:
    """+faststart: the index stands before the data."""
    with VideoWriter(tmp_path / "out.mp4", writer_spec()) as writer:
        writer.write(planes(50), 0)
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_failing_block_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(KeyError), VideoWriter(tmp_path / f"out.{suffix}", writer_spec()) as writer:
        writer.write(planes(50), 0)
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_typed_whenever_it_shows(tmp_path: Path) -> None:
    (tmp_path / "out.mkv").symlink_to("/dev/full")
    with (
        pytest.raises(TaskError) as caught,
        VideoWriter(tmp_path / "out.mkv", writer_spec(crf=0)) as writer,
    ):
        rng = np.random.default_rng(0)
        for index in range(50):
            writer.write(
                [rng.integers(16, 235, plane.shape, np.uint8) for plane in planes(0)], index
            )
    assert caught.value.code == ErrorCode.disk_full


def test_an_output_over_the_limit_stops_while_it_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = VideoWriter(
        tmp_path / "out.mkv", writer_spec(crf=0), limits=Limits(max_output_bytes=20_000)
    )
    with pytest.raises(TaskError) as caught:
        for index in range(1000):
            writer.write(
                [rng.integers(16, 235, plane.shape, np.uint8) for plane in planes(0)], index
            )
    assert caught.value.code == ErrorCode.output_too_large
    writer.__exit__(TaskError, caught.value, None)
    assert not (tmp_path / "out.mkv").exists()


def test_a_size_the_encoder_refuses_is_typed(tmp_path: Path) -> None:
    odd = VideoSpec(
        63,
        48,
        choose_encoder("h264", 63, 48, SOFTWARE),
        TAGS,
        Fraction(1),
        Fraction(25),
        Fraction(1, 25),
    )
    with pytest.raises(TaskError) as caught:
        VideoWriter(tmp_path / "out.mp4", odd)
    assert caught.value.code == ErrorCode.output_invalid
    assert not (tmp_path / "out.mp4").exists()


# ---- everything else of the source

ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,16,&Hffffff

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
LINES = [(0, 400, "Hello"), (500, 300, "second line"), (1200, 600, "last")]


def rich_clip(path: Path, subtitles: str) -> Path:
    """Two audio streams, a subtitle stream, two chapters, titles and languages."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [container.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        text = container.add_stream(subtitles)
        text.codec_context.subtitle_header = ASS_HEADER
        text.time_base = Fraction(1, 1000)
        container.metadata["title"] = "A title"
        for stream, language in zip([*sounds, text], ["eng", "fra", "ita"], strict=True):
            stream.metadata["language"] = language
        chapters = [("one", 0, 800), ("two", 800, 2000)]
        container.set_chapters(
            [
                {
                    "id": n,
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for n, (title, start, end) in enumerate(chapters)
            ]
        )
        container.start_encoding()
        for start, duration, line in LINES:
            packet = text.codec_context.encode_subtitle(
                SubtitleSet.create(
                    text=b"0,0,Default,,0,0,0,," + line.encode(), start=0, end=duration
                )
            )
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = duration
            container.mux(packet)
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(clips.gradient(index, 64, 48), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for number, sound in enumerate(sounds):
            for start in range(0, 96000, 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.full((1, 1024), 0.1 * number, np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 48000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def spoken(path: Path) -> list[tuple[int, int, str]]:
    """(start ms, length ms, words) of every subtitle."""
    found: list[tuple[int, int, str]] = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        for packet in container.demux(stream):
            decoded = stream.codec_context.decode2(packet) if packet.size > 2 else None
            for rect in decoded.rects if decoded else ():
                words = (
                    rect.ass.split(b",", 8)[-1]
                    .decode()
                    .replace("{\\an0}", "")
                    .replace("{\\an2}", "")
                )
                unit = packet.time_base * 1000
                found.append((round(packet.pts * unit), round(packet.duration * unit), words))
    return found


@pytest.mark.parametrize(
    ("route", "subtitles", "codec", "converted"),
    [
        ("mkv-mkv", "srt", "subrip", False),
        ("mkv-mkv", "ass", "ass", False),
        ("mkv-mp4", "srt", "mov_text", True),
        ("mkv-mov", "ass", "mov_text", True),
        ("mp4-mp4", "mov_text", "mov_text", False),
        ("mp4-mkv", "mov_text", "subrip", True),
    ],
)
def test_everything_else_is_carried_over(
    tmp_path: Path, route: str, subtitles: str, codec: str, converted: bool
) -> None:
    suffix_in, suffix_out = route.split("-")
    source = rich_clip(tmp_path / f"in.{suffix_in}", subtitles)
    task = job(source, tmp_path / f"out.{suffix_out}", scale=2)
    upscale_file(task, Repeat(scale=2))
    with av.open(str(tmp_path / f"out.{suffix_out}")) as container:
        assert container.metadata["title"] == "A title"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]
        ends = [
            round(chapter["end"] * chapter["time_base"] * 1000) for chapter in container.chapters()
        ]
        assert ends == [800, 2000]
        assert [stream.language for stream in container.streams.audio] == ["eng", "fra"]
        assert [stream.language for stream in container.streams.subtitles] == ["ita"]
        assert container.streams.subtitles[0].codec_context.codec.canonical_name == codec
    shift = (
        21 if route == "mp4-mkv" else 0
    )  # the AAC's first packet starts before zero, which Matroska cannot say
    assert [
        (start - shift, length, words)
        for start, length, words in spoken(tmp_path / f"out.{suffix_out}")
    ] == LINES
    assert {note.code for note in task.warnings} == ({"subtitle_converted"} if converted else set())


class Recorder:
    """An output container that notes what is written to it."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self.seconds: list[Fraction] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def mux(self, packet: Any) -> None:
        self.seconds.append(packet.dts * packet.time_base)
        self._container.mux(packet)


def test_sound_is_copied_in_step_with_the_picture(tmp_path: Path) -> None:
    """Not ahead of it: the muxer would have to hold what comes too early, however long the video
    is."""
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=100, audio_seconds=4))
    with av.open(str(tmp_path / "out.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        output = Recorder(container)
        others = Passthrough(source, probe(source), output, video, "matroska")
        for second in range(5):
            others.advance(Fraction(second))
            assert len(output.seconds) == pytest.approx(1 + second * 48000 / 1024, abs=2)
            assert output.seconds[-1] <= second
        others.advance(None)
        assert len(output.seconds) == len(packets(source, "audio"))
        others.close()


def test_what_the_container_cannot_hold_is_named(tmp_path: Path) -> None:
    """A font attached to a Matroska file and a second video do not fit into what an mp4 of this
    task holds."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as container:
        videos = [
            container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            for _ in range(2)
        ]
        for number, video in enumerate(videos):
            video.width, video.height, video.pix_fmt = 64 >> number, 48 >> number, "yuv420p"
        container.add_attachment("font.ttf", "font/ttf", b"not really a font")
        for index in range(5):
            for number, video in enumerate(videos):
                picture = clips.gradient(index, 64 >> number, 48 >> number)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(video.encode(frame))
        for video in videos:
            container.mux(video.encode(None))
    task = job(path, tmp_path / "out.mp4", scale=2)
    upscale_file(task, Repeat(scale=2))
    assert [note.code for note in task.warnings] == ["stream_left_out", "stream_left_out"]
    assert any("attachment" in note.message for note in task.warnings)
    again = job(path, tmp_path / "out.mkv", scale=2)
    upscale_file(again, Repeat(scale=2))
    assert len(again.warnings) == 1
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "attachment"]
        assert container.streams[1].data == b"not really a font"
