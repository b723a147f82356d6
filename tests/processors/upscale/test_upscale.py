"""The upscale task from file to file. The networks here repeat pixels, so every property of the
output is known in advance; the real network is compared with an independent fp32 computation at the
end."""

from __future__ import annotations

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


def codes(warnings: list[ResultWarning]) -> set[str]:
    return {warning.code for warning in warnings}


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
        ((160, 80), 1.1, (176, 88)),
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
    is_exact = all(n * Fraction(str(scale)) == m for n, m in zip(size, expected, strict=True))
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
