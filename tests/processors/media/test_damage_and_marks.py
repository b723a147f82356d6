"""What a source has beside plain frames: margins that are not shown, interlace that comes and goes,
damage, another size midway. Truth is plain FFmpeg's."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.media_job import FFMPEG, MediaWorker, ffmpeg, in_video_settings, seen

PICTURE = "testsrc2=s=160x120:r=25:d=0.6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


def codes(answer: dict) -> list[str]:
    assert answer.get("status") == "completed", answer
    return [warning["code"] for warning in answer["warnings"]]


def pixel_crop(path: Path) -> Path:
    """15 columns at either side are not shown: PixelCropLeft and -Right."""
    ffmpeg("-f", "lavfi", "-i", PICTURE, "-c:v", "libx264", "-fflags", "bitexact", path)
    return in_video_settings(path, b"\x54\xcc\x81\x0f\x54\xdd\x81\x0f")


def clean_aperture(path: Path) -> Path:
    """The middle 130x100 pixels of 160x120, one pixel up."""
    ffmpeg("-f", "lavfi", "-i", PICTURE, "-c:v", "libx264", path)
    data = path.read_bytes()
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", 130, 1, 100, 1, 0, 1, -2, 1)
    at = data.index(b"avcC") - 4
    out = bytearray(data)
    out[at:at] = clap
    for name in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = out.rindex(name, 0, at) - 4
        size = int.from_bytes(out[start : start + 4], "big") + len(clap)
        out[start : start + 4] = size.to_bytes(4, "big")
    path.write_bytes(out)
    return path


@pytest.mark.parametrize(("make", "suffix"), [(pixel_crop, "mkv"), (clean_aperture, "mp4")])
def test_what_the_container_does_not_show_is_cut(
    make: Callable[[Path], Path], suffix: str, folder: Path, worker: MediaWorker
) -> None:
    source = make(folder / f"{make.__name__}.{suffix}")
    output = folder / f"{make.__name__}_out.mp4"
    answer = worker.upscaled(source, output, crf=4)
    assert codes(answer) == []
    raw = folder / "shown.y4m"
    ffmpeg("-i", source, "-pix_fmt", "yuv420p", raw)
    width, height = raw.read_bytes()[:40].split()[1:3]
    shown = int(width[1:]), int(height[1:])
    assert shown != (160, 120)
    assert answer["stats"]["output_resolution"] == f"{2 * shown[0]}x{2 * shown[1]}"
    one, other = (seen(path, 32, 24).astype(int) for path in (source, output))
    assert np.abs(one - other).mean() < 4


def combing(frames: np.ndarray, width: int) -> list[float]:
    """How much each line differs from the mean of its neighbours, where those are alike."""
    lines = frames.reshape(len(frames), -1, width).astype(float)
    between = np.abs(lines[:, 1:-1] - (lines[:, :-2] + lines[:, 2:]) / 2)
    alike = np.abs(lines[:, :-2] - lines[:, 2:]) < 8
    return [float((b * a).sum() / max(1, a.sum())) for b, a in zip(between, alike, strict=True)]


@pytest.mark.parametrize("task", ["upscale", "track"])
def test_interlace_that_begins_midway_is_joined(
    task: str, folder: Path, worker: MediaWorker
) -> None:
    """Ten whole frames, then fifteen of two fields: a bar that moves 8 pixels from field to field
    combs every one of them."""
    bar = "color=black:s=160x120:r=50:d=1,drawbox=x=40:y=0:w=20:h=120:c=white:t=fill,scroll=h=0.05"
    parts: list[Path] = []
    for name, filters, flags in (
        ("whole", "fps=25,trim=end_frame=10", []),
        ("fields", "interlace=lowpass=0,trim=end_frame=15", ["-flags", "+ildct+ilme"]),
    ):
        parts.append(folder / f"{name}.m2v")
        ffmpeg(
            *("-f", "lavfi", "-i", bar, "-vf", filters, "-c:v", "mpeg2video", "-q:v", 2),
            *(*flags, parts[-1]),
        )
    joined = folder / "hybrid.m2v"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    output = folder / f"hybrid_{task}.mp4"
    if task == "upscale":
        answer = worker.upscaled(joined, output)
    else:
        answer = worker.run("track", joined, output, model="hog")
    assert "deinterlaced" in codes(answer)
    message = next(w["message"] for w in answer["warnings"] if w["code"] == "deinterlaced")
    assert "15 of its frames" in message
    before, after = (combing(seen(path, 160, 120), 160) for path in (joined, output))
    assert len(after) == 25
    assert max(before[:10]) < 1
    assert sum(value > 3 for value in before[10:]) >= 10
    assert max(after[1:-1]) < 3, after


def broken(folder: Path) -> Path:
    """A transport stream that lost three packets of its picture."""
    source = folder / "whole.ts"
    if not source.exists():
        ffmpeg(
            *("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2", "-g", 12),
            *("-c:v", "mpeg2video", "-q:v", 2, source),
        )
    data = source.read_bytes()
    lost = {len(data) // 188 * share // 100 for share in (30, 50, 70)}
    path = folder / "broken.ts"
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(p for n, p in enumerate(packets) if n not in lost))
    return path


@pytest.mark.slow
def test_damage_ends_a_task_or_is_told(folder: Path, worker: MediaWorker) -> None:
    source, output = broken(folder), folder / "concealed.mp4"
    assert worker.run("detect_scenes", source)["code"] == "corrupt_media"
    answer = worker.run("detect_scenes", source, on_damage="conceal")
    assert codes(answer) == ["damage_concealed"]
    assert " s" in answer["warnings"][0]["message"]
    assert answer["stats"]["total_frames"] == len(seen(source, 8, 8))
    assert worker.upscaled(source, output).get("code") == "corrupt_media"
    assert not output.exists()
    assert "damage_concealed" in codes(worker.upscaled(source, output, on_damage="conceal"))
    assert len(seen(output, 8, 8)) == len(seen(source, 8, 8))
    cropped, still = folder / "cropped.mp4", [{"frame": 0, "x": 0.0}]
    assert worker.run("auto_crop", source, cropped, keyframes=still)["code"] == "corrupt_media"
    assert not cropped.exists()
    answer = worker.run("auto_crop", source, cropped, keyframes=still, on_damage="conceal")
    assert codes(answer) == ["damage_concealed"]
    assert len(seen(cropped, 8, 8)) == len(seen(source, 8, 8))
    assert codes(worker.run("track", source, model="hog", on_damage="conceal")) == [
        "damage_concealed"
    ]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mxf", "ts"])
def test_a_file_that_was_cut_off_is_taken_as_far_as_it_goes(
    suffix: str, folder: Path, worker: MediaWorker
) -> None:
    whole, cut = folder / f"cut_whole.{suffix}", folder / f"cut.{suffix}"
    front = ("-movflags", "+faststart") if suffix == "mp4" else ()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=2", "-c:v", "mpeg2video", *front, whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 5 + 7])
    assert worker.run("detect_scenes", cut)["code"] == "corrupt_media"
    answer = worker.run("detect_scenes", cut, on_damage="conceal")
    assert set(codes(answer)) == {"damage_concealed"}
    total = answer["stats"]["total_frames"]
    assert 20 <= total < 50
    if suffix == "mp4":  # its index says so before any work
        assert f"only {total} of its 50 frames" in answer["warnings"][0]["message"]
        assert "the file is cut off" in worker.upscaled(cut, folder / "cut_out.mp4")["message"]


def test_another_size_midway_is_followed(folder: Path, worker: MediaWorker) -> None:
    parts = [folder / "large.ts", folder / "small.ts"]
    for part, size in zip(parts, ("160x120", "96x72"), strict=True):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=0.4", "-c:v", "mpeg2video", part)
    joined = folder / "sizes.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    scenes = worker.run("detect_scenes", joined)
    assert "size_changed" in codes(scenes)
    assert scenes["stats"]["total_frames"] == len(seen(joined, 8, 8))
    output = folder / "sizes.mp4"
    answer = worker.upscaled(joined, output)
    assert "size_changed" in codes(answer)
    assert answer["stats"]["output_resolution"] == "320x240"
    source = subprocess.run(
        [FFMPEG, "-v", "error", "-i", parts[1], "-s", "32x24", "-pix_fmt", "gray", "-f", "rawvideo"]
        + ["-"],
        capture_output=True,
        check=True,
    ).stdout
    small = np.frombuffer(source, np.uint8).reshape(-1, 32 * 24).astype(int)
    assert np.abs(seen(output, 32, 24).astype(int)[-len(small) :] - small).mean() < 8
