"""What a timeline is made of, as its authors meant it: images turned by EXIF, transparent videos,
recordings without a length, overlays that go on longer than the video."""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.clips import Clip
from support.render_kit import FFMPEG, plain
from support.timeline_kit import Tape, bits, cells, lumas, rendered_timeline, still

from gpu_worker_client.protocol import TaskError
from gpu_worker_processors.sandbox import landlock

pytestmark = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)

UPRIGHT = np.array([[40, 200], [90, 140]], np.uint8)
"""Four fields, as a viewer is to see them."""
_STORED = {
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT, -1),
}
"""EXIF orientation -> the fields as the file stores them. CIPA DC-008, 4.6.5.1.2."""


def photo(path: Path, orientation: int) -> Path:
    """A JPEG that is upright at 96x64 pixels."""
    size = (64, 96) if orientation > 4 else (96, 64)
    image = cv2.resize(_STORED[orientation], size, interpolation=cv2.INTER_NEAREST)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tag = struct.pack(">HHIHHI", 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + tag
    path.write_bytes(
        encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + encoded[2:]
    )
    return path


@pytest.mark.parametrize("orientation", _STORED)
def test_a_photo_stands_upright(orientation: int, tmp_path: Path) -> None:
    inputs = {"a.jpg": photo(tmp_path / "a.jpg", orientation)}
    clip = {"input": "a.jpg", "end": 0.04}
    rendered_timeline({"clips": [clip], "output": {"crf": 0}}, inputs, tmp_path / "out.mp4")
    shown = next(lumas(tmp_path / "out.mp4"))
    assert shown.shape == (64, 96)
    found = np.array([[shown[y, x] for x in (24, 72)] for y in (16, 48)])
    assert np.abs(found - (16 + UPRIGHT.astype(float) * 219 / 255)).max() < 4


@pytest.mark.parametrize("suffix", ["bmp", "tiff", "png", "jpg", "webp"])
def test_every_kind_of_still_is_a_clip(suffix: str, tmp_path: Path) -> None:
    name = f"a.{suffix}"
    inputs = {name: still(tmp_path / name, 200)}
    result = rendered_timeline(
        {"clips": [{"input": name, "end": 0.4}]}, inputs, tmp_path / "out.mp4"
    )
    assert result.stats.frames == 10
    assert abs(next(lumas(tmp_path / "out.mp4")).mean() - (16 + 200 * 219 / 255)) < 2


_HALF = "color=white:s=64x48:d=1:r=10,format=rgba,drawbox=w=32:h=48:color=black@0:t=fill:replace=1"
"""White on the right, nothing on the left."""
_TRANSPARENT = {
    "vp9.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"),
    "vp8.webm": ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
    "prores.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"),
    "png.mov": ("-c:v", "png"),
    "anim.webp": (
        *("-vf", "drawbox=w=4:h=4:t=fill:color=gray:enable='mod(n,2)'"),  # else it is a still
        *("-c:v", "libwebp_anim", "-lossless", "1"),
    ),
    "anim.gif": ("-filter_complex", "split[a][b];[a]palettegen[p];[b][p]paletteuse"),
}


@pytest.mark.parametrize("name", _TRANSPARENT)
def test_what_is_transparent_shows_what_is_under_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    plain("-f", "lavfi", "-i", _HALF, *_TRANSPARENT[name], str(path))
    inputs = {"gray.png": still(tmp_path / "gray.png", 100, (128, 96)), name: path}
    timeline = {
        "clips": [{"input": "gray.png", "end": 0.4}],
        "overlays": [{"input": name, "x": 16, "y": 16}],
        "output": {"crf": 0},
    }
    rendered_timeline(timeline, inputs, tmp_path / "out.mp4")
    frames = list(lumas(tmp_path / "out.mp4"))
    assert len(frames) == 10
    for frame in frames:
        assert abs(frame[24:56, 24:40].mean() - (16 + 100 * 219 / 255)) < 3
        assert abs(frame[24:56, 56:72].mean() - 235) < 3


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.webp", ("libwebp_anim", "-lossless", "1")), ("a.png", ("apng", "-f", "apng"))],
)
def test_an_animated_image_is_played(name: str, codec: tuple[str, ...], tmp_path: Path) -> None:
    """Ten frames a second, each brighter than the one before."""
    path = tmp_path / name
    steps = "color=black:s=64x48:d=1:r=10,format=gray,geq=lum=20*N,format=rgb24"
    plain("-f", "lavfi", "-i", steps, "-c:v", *codec, str(path))
    inputs, output = {name: path}, tmp_path / "out.mp4"
    wanted = {"crf": 0, "fps": 10}
    rendered_timeline({"clips": [{"input": name}], "output": wanted}, inputs, output)
    found = [float(frame.mean()) for frame in lumas(output)]
    assert found == pytest.approx([16 + 20 * n * 219 / 255 for n in range(10)], abs=2)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(TaskError) as caught:
        rendered_timeline({"clips": [{"input": name}]}, inputs, output)
    assert caught.value.code == "corrupt_media"


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), Fraction(60)])
def test_an_overlay_that_goes_on_ends_with_the_video(rate: Fraction, tmp_path: Path) -> None:
    """And shows the frame of its own that is on screen."""
    tape = Tape(1, Clip(width=96, height=64, frames=int(3 * rate), rate=rate), audio=None)
    inputs = {"tape1.mp4": tape.record(tmp_path), "blank.png": still(tmp_path / "blank.png")}
    timeline = {
        "clips": [{"input": "blank.png", "end": 1}],
        "overlays": [{"input": "tape1.mp4", "x": 0, "y": 0, "width": 192, "start": 0.4}],
        "output": {"fps": 25, "crf": 0, "width": 192, "height": 128},
    }
    result = rendered_timeline(timeline, inputs, tmp_path / "out.mp4")
    assert result.stats.frames == 25
    for number, luma in enumerate(lumas(tmp_path / "out.mp4")):
        on_screen = [int((number - 10 + shift) * rate / 25) for shift in np.linspace(-0.5, 0.5, 5)]
        wanted = [bits(1, max(0, n)) for n in on_screen] if number >= 10 else [np.zeros(16)]
        found = cells(luma, Fraction(3, 2))
        assert min(np.abs(found - one).max() for one in wanted) < 0.25, number


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_a_live_recording_is_as_long_as_its_frames(suffix: str, tmp_path: Path) -> None:
    """A pipe has no way back to write the length."""
    codec = "libvpx" if suffix == "webm" else "libx264"
    words = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=2", "-c:v", codec, "-f"]
    form = "matroska" if suffix == "mkv" else suffix
    made = subprocess.run([FFMPEG, "-v", "error", *words, form, "-"], capture_output=True)
    path = tmp_path / f"live.{suffix}"
    path.write_bytes(made.stdout)
    result = rendered_timeline(
        {"clips": [{"input": path.name}]}, {path.name: path}, tmp_path / "out.mp4"
    )
    assert result.stats.frames == 50
    with pytest.raises(TaskError, match="after the end of the input"):
        rendered_timeline(
            {"clips": [{"input": path.name, "end": 9}]}, {path.name: path}, tmp_path / "out.mp4"
        )
