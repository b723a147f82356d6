"""How long the written file lasts, as a player reads it: of a pause in the middle, of a last frame
that stays, of a single frame, with frames coded out of order."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support import clips
from support.upscale_kit import upscaled

from gpu_worker_processors.media.decode import FrameReader
from gpu_worker_processors.media.probe import probe

MS = Fraction(1, 1000)
SMOOTH = [*range(0, 1000, 40)]
CASES: dict[str, tuple[list[int], int, int]] = {
    # milliseconds of each frame, how long the last one is shown, B-frames between two others
    "a pause before the last frames": ([*SMOOTH, 21000, 21040], 40, 3),
    "a pause before the last frame": ([*SMOOTH, 21000], 40, 3),
    "a slow beginning": ([0, 5000, 10000, 15000, *range(20000, 20080, 8)], 8, 3),
    "a phone's unsteady clock": ([40 * n + 13 * n % 17 for n in range(40)], 47, 3),
    "a last frame that stays": (SMOOTH, 7000, 0),
    "a single frame": ([0], 5000, 0),
}


def made(path: Path, times: Sequence[int], last: int, b_frames: int) -> Path:
    """A clip of frames at these milliseconds. The decoding times are the encoder's, so what an mp4
    says of the single frames is in decoding order."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "gif" if path.suffix == ".gif" else "libx264",
            rate=25,
            options={"bf": str(b_frames)} if path.suffix != ".gif" else {},
        )
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "rgb8" if path.suffix == ".gif" else "yuv420p"
        stream.codec_context.time_base = MS
        packets = []
        for number, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(clips.gradient(number, 64, 48), format="rgb24")
            frame.pts, frame.time_base = at, MS
            packets += stream.encode(frame)
        packets += stream.encode(None)
        ends = dict(zip(times, [*times[1:], times[-1] + last], strict=True))
        for packet in packets:
            packet.duration = ends[packet.pts] - packet.pts
            container.mux(packet)
    return path


def header_seconds(path: Path) -> dict[str, float]:
    """The durations in the headers of an mp4 as they stand there (ISO/IEC 14496-12, 8.2.2, 8.4.2):
    FFmpeg corrects them while it reads."""
    data, found = path.read_bytes(), {}
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 16
        scale, length = struct.unpack(">II", data[at : at + 8])
        found[box.decode()] = length / scale
    return found


def read_durations(path: Path) -> dict[str, float]:
    """What the file says of its length, in seconds, in every place that a player may look at."""
    said = header_seconds(path) if path.suffix != ".mkv" else {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        said["format"] = container.duration / av.time_base
        if stream.duration:
            said["stream"] = float(stream.duration * stream.time_base)
        packets = [packet for packet in container.demux(stream) if packet.size]
        start = min(packet.pts for packet in packets)
        end = max(packet.pts + packet.duration for packet in packets)
        said["packets"] = float((end - start) * stream.time_base)
    return said


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("route", ["mp4-mp4", "mp4-mov", "mov-mkv"])
def test_the_output_is_as_long_as_the_source(tmp_path: Path, route: str, case: str) -> None:
    times, last, b_frames = CASES[case]
    before, after = route.split("-")
    source = made(tmp_path / f"in.{before}", times, last, b_frames)
    result = upscaled(source, tmp_path / f"out.{after}", scale=2)
    seconds = (times[-1] + last) / 1000
    assert result.stats.duration == pytest.approx(seconds, abs=0.002)
    for place, said in read_durations(tmp_path / f"out.{after}").items():
        assert said == pytest.approx(seconds, abs=0.041), place


def test_a_pause_that_no_index_announces(tmp_path: Path) -> None:
    """Matroska has none: the frames are coded out of order all the same."""
    times, last, b_frames = CASES["a pause before the last frames"]
    upscaled(made(tmp_path / "in.mkv", times, last, b_frames), tmp_path / "out.mp4", scale=2)
    for place, said in read_durations(tmp_path / "out.mp4").items():
        assert said == pytest.approx(21.08, abs=0.041), place


def test_a_gif_ends_with_its_last_frame(tmp_path: Path) -> None:
    source = made(tmp_path / "in.gif", [0, 500, 1000], 3000, 0)
    upscaled(source, tmp_path / "out.mp4", scale=2)
    for place, said in read_durations(tmp_path / "out.mp4").items():
        assert said == pytest.approx(4.0, abs=0.011), place


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("case", CASES)
def test_the_list_of_frames_is_what_decoding_gives(tmp_path: Path, suffix: str, case: str) -> None:
    times, last, b_frames = CASES[case]
    source = made(tmp_path / f"in.{suffix}", times, last, b_frames)
    reader = FrameReader(source, probe(source))
    decoded = [(frame.pts, frame.duration) for frame in reader]
    assert reader.listed() == decoded
    unit = reader.video.time_base
    wanted = zip(times, [*times[1:], times[-1] + last], strict=True)
    assert [(round(pts * unit / MS), round(step * unit / MS)) for pts, step in decoded] == [
        (at, end - at) for at, end in wanted
    ]
