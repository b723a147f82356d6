"""Cutting and joining without workers: what is cut and joined again decodes to the same pictures at
the same times, in every container, codec and clock; what cannot be cut exactly is refused before
anything is paid."""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest
from support import clips
from support.scripted_server import ScriptedServer

from gpu_worker_client import Client, ConfigError, Storage
from gpu_worker_client.protocol import UpscaleParams, UpscaleTask
from gpu_worker_client.protocol.base import CONTAINERS
from gpu_worker_client.split import SplitError, SplitPlan, plan_split
from gpu_worker_client.split.plan import choose_cuts, longest_seconds
from gpu_worker_client.split.remux import Piece, check_output, cut_segments, join, read_piece
from gpu_worker_client.split.source import closed_cuts, decode_times, read_source

B_FRAMES = (("crf", "20"), ("preset", "medium"), ("g", "12"))
CLOSED_HEVC = (("x265-params", "keyint=12:open-gop=0:log-level=error"), ("preset", "ultrafast"))
UNEVEN = tuple(index * 3000 + index % 7 * 301 for index in range(60))
LITE = UpscaleParams(model="lite")

CLIPS = {
    "b-frames.mp4": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.mov": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.mkv": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.ts": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "vfr.mp4": clips.Clip(frames=60, pts=UNEVEN, options=B_FRAMES, audio_seconds=1.8),
    "ntsc.mp4": clips.Clip(
        frames=60, rate=Fraction(30000, 1001), options=B_FRAMES, audio_seconds=2.0
    ),
    "late.mp4": clips.Clip(frames=60, start_pts=20, options=B_FRAMES, audio_seconds=2.4),
    "late.mkv": clips.Clip(frames=60, start_pts=20, options=B_FRAMES, audio_seconds=2.4),
    "rotated.mp4": clips.Clip(frames=60, rotation=-90, sar=Fraction(4, 3), options=B_FRAMES),
    "hevc.mp4": clips.Clip(frames=60, codec="libx265", options=CLOSED_HEVC, audio_seconds=2.4),
    "prores.mov": clips.Clip(
        frames=40, codec="prores_ks", pix_fmt="yuv422p10le", options=(), audio_seconds=1.6
    ),
    "vp9.webm": clips.Clip(
        frames=60,
        codec="libvpx-vp9",
        options=(("g", "12"), ("cpu-used", "8"), ("deadline", "realtime")),
    ),
    "av1.mp4": clips.Clip(frames=60, codec="libsvtav1", options=(("g", "12"), ("preset", "12"))),
}


def shown(path: Path) -> list[tuple[Fraction, str, int]]:
    """(seconds, hash of the decoded picture, rotation) of every frame."""
    with av.open(str(path)) as container:
        return [
            (
                Fraction(frame.pts) * frame.time_base,
                hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest(),
                frame.rotation,
            )
            for frame in container.decode(video=0)
        ]


def heard(path: Path) -> tuple[Fraction, str]:
    """Time of the first decoded sample, hash of them all."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    digest = hashlib.sha256(b"".join(frame.to_ndarray().tobytes() for frame in frames))
    return Fraction(frames[0].pts) * frames[0].time_base, digest.hexdigest()


def cut(plan: SplitPlan, folder: Path) -> list[Piece]:
    folder.mkdir()
    return [read_piece(segment, path) for segment, path in cut_segments(plan, folder)]


def joined(plan: SplitPlan, pieces: Sequence[Piece], path: Path) -> list[str]:
    copied, notes = join(plan, pieces, path)
    check_output(plan, path, copied)
    return notes


@pytest.mark.parametrize("name", CLIPS)
def test_cut_and_joined_again_it_is_the_same(name: str, tmp_path: Path) -> None:
    spec = CLIPS[name]
    source = clips.make(tmp_path / name, spec)
    plan = plan_split(source, LITE, segments=3)
    assert (plan.frames, len(plan.segments)) == (spec.frames, 3)
    pieces = cut(plan, tmp_path / "parts")
    for piece in pieces:
        assert len(shown(piece.path)) == piece.segment.frames, (
            "a segment decodes by itself, to the last frame"
        )
    suffix = source.suffix if source.suffix in (".mp4", ".mov", ".mkv") else ".mp4"
    output = tmp_path / f"joined{suffix}"
    assert joined(plan, pieces, output) == []
    before, after = shown(source), shown(output)
    assert [frame[1:] for frame in after] == [frame[1:] for frame in before]
    origin = plan.source.origin_seconds
    assert [frame[0] for frame in after] == pytest.approx(
        [frame[0] - origin for frame in before], abs=1e-4
    )
    if spec.audio_seconds:
        (start, samples), (start_after, samples_after) = heard(source), heard(output)
        assert samples_after == samples
        assert start_after == pytest.approx(start - origin, abs=1e-4)


def test_into_matroska_everything_moves_together(tmp_path: Path) -> None:
    """The lead-in of AAC lies before 0, where Matroska has no time: sound and picture are moved
    alike."""
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    plan = plan_split(source, LITE, segments=3)
    joined(plan, cut(plan, tmp_path / "parts"), tmp_path / "out.mkv")
    late = {
        after[0] - before[0]
        for before, after in zip(shown(source), shown(tmp_path / "out.mkv"), strict=True)
    }
    assert len(late) == 1
    assert late.pop() == pytest.approx(1024 / 48000, abs=1e-3)


def ffmpeg(*args: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, args)]
    subprocess.run(command, check=True, timeout=60)


def rich(folder: Path) -> Path:
    """Picture, French sound, a German subtitle from 0.5 s on, one chapter, a title."""
    clip = clips.make(folder / "plain.mp4", CLIPS["b-frames.mp4"])
    (folder / "text.srt").write_text("1\n00:00:00,500 --> 00:00:01,300\nGuten Tag\n")
    (folder / "meta.txt").write_text(
        ";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1000\ntitle=One\n"
    )
    inputs = [
        word for name in (clip, folder / "text.srt", folder / "meta.txt") for word in ("-i", name)
    ]
    languages = ("-metadata:s:1", "language=fra", "-metadata:s:2", "language=deu")
    ffmpeg(
        *inputs,
        "-map",
        "0",
        "-map",
        "1",
        "-map_metadata",
        "2",
        *languages,
        "-c",
        "copy",
        folder / "rich.mkv",
    )
    return folder / "rich.mkv"


def test_subtitles_chapters_metadata_and_languages_come_along(tmp_path: Path) -> None:
    source = rich(tmp_path)
    plan = plan_split(source, LITE, segments=3)
    assert joined(plan, cut(plan, tmp_path / "parts"), tmp_path / "out.mkv") == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.metadata["title"] == "A title"
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "One"}]
        languages = [(stream.type, stream.metadata.get("language")) for stream in container.streams]
        assert languages == [("video", None), ("audio", "fra"), ("subtitle", "deu")]
        texts = [
            (bytes(packet), packet.pts, packet.duration)
            for packet in container.demux(subtitles=0)
            if packet.size
        ]
    with av.open(str(source)) as container:
        assert texts == [
            (bytes(packet), packet.pts, packet.duration)
            for packet in container.demux(subtitles=0)
            if packet.size
        ]
        assert texts[0][0] == b"Guten Tag"
    notes = joined(plan, cut(plan, tmp_path / "again"), tmp_path / "out.mp4")
    assert notes == ["subtitle stream 2 was left out: mp4 does not carry it"]


def test_the_same_plan_cuts_the_same_bytes(tmp_path: Path) -> None:
    for name in ("b-frames.mp4", "b-frames.mkv"):
        plan = plan_split(clips.make(tmp_path / name, CLIPS[name]), LITE, segments=3)
        first, second = (
            [piece.path.read_bytes() for piece in cut(plan, tmp_path / f"{name}-{n}")]
            for n in (1, 2)
        )
        assert first == second


@pytest.mark.parametrize(("codec", "tag"), [("libx264", "avc3"), ("libx265", "hev1")])
def test_segments_from_encoders_with_other_headers_are_joined_with_their_own(
    codec: str, tag: str, tmp_path: Path
) -> None:
    """Another encoder setting makes another SPS: each segment then carries its own, and every frame
    still decodes as it was."""
    plan = plan_split(clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"]), LITE, segments=3)
    pieces: list[Piece] = []
    for segment, refs in zip(plan.segments, (1, 2, 3), strict=True):
        settings = f"ref={refs}:bframes={refs - 1}:log-level=error"
        options = (
            ("crf", "20"),
            ("x264-params" if codec == "libx264" else "x265-params", settings),
        )
        spec = clips.Clip(frames=segment.frames, codec=codec, options=options)
        pieces.append(read_piece(segment, clips.make(tmp_path / f"other-{refs}.mp4", spec)))
    assert len({piece.extradata for piece in pieces}) == 3
    expected = [frame[1] for piece in pieces for frame in shown(piece.path)]
    for name in ("out.mp4", "out.mkv"):
        joined(plan, pieces, tmp_path / name)
        assert [frame[1] for frame in shown(tmp_path / name)] == expected
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == tag, (
            "a player is told to look inside the stream"
        )


def test_segments_of_other_sizes_or_lengths_are_not_joined(tmp_path: Path) -> None:
    plan = plan_split(clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"]), LITE, segments=3)
    pieces = cut(plan, tmp_path / "parts")
    last = plan.segments[-1]
    wide = clips.make(tmp_path / "wide.mp4", clips.Clip(width=80, frames=last.frames))
    with pytest.raises(SplitError, match="segments 0 and 2") as caught:
        join(plan, [*pieces[:2], read_piece(last, wide)], tmp_path / "out.mp4")
    assert caught.value.reason == "segments_differ"
    short = clips.make(tmp_path / "short.mp4", clips.Clip(frames=last.frames - 1))
    with pytest.raises(
        SplitError, match=f"segment 2 has {last.frames} frames and came back with {last.frames - 1}"
    ) as caught:
        read_piece(last, short)
    assert caught.value.reason == "frames_differ"


def test_the_check_sees_what_is_missing(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    plan = plan_split(source, LITE, segments=3)
    copied, _ = join(plan, cut(plan, tmp_path / "parts"), tmp_path / "out.mp4")
    check_output(plan, tmp_path / "out.mp4", copied)
    other = plan_split(
        clips.make(
            tmp_path / "other.mp4", clips.Clip(frames=59, options=B_FRAMES, audio_seconds=2.4)
        ),
        LITE,
    )
    with pytest.raises(SplitError, match="60 frames of 59"):
        check_output(other, tmp_path / "out.mp4", copied)
    with pytest.raises(SplitError, match="not at their times"):
        check_output(
            plan_split(clips.make(tmp_path / "vfr.mp4", CLIPS["vfr.mp4"]), LITE),
            tmp_path / "out.mp4",
            copied,
        )
    copied[1].digest.update(b"one more")
    with pytest.raises(SplitError, match="audio stream 1 of the joined file is not the source's"):
        check_output(plan, tmp_path / "out.mp4", copied)


def test_open_groups_are_never_cut(tmp_path: Path) -> None:
    """x264 marks the key frames of open groups as such in Matroska; frames before them in showing
    refer to them."""
    options = (("x264-params", "keyint=12:open-gop=1:scenecut=0"), ("preset", "medium"))
    source = clips.make(tmp_path / "open.mkv", clips.Clip(frames=60, options=options))
    with av.open(str(source)) as container:
        marked = [
            index
            for index, packet in enumerate(p for p in container.demux(video=0) if p.size)
            if packet.is_keyframe
        ]
    assert len(marked) > 1, "the container offers places to cut"
    plan = plan_split(source, LITE, segments=3)
    assert list(plan.source.cuts) == [0]
    assert len(plan.segments) == 1
    assert "cannot be shared" in plan.warnings[0]


def test_closed_groups_by_arithmetic() -> None:
    closed = [0, 3, 1, 2, 4, 7, 5, 6]
    leading = [0, 3, 1, 2, 6, 4, 5, 7]
    assert closed_cuts(closed, [0, 4]) == [0, 4]
    assert closed_cuts(leading, [0, 4]) == [0], (
        "4 and 5 follow 6 in the file and are shown before it"
    )
    assert closed_cuts([0, 2, 4, 3, 5], [0, 3]) == [0], "3 is shown before 4, which precedes it"
    assert closed_cuts([], []) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("refresh", "anew"), [(0, [0, 12, 24, 36, 48]), (1, [0])])
def test_only_a_refresh_at_once_lets_h264_start_anew(
    refresh: int, anew: list[int], suffix: str, tmp_path: Path
) -> None:
    """With intra refresh, x264 marks the frames at which a decoder may begin to recover as key
    frames: no frame crosses them, and yet they refer to frames before."""
    settings = f"keyint=12:scenecut=0:bframes=0:intra-refresh={refresh}"
    options = (("x264-params", settings), ("preset", "medium"))
    source = clips.make(tmp_path / f"in{suffix}", clips.Clip(frames=60, options=options))
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    marked = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert marked == [0, 12, 24, 36, 48]
    assert list(read_source(source).cuts) == anew


def test_decode_times_rise_and_never_pass_showing() -> None:
    for times in ([0, 10, 25, 30, 45, 50, 52, 70], [0, 10, 25, 3000, 3010, 3020, 6000, 6010]):
        coded = [times[number] for number in (0, 4, 2, 1, 3, 7, 6, 5)]
        decoded = decode_times(coded)
        assert decoded == sorted(set(decoded))
        assert all(dts <= pts for dts, pts in zip(decoded, coded, strict=True))


SMOOTH = [3600 * number for number in range(26)]
TWENTY_SECONDS = 20 * 90_000


@pytest.mark.parametrize("read", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    "times",
    [
        pytest.param([*SMOOTH, TWENTY_SECONDS, TWENTY_SECONDS + 3600], id="before the last frames"),
        pytest.param([*SMOOTH, TWENTY_SECONDS], id="before the last frame"),
        pytest.param(
            [0, *(TWENTY_SECONDS + pts for pts in SMOOTH)],
            id="after the first frame",
        ),
    ],
)
def test_a_joined_video_with_a_pause_lasts_as_long_as_its_source(
    times: list[int], read: str, tmp_path: Path
) -> None:
    """Frames are coded out of order, and an mp4 lists the times of coded frames."""
    spec = clips.Clip(frames=len(times), pts=times, options=B_FRAMES)
    plan = plan_split(clips.make(tmp_path / f"in{read}", spec), LITE, segments=2)
    assert len(plan.segments) == 2
    joined(plan, cut(plan, tmp_path / "parts"), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0]
        assert video.duration is not None and video.time_base is not None
        packets = [packet for packet in container.demux(video) if packet.size]
        end = max((packet.pts or 0) + (packet.duration or 0) for packet in packets)
        seconds = [float(ticks * video.time_base) for ticks in (video.duration, end)]
        seconds.append((container.duration or 0) / 1e6)
    assert seconds == pytest.approx(3 * [times[-1] / 90_000 + 0.04], abs=0.041)


def twice(stream: bytes) -> bytes:
    """A transport stream two times in a row, the packets of each kind counted on (ISO/IEC 13818-1,
    2.4.3.3), or they would count as lost."""
    data, counted = bytearray(2 * stream), dict[bytes, int]()
    for start in range(0, len(data), 188):
        kind = bytes([data[start + 1] & 0x1F, data[start + 2]])
        if data[start + 3] & 0x10:
            counted[kind] = counted.get(kind, -1) + 1
        data[start + 3] = data[start + 3] & 0xF0 | counted.get(kind, 0) % 16
    return bytes(data)


@pytest.mark.parametrize("jump", ["ahead", "back"])
def test_a_clock_that_jumps_is_refused(jump: str, tmp_path: Path) -> None:
    """Back: two recordings in one file. Ahead: an hour in a broadcast."""
    path = tmp_path / "in.ts"
    later = [pts + 3600 * 90_000 * (jump == "ahead" and pts >= SMOOTH[13]) for pts in SMOOTH]
    clips.make(path, clips.Clip(frames=26, pts=later))
    if jump == "back":
        path.write_bytes(twice(path.read_bytes()))
    with pytest.raises(SplitError, match=r"clock jumps by [+-]\d") as caught:
        plan_split(path)
    assert caught.value.reason == "clock_jump"


def without_key_frame(source: Path, path: Path) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        target = write.add_stream_from_template(read.streams.video[0])
        for index, packet in enumerate(packet for packet in read.demux(video=0) if packet.size):
            packet.stream = target
            if index:
                write.mux(packet)
    return path


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("text", "unreadable"),
        ("sound", "no_video"),
        ("edit-list", "edit_list"),
        ("no-key-frame", "no_keyframe"),
    ],
)
def test_what_cannot_be_cut_exactly_is_refused(case: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"{case}.mp4"
    whole = clips.make(tmp_path / "whole.mp4", CLIPS["b-frames.mp4"])
    if case == "text":
        path.write_text("no video")
    if case == "sound":
        with av.open(str(whole)) as read, av.open(str(path), "w") as write:
            target = write.add_stream_from_template(read.streams.audio[0])
            for packet in read.demux(audio=0):
                packet.stream = target
                write.mux(packet)
    if case == "edit-list":
        ffmpeg(
            "-ss", "0.3", "-i", whole, "-c", "copy", path
        )  # hides what lies between the key frame before and that time
    if case == "no-key-frame":
        path = without_key_frame(whole, tmp_path / "headless.mkv")
    with pytest.raises(SplitError) as caught:
        plan_split(path)
    assert caught.value.reason == reason
    assert str(tmp_path) not in str(caught.value), (
        "a message is read by others than the owner of the folders"
    )


def test_a_file_that_is_not_there_is_no_damaged_video(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan_split(tmp_path / "absent.mp4")


@pytest.mark.parametrize(
    ("source", "output"),
    [
        pytest.param("absent.mp4", "out.mp4", id="no input"),
        pytest.param("in.mp4", "absent/out.mp4", id="no folder for the output"),
        pytest.param("in.mp4", "out.webm", id="no container of the task"),
        pytest.param("in.mp4", "in.mp4", id="the output is the input"),
    ],
)
def test_what_an_unsplit_call_refuses_a_split_one_refuses_alike(
    source: str, output: str, server: ScriptedServer, tmp_path: Path
) -> None:
    clips.make(tmp_path / "in.mp4", clips.Clip(frames=5))
    bucket = Storage(server.url.removesuffix("/v2"), "bucket", "key", "secret")
    with Client("ep1", "rpa_key", server.url, storage=bucket) as client:
        with pytest.raises((FileNotFoundError, ConfigError)) as whole:
            client.upscale(tmp_path / source, tmp_path / output, model="lite")
        with pytest.raises(whole.type) as split:
            client.upscale(tmp_path / source, tmp_path / output, split=True, model="lite")
    assert str(split.value) == str(whole.value)
    assert server.seen == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_output_without_a_suffix_is_what_a_worker_makes_of_it(tmp_path: Path) -> None:
    assert {"", *CONTAINERS} == UpscaleTask.OUTPUT_SUFFIXES
    plan = plan_split(clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"]), LITE, segments=3)
    joined(plan, cut(plan, tmp_path / "cut"), tmp_path / "out")
    with av.open(str(tmp_path / "out")) as container:
        assert "mp4" in container.format.name.split(",")
    assert shown(tmp_path / "out") == shown(plan.source.path)


def test_a_file_that_changed_after_its_plan_is_not_cut(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    plan = plan_split(source, LITE, segments=3)
    clips.make(source, clips.Clip(frames=59, options=B_FRAMES))
    with pytest.raises(SplitError) as caught:
        list(cut_segments(plan, tmp_path))
    assert caught.value.reason == "source_changed"


@pytest.mark.parametrize(
    ("allowed", "frames", "segments", "cuts"),
    [
        (range(0, 100, 10), 100, 4, [0, 20, 50, 70]),
        (range(0, 100, 10), 100, 1, [0]),
        ([0], 100, 4, [0]),
        ([0, 90], 100, 4, [0, 90]),
        (range(100), 100, 3, [0, 33, 67]),
    ],
)
def test_cuts_lie_near_equal_shares(
    allowed: Sequence[int], frames: int, segments: int, cuts: list[int]
) -> None:
    assert choose_cuts(allowed, frames, segments) == cuts


def test_a_plan_tells_what_it_will_do(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    plan = plan_split(source, LITE, segments=3, gpu="RTX 4090")
    firsts = [segment.first_frame for segment in plan.segments]
    assert firsts[0] == 0
    assert [segment.end_frame for segment in plan.segments] == [*firsts[1:], 60]
    assert sum(segment.duration_seconds for segment in plan.segments) == pytest.approx(2.4)
    assert plan.estimate.usd is not None and printed_usd(str(plan)) == pytest.approx(
        plan.estimate.usd, rel=1e-3
    )
    assert plan.longest_seconds == pytest.approx(
        plan.estimate.seconds * max(s.frames for s in plan.segments) / 60
    )
    assert "h264 spends its bits by what came before" in str(plan)
    prores = plan_split(source, UpscaleParams(model="lite", codec="prores"), segments=3)
    assert prores.warnings == ()
    faces = plan_split(source, UpscaleParams(codec="prores", face_enhance=True), segments=3)
    assert "a face may change at a cut" in faces.warnings[0]


def printed_usd(text: str) -> float:
    """The first price in a text."""
    found = re.search(r"\$([0-9.]+)", text)
    assert found is not None, text
    return float(found[1])


def test_a_budget_needs_a_price_and_holds(tmp_path: Path) -> None:
    source = clips.make(tmp_path / "in.mp4", CLIPS["b-frames.mp4"])
    unpriced = plan_split(source, LITE)
    unpriced.require_budget(None)
    with pytest.raises(SplitError, match="needs a price") as caught:
        unpriced.require_budget(1.0)
    assert caught.value.reason == "budget"
    priced = plan_split(source, LITE, gpu="RTX 4090")
    usd = priced.estimate.usd
    assert usd is not None
    priced.require_budget(usd)
    for budget in (usd / 2, usd * (1 - 1e-9), 1e-9, 0):
        with pytest.raises(SplitError, match="is above max_usd") as caught:
            priced.require_budget(budget)
        estimated, _, limit = str(caught.value).partition("max_usd")
        assert printed_usd(limit) == budget < printed_usd(estimated), (
            "two numbers of which one is visibly above the other"
        )
        assert printed_usd(estimated) == pytest.approx(usd, rel=1e-3)
    with pytest.raises(SplitError, match="NaN"):
        priced.require_budget(math.nan)


def test_large_outputs_make_short_segments(tmp_path: Path) -> None:
    source = read_source(clips.make(tmp_path / "in.mp4", clips.Clip(frames=5)))
    hd: Any = type(source)(**{**vars(source), "width": 960, "height": 540})
    assert longest_seconds(hd, UpscaleParams(codec="h264")) == pytest.approx(
        4.5 * 2**30 * 8 / (3840 * 2160 * 25 * 0.5)
    )
    assert longest_seconds(source, UpscaleParams(codec="h264")) == 600
    prores = longest_seconds(hd, UpscaleParams(codec="prores"))
    assert prores * 3840 * 2160 * 25 * 3.6 / 8 == pytest.approx(4.5 * 2**30)


def test_an_interlaced_source_is_split_with_a_word(tmp_path: Path) -> None:
    options = (("x264-params", "tff=1:keyint=12"),)
    plan = plan_split(
        clips.make(tmp_path / "in.mp4", clips.Clip(frames=60, height=64, options=options)),
        LITE,
        segments=3,
    )
    assert len(plan.segments) == 3
    assert "the deinterlacer looks at a frame's neighbours" in plan.warnings[0]


@pytest.mark.parametrize("segments", [0, 10_001])
def test_the_number_of_segments_has_bounds(segments: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="segments must be 1 to"):
        plan_split(tmp_path / "any.mp4", segments=segments)
