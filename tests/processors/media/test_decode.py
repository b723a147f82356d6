"""FrameReader: every frame with its own timestamp, and an error in place of a missing one."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.decode import DecodedFrame, FrameReader, ThumbnailScaler, Timeline
from gpu_worker_processors.media.matroska import video_blocks
from gpu_worker_processors.media.probe import probe

X264 = (("crf", "20"), ("preset", "medium"))


def read(path: Path, limits: Limits = Limits()) -> list[DecodedFrame]:  # noqa: B008 - frozen dataclass
    return list(FrameReader(path, probe(path, limits), limits=limits))


def numbered(index: int, width: int, height: int) -> np.ndarray:
    """A grey level per frame, so that order and identity can be read back."""
    return np.full((height, width, 3), 20 + 5 * (index % 40), np.uint8)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts", "flv"])
@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_every_frame_once_in_display_order(tmp_path: Path, suffix: str, frames: int) -> None:
    # preset medium: B-frames, so that decoding order differs from display order; AVI has no
    # timestamps to tell it by
    codec = {"codec": "ffv1", "options": ()} if suffix == "avi" else {"options": X264}
    path = clips.make(tmp_path / f"a.{suffix}", clips.Clip(frames=frames, **codec), numbered)
    got = read(path)
    assert [f.index for f in got] == list(range(frames))
    levels = [f.frame.to_ndarray(format="rgb24").mean() for f in got]
    assert levels == pytest.approx([20 + 5 * (i % 40) for i in range(frames)], abs=2)
    assert [f.time_seconds for f in got] == pytest.approx(
        [i / 25 for i in range(frames)], abs=0.0011
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_keeps_its_timestamps(tmp_path: Path, suffix: str) -> None:
    pts = [0, 3000, 9000, 10000, 50000, 90000, 360000]
    got = read(clips.make(tmp_path / f"a.{suffix}", clips.Clip(frames=7, pts=pts)))
    assert [f.time_seconds for f in got] == pytest.approx(
        [p / 90000 for p in pts], abs=0.0006 if suffix == "mkv" else 1e-9
    )


def test_time_counts_from_the_first_frame_and_pts_does_not(tmp_path: Path) -> None:
    got = read(clips.make(tmp_path / "a.mp4", clips.Clip(frames=3, start_pts=40)))
    assert [f.time_seconds for f in got] == pytest.approx([0, 0.04, 0.08])
    assert got[0].pts * Fraction(1, 12800) == Fraction(40, 25)


def test_a_second_iteration_starts_over(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=5))
    reader = FrameReader(path, probe(path))
    assert [f.pts for f in reader] == [f.pts for f in reader]


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip())
    frames = iter(FrameReader(path, probe(path)))
    next(frames)
    frames.close()  # type: ignore[attr-defined] - a generator
    held = [link.resolve() for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert path not in held


@pytest.mark.parametrize(
    ("pts", "placed"),
    [
        ([0, 40, 80], [0, 40, 80]),
        ([-80, -40, 0], [-80, -40, 0]),
        ([0, 40, 40, 80], [0, 40, 41, 80]),
        ([0, 40, 39, 120], [0, 40, 41, 120]),
        ([0, None, None, 120], [0, 40, 80, 120]),
        ([None, None, 90], [0, 40, 90]),
        ([50000, 50040, 0, 40], [50000, 50040, 50080, 50120]),
        ([0, 40, 100000, 100040], [0, 40, 100000, 100040]),
    ],
    ids=[
        "plain",
        "negative",
        "duplicate",
        "backward",
        "missing",
        "missing from the start",
        "new timeline",
        "gap",
    ],
)
def test_timeline(pts: list[int | None], placed: list[int]) -> None:
    timeline = Timeline(Fraction(1, 1000), Fraction(25))
    assert [timeline.next_pts(p) for p in pts] == placed


def test_more_frames_than_allowed(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=11))
    with pytest.raises(TaskError) as caught:
        read(path, Limits(max_frames=10))
    assert caught.value.code is ErrorCode.media_limit
    assert len(read(path, Limits(max_frames=11))) == 11


def test_a_change_of_size_is_scaled_and_names_the_frame(tmp_path: Path) -> None:
    small = clips.make(tmp_path / "a.ts", clips.Clip(frames=10))
    large = clips.make(tmp_path / "b.ts", clips.Clip(frames=10, width=128, height=96))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    reader = FrameReader(both, probe(both))
    frames = list(reader)
    assert len(frames) == 20
    assert {(item.frame.width, item.frame.height) for item in frames} == {(64, 48)}
    assert reader.warnings[-1].code == "size_changed"
    assert "64x48 to 128x96 at frame 10" in reader.warnings[-1].message


def cut(share: float = 1.0, less: int = 0) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share) - less]


def flipped(count: int, start: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        dice, damaged = random.Random(7), bytearray(data)
        for _ in range(count):
            damaged[dice.randrange(int(len(data) * start), len(data))] ^= 0xFF
        return bytes(damaged)

    return damage


DAMAGE = {
    "half": cut(0.5),
    "1 KB": cut(less=1024),
    "1 byte": cut(less=1),
    "200 bytes flipped": flipped(200, 1 / 3),
    "20 bytes flipped": flipped(20, 1 / 2),
}


def faststart(path: Path) -> Path:
    """The same file with its index in front, as browsers and uploads like it."""
    out = path.with_name(f"fast_{path.name}")
    with (
        av.open(str(path)) as source,
        av.open(str(out), "w", options={"movflags": "faststart"}) as sink,
    ):
        streams = {s.index: sink.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                sink.mux(packet)
    return out


def inside_a_packet(path: Path, size: int) -> int:
    """The middle of the last packet that begins before `size`: FLV has no index, a cut between two
    packets leaves no trace."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return max(pos + length // 2 for pos, length in places if pos is not None and pos < size)


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "flv"])
def test_damage_is_an_error_or_loses_nothing(tmp_path: Path, suffix: str, damage: str) -> None:
    """FFmpeg itself ends these files quietly, with fewer frames and exit status 0."""
    codec = {"codec": "mpeg4", "options": ()} if suffix == "avi" else {"options": X264}
    whole = clips.make(
        tmp_path / f"a.{suffix}", clips.Clip(width=320, height=240, frames=60, **codec)
    )
    whole = faststart(whole) if suffix == "mp4" else whole
    broken = tmp_path / "broken"
    data = DAMAGE[damage](whole.read_bytes())
    if suffix == "flv" and damage == "half":
        data = data[: inside_a_packet(whole, len(data))]
    broken.write_bytes(data)
    try:
        assert len(read(broken)) == 60
    except TaskError as error:
        assert error.code is ErrorCode.corrupt_media
    else:
        assert damage in ("1 KB", "1 byte"), "only a lost tail may be harmless"
        assert suffix == "avi", (
            "AVI ends with an index that nothing needs; the others end with pictures"
        )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_frames_that_vanish_without_a_trace_are_missed(tmp_path: Path, suffix: str) -> None:
    """Cut exactly between two frames, no byte of any frame is wrong: only the container's own list
    shows that some are gone."""
    options = (("crf", "20"), ("bf", "0"), ("preset", "ultrafast"))
    path = clips.make(tmp_path / f"a.{suffix}", clips.Clip(frames=60, options=options), numbered)
    path = faststart(path) if suffix == "mp4" else path
    info = probe(path)
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    path.write_bytes(path.read_bytes()[: positions[30]])
    with pytest.raises(TaskError) as caught:
        list(FrameReader(path, info))
    assert caught.value.code is ErrorCode.corrupt_media
    told = "the file is cut off" if suffix == "mp4" else "30 of its 60 frames"
    assert told in caught.value.message


def test_a_transport_stream_cut_between_key_frames_starts_at_the_next(tmp_path: Path) -> None:
    options = (("crf", "20"), ("g", "10"), ("bf", "0"), ("preset", "ultrafast"))
    whole = clips.make(
        tmp_path / "a.ts", clips.Clip(width=320, height=240, frames=60, options=options), numbered
    ).read_bytes()
    (tmp_path / "mid.ts").write_bytes(whole[len(whole) // 3 // 188 * 188 :])
    got = read(tmp_path / "mid.ts")
    assert 20 <= len(got) <= 40
    assert not any(f.frame.is_corrupt for f in got)


def test_matroska_blocks_are_counted_per_video_track(tmp_path: Path, media: Path) -> None:
    assert video_blocks(
        clips.make(tmp_path / "a.mkv", clips.Clip(frames=33, audio_seconds=2.0))
    ) == [33]
    path = media / "scenes" / "big_buck_bunny_0_30.webm"
    with av.open(str(path)) as container:
        packets = sum(packet.size > 0 for packet in container.demux(video=0))
    assert video_blocks(path) == [packets]


def test_small_pictures_pick_pixels(tmp_path: Path) -> None:
    path = clips.make(tmp_path / "a.mp4", clips.Clip(frames=2, width=128, height=96), clips.corners)
    scale = ThumbnailScaler(32, 24)
    for item in FrameReader(path, probe(path)):
        small = scale(item.frame)
        assert (small.shape, small.dtype) == ((24, 32, 3), np.uint8)
        assert np.abs(small[2, 2].astype(int) - (0, 0, 255)).max() < 12  # red in BGR
        assert np.abs(small[20, 30].astype(int) - (255, 0, 0)).max() < 12


@pytest.mark.slow
def test_real_clips_give_as_many_frames_as_their_index_lists(media: Path) -> None:
    checked = 0
    for path in sorted((media / "scenes").glob("*.mp4"), key=lambda path: path.stat().st_size)[:9]:
        info = probe(path)
        assert info.video is not None
        assert sum(1 for _ in FrameReader(path, info)) == info.video.frame_count, path.name
        checked += 1
    assert checked == 9
