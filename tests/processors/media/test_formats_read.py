"""Containers and codecs of cameras, editors, broadcasters and recorders are read: every frame, as
plain FFmpeg shows it. Cut off, they are an error wherever their own structure says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.media_job import MediaWorker, ffmpeg, seen

FRAMES, SIZE = 10, (128, 96)
PAL, CIF = (720, 576), (176, 144)

# name -> (suffix, encoder and its options, size, whether the structure shows that it was cut off)
ROWS: dict[str, tuple[str, str, tuple[int, int], bool]] = {
    "DV": ("dv", "dvvideo -pix_fmt yuv420p", PAL, True),
    "DV in AVI": ("avi", "dvvideo -pix_fmt yuv420p", PAL, True),
    "MXF": ("mxf", "mpeg2video", SIZE, True),
    "MXF, ProRes": ("mxf", "prores_ks", SIZE, True),
    "WMV": ("wmv", "wmv2", SIZE, True),
    "YUV4MPEG": ("y4m", "rawvideo -pix_fmt yuv420p", SIZE, True),
    "YUV4MPEG 4:2:2 10 bit": ("y4m", "rawvideo -pix_fmt yuv422p10 -strict -1", SIZE, True),
    "IVF": ("ivf", "libvpx", SIZE, False),
    "NUT": ("nut", "ffv1", SIZE, False),
    "RealMedia": ("rm", "rv20", CIF, True),
    "Motion JPEG": ("mjpeg", "mjpeg", SIZE, False),
    "animated PNG": ("apng", "apng", SIZE, True),
    "MPEG-2 video": ("m2v", "mpeg2video", SIZE, False),
    "H.264 video": ("h264", "libx264 -bf 2", SIZE, False),
    "HEVC video": ("hevc", "libx265 -x265-params log-level=none", SIZE, False),
    "AV1 video": ("obu", "libaom-av1 -cpu-used 8", SIZE, False),
    "HuffYUV": ("avi", "huffyuv -pix_fmt yuv422p", SIZE, True),
    "HuffYUV, RGB": ("avi", "huffyuv", SIZE, True),
    "v210": ("mov", "v210", SIZE, True),
    "CineForm": ("mov", "cfhd", SIZE, True),
    "ProRes": ("mov", "prores_ks", SIZE, True),
    "DNxHR": ("mov", "dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p", (256, 144), True),
    "Ut Video": ("avi", "utvideo", SIZE, True),
    "Animation": ("mov", "qtrle", SIZE, True),
    "Cinepak": ("avi", "cinepak", SIZE, True),
    "Sorenson": ("mov", "svq1", CIF, True),
    "JPEG 2000": ("mov", "jpeg2000", SIZE, True),
    "Hap": ("mov", "hap", SIZE, True),
    "Dirac": ("mkv", "vc2", SIZE, True),
    "DOSBox": ("avi", "zmbv", SIZE, True),
    "VVC": ("mkv", "libvvenc", SIZE, True),
    "TIFF in MOV": ("mov", "tiff", SIZE, True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.mark.parametrize("row", ROWS)
def test_every_frame_is_read(row: str, folder: Path, worker: MediaWorker) -> None:
    suffix, encoder, (width, height), cut_is_found = ROWS[row]
    name = "".join(filter(str.isalnum, row))
    source = folder / f"{name}.{suffix}"
    picture = f"testsrc=s={width}x{height}:r=25:d={FRAMES / 25}"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", *encoder.split(), source)
    answer = worker.run("detect_scenes", source)
    assert answer.get("status") == "completed", answer
    assert answer["stats"]["total_frames"] == FRAMES == len(seen(source, 8, 8))
    if not cut_is_found:
        return
    cut = folder / f"{name}_cut.{suffix}"
    data = source.read_bytes()
    cut.write_bytes(data[: len(data) * 5 // 8])
    assert worker.run("detect_scenes", cut).get("code") in ("corrupt_media", "no_frames")


@pytest.mark.parametrize("row", ["HuffYUV, RGB", "v210", "WMV", "TIFF in MOV", "DV"])
def test_the_pixels_are_ffmpegs(row: str, folder: Path, worker: MediaWorker) -> None:
    """A video enlarged by two and shown at its own size again is the source, but for what the
    network adds at edges."""
    suffix, encoder, (width, height), _ = ROWS[row]
    source = folder / f"pixels_{''.join(filter(str.isalnum, row))}.{suffix}"
    picture = f"gradients=s={width}x{height}:r=25:d=0.12:c0=0x2050c0:c1=0xe0b030:seed=3:speed=0.1"
    ffmpeg("-f", "lavfi", "-i", picture, "-c:v", *encoder.split(), source)
    output = source.with_suffix(".up.mp4")
    answer = worker.upscaled(source, output, crf=4)
    assert answer.get("status") == "completed", answer
    one, other = (seen(path, 32, 24, "rgb24").astype(int) for path in (source, output))
    assert one.shape == other.shape
    assert np.abs(one - other).mean() < 3, row


def test_an_animated_webp_is_sent_to_render(folder: Path, worker: MediaWorker) -> None:
    source = folder / "anim.webp"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.5", source)
    answer = worker.run("detect_scenes", source)
    assert answer["code"] == "unsupported_media"
    assert "render" in answer["message"]
