"""Video without a container, whose frames only the stream itself can time: the written file has
them at the same steps. Truth is the rate that the clip was made with."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import av
import pytest
from support.media_job import ffmpeg, said
from support.upscale_kit import Repeat, job

from gpu_worker_processors.upscale.upscale import upscale_file

FRAMES = 24
FILM, FAST, LAW = "24000/1001", "120", "30000/1001"
ROWS = {
    # suffix: FFmpeg's format, encoder and its options, frames/s
    "H.264": ("h264", "h264", "libx264 -bf 3", FILM),
    "H.264 in order": ("264", "h264", "libx264 -bf 0", "50"),
    "H.264 of high speed": ("h264", "h264", "libx264 -bf 3", FAST),
    "HEVC": ("hevc", "hevc", "libx265 -x265-params log-level=error:bframes=3", LAW),
    "MPEG-4": ("m4v", "m4v", "mpeg4 -bf 2", FILM),
    "MPEG-1": ("mpg", "mpeg1video", "mpeg1video -bf 2", LAW),
    "MPEG-2": ("m2v", "mpeg2video", "mpeg2video -bf 2", FILM),
    "AV1": ("obu", "obu", "libaom-av1 -cpu-used 8", "25"),
}


def made(path: Path, kind: str, encoder: str, rate: str) -> Path:
    picture = f"testsrc2=s=64x64:r={rate}"
    words = ("-frames:v", FRAMES, "-c:v", *encoder.split(), "-g", 48, "-f", kind)
    ffmpeg("-f", "lavfi", "-i", picture, *words, path)
    return path


def upscaled(source: Path, output: Path) -> list[str]:
    """The codes of the warnings."""
    task = job(source, output, scale=2)
    upscale_file(task, Repeat(scale=2))
    return [warning.code for warning in task.warnings]


def shown(path: Path) -> list[float]:
    """Seconds of every frame in display order, and of the end of the last."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted((p.pts, p.duration) for p in container.demux(stream) if p.size)
        end = stream.start_time + (stream.duration or sum(times[-1]) - stream.start_time)
        return [float(at * stream.time_base) for at in (*(pts for pts, _ in times), end)]


@pytest.mark.parametrize("row", ROWS)
def test_frames_are_shown_at_the_streams_own_rate(row: str, tmp_path: Path) -> None:
    suffix, kind, encoder, rate = ROWS[row]
    source = made(tmp_path / f"in.{suffix}", kind, encoder, rate)
    output = tmp_path / "out.mp4"
    assert upscaled(source, output) == (["rate_assumed"] if row == "AV1" else [])
    step = float(1 / Fraction(rate))
    times = [number * step for number in range(FRAMES + 1)]
    assert shown(output) == pytest.approx(times, abs=2e-4)


def test_a_rate_that_is_not_stated_is_ffmpegs(tmp_path: Path) -> None:
    encoder = "libx265 -x265-params log-level=error:vui-timing-info=0"
    source = made(tmp_path / "in.hevc", "hevc", encoder, "50")
    output = tmp_path / "out.mp4"
    assert upscaled(source, output) == ["rate_assumed"]
    assert shown(output)[-1] == pytest.approx(FRAMES / 25, abs=1e-4)
    assert "25 fps" in said("-i", source)


def telecined(path: Path) -> list[float]:
    """Film in a stream of 30000/1001 frames/s whose frames say that they are shown for two and for
    three fields in turn: repeat_first_field (ISO/IEC 13818-2, 6.3.10), which FFmpeg does not
    write. Returns when each is shown, and the end."""
    made(path, "mpeg2video", "mpeg2video -bf 2", LAW)
    data = bytearray(path.read_bytes())
    at = number = 0
    while (at := data.find(b"\0\0\1", at + 1)) >= 0:
        if data[at + 3] == 0:  # a picture: its place in display order
            number = data[at + 4] << 2 | data[at + 5] >> 6
        elif data[at + 3] == 0xB5 and data[at + 4] >> 4 == 1:
            data[at + 5] &= ~0x08  # progressive_sequence
        elif data[at + 3] == 0xB5 and data[at + 4] >> 4 == 8:
            # top_field_first of the rows 2 3 2 3, repeat_first_field
            data[at + 7] = data[at + 7] & 0x7D | 0x80 * (number % 4 < 2) | 0x02 * (number % 2)
    path.write_bytes(data)
    fields = accumulate((2 + number % 2 for number in range(FRAMES)), initial=0)
    return [float(field / (2 * Fraction(LAW))) for field in fields]


def stream(path: Path) -> Path:
    return path


def transport_stream(path: Path) -> Path:
    ffmpeg("-fflags", "+genpts", "-i", path, "-c", "copy", path.with_suffix(".ts"))
    return path.with_suffix(".ts")


@pytest.mark.parametrize("wrapped", [stream, transport_stream])
def test_a_soft_telecine_stays_exact(wrapped: Callable[[Path], Path], tmp_path: Path) -> None:
    path = tmp_path / "in.m2v"
    times = telecined(path)
    assert {round(1e3 * (later - at)) for at, later in pairwise(times)} == {33, 50}
    assert upscaled(wrapped(path), tmp_path / "out.mp4") == []
    known = (
        FRAMES - 1 if wrapped is transport_stream else FRAMES + 1
    )  # the copy guesses at the last
    assert shown(tmp_path / "out.mp4")[:known] == pytest.approx(times[:known], abs=2e-4)
