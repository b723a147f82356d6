"""The upscale task from file to file. The networks here repeat pixels, so every property of the
output is known in advance; the real network is compared with an independent fp32 computation at the
end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import clips
from support.upscale_kit import Repeat, job, packets, seen, upscaled

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError
from gpu_worker_processors.base import Limits, ProcessorSettings
from gpu_worker_processors.upscale.upscale import upscale_file

VFR = [0, 3000, 4500, 12000, 15003, 15903, 40000, 40900, 90000, 91000, 93000, 99000]
"""1/90000 s, from 10 ms to half a second apart."""
MS = Fraction(1, 1000)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = {
        thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "drain"))
    }
    yield
    assert {
        thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "drain"))
    } <= before


def codes(warnings: list[ResultWarning]) -> set[str]:
    return {warning.code for warning in warnings}


# ---- frames and time

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


# ---- the picture's shape

# display matrix, degrees counter-clockwise -> quarters clockwise from the top left, of red, green,
# blue, white
TURNED = {
    0: ("red", "green", "blue", "white"),
    -90: ("white", "red", "green", "blue"),
    180: ("blue", "white", "red", "green"),
    90: ("green", "blue", "white", "red"),
}
NAMED = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.mark.parametrize("degrees", TURNED)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_turned_video_comes_out_upright(tmp_path: Path, degrees: int, suffix: str) -> None:
    source = clips.make(
        tmp_path / f"in.{suffix}", clips.Clip(frames=3, rotation=degrees), clips.corners
    )
    result = upscaled(source, tmp_path / f"out.{suffix}", scale=2)
    found = seen(tmp_path / f"out.{suffix}")
    assert found.rotation == 0
    assert found.size == ((96, 128) if degrees in (90, -90) else (128, 96))
    assert result.stats.input_resolution == ("48x64" if degrees in (90, -90) else "64x48")
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    height, width = picture.shape[:2]
    centres = [
        (height // 4, width // 4),
        (height // 4, width * 3 // 4),
        (height * 3 // 4, width * 3 // 4),
    ]
    centres.append((height * 3 // 4, width // 4))
    quarters = [
        min(NAMED, key=lambda name: np.abs(picture[place] - NAMED[name]).sum()) for place in centres
    ]
    assert tuple(quarters) == TURNED[degrees]


@pytest.mark.parametrize(("degrees", "expected"), [(0, Fraction(8, 9)), (-90, Fraction(9, 8))])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixel_shape_is_kept(tmp_path: Path, degrees: int, expected: Fraction, suffix: str) -> None:
    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=72, frames=2, sar=Fraction(8, 9), rotation=degrees)
    )
    upscaled(source, tmp_path / f"out.{suffix}", scale=2)
    assert seen(tmp_path / f"out.{suffix}").sar == expected


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((65, 49), 4, (260, 196)),
        ((65, 49), 1.5, (98, 74)),
        ((64, 48), 2.5, (160, 120)),
        ((66, 50), 1.1, (72, 56)),
    ],
)
def test_odd_sizes_are_rounded_to_even_and_said(
    tmp_path: Path, size: tuple[int, int], scale: float, expected: tuple[int, int]
) -> None:
    clip = clips.Clip(*size, frames=5, codec="ffv1", options=(), pix_fmt="yuv444p")
    task = job(clips.make(tmp_path / "in.mkv", clip), tmp_path / "out.mp4", scale=scale)
    result = upscale_file(task, Repeat())
    found = seen(tmp_path / "out.mp4")
    assert found.size == expected
    assert len(found.pts_seconds) == 5
    assert result.stats.output_resolution == f"{expected[0]}x{expected[1]}"
    is_exact = (size[0] * scale, size[1] * scale) == expected
    assert ("size_rounded" in codes(task.warnings)) == (not is_exact)


# ---- repeated frames, batches


def held(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """Each picture stays for three frames."""
    return clips.gradient(index // 3 * 5, width, height)


LOSSLESS = clips.Clip(frames=20, codec="ffv1", options=(), pix_fmt="yuv444p")


@pytest.mark.parametrize("batch", [1, 4])
def test_repeated_frames_are_computed_once_and_all_written(tmp_path: Path, batch: int) -> None:
    source = clips.make(tmp_path / "in.mkv", LOSSLESS, held)
    once, each = Repeat(batch=batch), Repeat(batch=batch)
    result = upscaled(source, tmp_path / "once.mp4", once, crf=0)
    upscaled(source, tmp_path / "each.mp4", each, crf=0, reuse_identical_frames=False)
    assert sum(shape[0] for shape in once.calls) == 7
    assert sum(shape[0] for shape in each.calls) == 20
    assert result.stats.frames_reused == 13
    assert seen(tmp_path / "once.mp4").pts_seconds == seen(tmp_path / "each.mp4").pts_seconds
    assert packets(tmp_path / "once.mp4", "video") == packets(tmp_path / "each.mp4", "video")


def test_one_sample_of_difference_is_not_a_repetition(tmp_path: Path) -> None:
    def almost(index: int, width: int, height: int) -> NDArray[np.uint8]:
        picture = np.full((height, width, 3), 128, np.uint8)
        picture[-1, -1] += index % 2
        return picture

    clip = clips.Clip(frames=6, codec="ffv1", options=(), pix_fmt="bgr0")
    net = Repeat()
    result = upscaled(clips.make(tmp_path / "in.mkv", clip, almost), tmp_path / "out.mp4", net)
    assert len(net.calls) == 6
    assert result.stats.frames_reused == 0


# ---- failures


def test_a_failure_of_the_network_leaves_no_file(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=50))
    with pytest.raises(MemoryError):
        upscaled(source, tmp_path / "out.mp4", Repeat(fail_at=20))
    assert not (tmp_path / "out.mp4").exists()


def test_a_damaged_input_leaves_no_file(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mkv", clips.Clip(frames=50))
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2] + b"\x55" * 2000 + data[len(data) // 2 + 2000 :])
    with pytest.raises(TaskError) as caught:
        upscaled(source, tmp_path / "out.mp4")
    assert caught.value.code == ErrorCode.corrupt_media
    assert not (tmp_path / "out.mp4").exists()


def test_an_output_over_the_limit_is_refused(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=50))
    task = job(source, tmp_path / "out.mp4", limits=Limits(max_output_bytes=4000))
    with pytest.raises(TaskError) as caught:
        upscale_file(task, Repeat())
    assert caught.value.code == ErrorCode.output_too_large
    assert not (tmp_path / "out.mp4").exists()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", clips.Clip(frames=50))
    (tmp_path / "out.mkv").symlink_to("/dev/full")
    with pytest.raises(TaskError) as caught:
        upscaled(source, tmp_path / "out.mkv")
    assert caught.value.code == ErrorCode.disk_full
    assert caught.value.code.retryable


def test_progress_rises_frame_by_frame(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None, str]] = []
    task = job(clips.make(tmp_path / "in.mp4", clips.Clip(frames=12)), tmp_path / "out.mp4")

    def sink(stage: str, done: int, total: int | None = None, unit: str = "frames") -> None:
        told.append((stage, done, total, unit))

    upscale_file(replace(task, progress=sink), Repeat())
    assert told == [("process", done, 12, "frames") for done in range(1, 13)]


# ---- the real network


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(
        10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    )


def test_the_whole_path_equals_the_reference_network(tmp_path: Path, weights_dir: Path) -> None:
    """Decoder to encoder in float32, against spandrel's network fed by a conversion written out
    here."""
    import skimage.data
    from spandrel import ModelLoader

    from gpu_worker_processors.models.sr.loader import load
    from gpu_worker_processors.models.weights import WeightStore

    photo = skimage.data.astronaut()

    def paint(index: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(photo[60 + index : 60 + index + height, 180 : 180 + width])

    clip = clips.Clip(frames=2, codec="ffv1", options=(), pix_fmt="yuv444p", color=(1, 1, 1, 1))
    source = clips.make(tmp_path / "in.mkv", clip, paint)
    net = load(
        "realesr-animevideov3",
        store=WeightStore(weights_dir),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    upscale_file(job(source, tmp_path / "out.mp4", crf=0), net)

    reference = (
        ModelLoader().load_from_file(weights_dir / "realesr-animevideov3.safetensors").model.eval()
    )
    with av.open(str(source)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        for small, large in zip(before.decode(video=0), after.decode(video=0), strict=True):
            y, cb, cr = (small.to_ndarray()[plane].astype(np.float64) for plane in range(3))
            y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
            rgb = np.stack([y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb]).clip(
                0, 1
            )
            with torch.no_grad():
                wanted = (
                    reference(torch.from_numpy(rgb).float()[None])[0].clamp(0, 1).double().numpy()
                )
            luma = np.tensordot([0.2126, 0.7152, 0.0722], wanted, 1) * 219 + 16
            got = large.to_ndarray()[: large.height].astype(np.float64)
            assert psnr(got, luma) > 50
            assert np.abs(got - luma).max() <= 1


def test_the_registered_processor_runs_a_job(tmp_path: Path, weights_dir: Path) -> None:
    from gpu_worker_processors.registry import get

    source = clips.make(
        tmp_path / "in.mp4", clips.Clip(width=32, height=32, frames=5, audio_seconds=0.2)
    )
    task = replace(
        job(source, tmp_path / "out.mp4"),
        settings=ProcessorSettings(weights_dir, "cpu"),
    )
    processor = get("upscale")
    processor.prepare(task)
    result = processor.run(task)
    assert result.stats.frames_processed == 5
    assert result.stats.output_resolution == "128x128"
    assert result.stats.denoise == "none"
    assert result.worker.encoder == "libx264"
    assert seen(tmp_path / "out.mp4").size == (128, 128)
