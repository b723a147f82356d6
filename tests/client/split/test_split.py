"""Cutting and joining without workers: what is cut and joined again decodes to the same images at
the same times, in every container, codec and clock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support import clips
from support.split_kit import B_FRAMES, CLIPS, LITE, ffmpeg

from gpu_worker_client.protocol import UpscaleTask
from gpu_worker_client.protocol.base import CONTAINERS
from gpu_worker_client.split import SplitError, SplitPlan, plan_split
from gpu_worker_client.split.remux import Piece, check_output, cut_segments, join, read_piece
from gpu_worker_client.split.source import closed_cuts, decode_times, read_source


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
