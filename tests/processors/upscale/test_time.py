"""Upscale keeps every frame at its time, and the audio in step with it. Its network here repeats
pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support import clips
from support.upscale_kit import packets, seen, upscaled

VFR = [0, 3000, 4500, 12000, 15003, 15903, 40000, 40900, 90000, 91000, 93000, 99000]
"""1/90000 s, from 10 ms to half a second apart."""
MS = Fraction(1, 1000)

TIMED = {
    "cfr": clips.Clip(frames=30, audio_seconds=1.2),
    "ntsc": clips.Clip(frames=30, rate=Fraction(30000, 1001)),
    "vfr": clips.Clip(frames=len(VFR), pts=VFR),
    "vfr_with_sound": clips.Clip(frames=len(VFR), pts=VFR, audio_seconds=1.5),
    "late_start": clips.Clip(frames=10, start_pts=5, audio_seconds=1.0),
    "b_frames": clips.Clip(
        frames=30, options=(("crf", "10"), ("preset", "medium")), audio_seconds=1.2
    ),
    "one_frame": clips.Clip(frames=1),
}


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("route", ["mp4-mp4", "mp4-mkv", "mkv-mkv", "mkv-mp4", "mov-mov"])
def test_every_frame_comes_out_with_its_own_timestamp(
    tmp_path: Path, name: str, route: str
) -> None:
    suffix_in, suffix_out = route.split("-")
    clip = TIMED[name]
    source = clips.make(tmp_path / f"in.{suffix_in}", clip)
    output = tmp_path / f"out.{suffix_out}"
    result = upscaled(source, output, scale=2)
    unit = Fraction(1, 90000) if clip.pts is not None else 1 / clip.rate
    ticks = clip.pts if clip.pts is not None else range(clip.frames)
    chosen = [(clip.start_pts + tick) * unit for tick in ticks]
    found = seen(output).pts_seconds
    assert len(found) == clip.frames == result.stats.frames_processed
    # Matroska knows no time before zero, where an mp4's AAC begins: everything moves by that
    # packet, together.
    priming = Fraction(1024, 48000) if route == "mp4-mkv" and clip.audio_seconds else 0
    # It counts milliseconds, on the way in and on the way out.
    tolerance = MS / 2 * route.count("mkv") + (MS / 2 if priming else 0)
    assert all(abs(a - b - priming) <= tolerance for a, b in zip(found, chosen, strict=True)), (
        found,
        chosen,
    )


@pytest.mark.parametrize("suffix", ["avi", "ts"])
def test_other_containers_keep_count_and_spacing(tmp_path: Path, suffix: str) -> None:
    source = clips.make(
        tmp_path / f"in.{suffix}", clips.Clip(frames=30, audio_seconds=1.2 if suffix == "ts" else 0)
    )
    upscaled(source, tmp_path / "out.mp4", scale=2)
    found = seen(tmp_path / "out.mp4").pts_seconds
    tolerance = Fraction(1, 90000)
    assert len(found) == 30
    assert all(
        abs(time - found[0] - Fraction(index, 25)) <= tolerance for index, time in enumerate(found)
    )
    assert found[0] < Fraction(1, 10), (
        "a transport stream's arbitrary clock starts at zero in the output"
    )


@pytest.mark.parametrize("codec", ["hevc", "av1", "prores"])
def test_other_codecs_keep_a_variable_rate(tmp_path: Path, codec: str) -> None:
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(frames=len(VFR), pts=VFR, audio_seconds=1.5)
    )
    output = tmp_path / ("out.mov" if codec == "prores" else "out.mp4")
    result = upscaled(source, output, scale=2, codec=codec)
    assert seen(output).pts_seconds == [Fraction(tick, 90000) for tick in VFR]
    assert result.worker is not None
    assert (
        result.worker.encoder
        == {"hevc": "libx265", "av1": "libsvtav1", "prores": "prores_ks"}[codec]
    )


def held_at_the_end(path: Path) -> Path:
    """30 frames at 25 frames/s, the last of which stays for two seconds."""
    plain = clips.make(path.with_name("plain.mp4"), clips.Clip(frames=30))
    with av.open(str(plain)) as reader, av.open(str(path), "w") as writer:
        stream = reader.streams.video[0]
        target = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.size:
                packet.duration = round(
                    (2 if packet.pts * packet.time_base > 1.15 else 0.04) / packet.time_base
                )
                packet.stream = target
                writer.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_last_frame_stays_as_long_as_in_the_source(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    if (suffix, codec) == ("mov", "av1"):
        suffix = "mp4"
    source = held_at_the_end(tmp_path / f"in.{suffix}")
    assert seen(source).duration_seconds == pytest.approx(3.16, abs=0.002)
    result = upscaled(source, tmp_path / f"out.{suffix}", scale=2, codec=codec)
    assert seen(tmp_path / f"out.{suffix}").duration_seconds == pytest.approx(3.16, abs=0.002)
    assert result.stats.duration == pytest.approx(3.16, abs=0.002)


# ---- sound

FLASH_SECONDS = 1.0


def flash_and_beep(path: Path, *, audio_codec: str = "aac", video_delay: int = 0) -> Path:
    """Black but for one white frame at 1.0 s; silent but for a tone that starts at 1.0 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "medium"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(audio_codec, rate=48000, layout="mono")
        for index in range(50 - video_delay):
            white = index + video_delay == 25
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 255 if white else 0, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = index + video_delay, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(96000) / 48000
        wave = np.where(time >= FLASH_SECONDS, 0.5 * np.sin(2 * np.pi * 1000 * time), 0).astype(
            np.float32
        )
        layout = "fltp" if audio_codec == "aac" else "s16"
        for start in range(0, 96000, 960):
            block = wave[None, start : start + 960]
            block = block if layout == "fltp" else (block * 32000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format=layout, layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def flash_time(path: Path) -> float:
    with av.open(str(path)) as container:
        return next(
            frame.time
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 128
        )


def beep_time(path: Path) -> float:
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float64)).ravel()
            loud = np.nonzero(samples > 0.25 * (1 if frame.format.name == "fltp" else 32000))[0]
            if len(loud):
                return frame.time + loud[0] / frame.sample_rate
    raise AssertionError("no beep")


@pytest.mark.parametrize("route", ["mp4-mp4", "mp4-mkv", "mkv-mp4", "mkv-mkv", "ts-mp4"])
@pytest.mark.parametrize("video_delay", [0, 7])
def test_sound_and_picture_stay_together(tmp_path: Path, route: str, video_delay: int) -> None:
    suffix_in, suffix_out = route.split("-")
    source = flash_and_beep(tmp_path / f"in.{suffix_in}", video_delay=video_delay)
    upscaled(source, tmp_path / f"out.{suffix_out}", scale=2)
    offset = flash_time(tmp_path / f"out.{suffix_out}") - beep_time(tmp_path / f"out.{suffix_out}")
    assert abs(offset) < 1 / 25


@pytest.mark.parametrize("route", ["mp4-mp4", "mkv-mkv", "mp4-mkv", "mkv-mp4"])
def test_audio_packets_are_copied_bit_for_bit(tmp_path: Path, route: str) -> None:
    suffix_in, suffix_out = route.split("-")
    source = clips.make(tmp_path / f"in.{suffix_in}", clips.Clip(audio_seconds=2))
    upscaled(source, tmp_path / f"out.{suffix_out}", scale=2)
    copied = packets(tmp_path / f"out.{suffix_out}", "audio")
    assert len(copied) > 80
    assert copied == packets(source, "audio")


def test_sound_without_compression_is_copied_too(tmp_path: Path) -> None:
    """Into MOV, where players look for it; MP4 gets AAC (test_audio_conversion.py)."""
    source = flash_and_beep(tmp_path / "in.mov", audio_codec="pcm_s16le")
    upscaled(source, tmp_path / "out.mov", scale=2)
    assert b"".join(packets(tmp_path / "out.mov", "audio")) == b"".join(packets(source, "audio"))
