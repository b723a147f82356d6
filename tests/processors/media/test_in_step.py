"""Audio and video of the written file in step, whatever the clock of the source did: a white frame
and a beep come together in it, and both are read from the output."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from support.flash import beeps, ffmpeg, flash_and_beep, flashes, joined
from support.media_job import media_worker
from support.upscale_kit import Repeat, job

from gpu_worker_processors.upscale.upscale import upscale_file

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-c:a", "aac")
TS = (*H264, "-f", "mpegts", "-muxdelay", "0")
VOB = ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2", "-f", "vob")
FRAGMENTED = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof")
STUTTER = "setts=ts='TS-21*max(0,mod(N,60)-57)'"
"""Every second or so, three packets of audio with one timestamp."""


def parts(*starts: float, words: tuple[str, ...] = TS) -> Callable[[Path], Path]:
    """Recordings of two seconds, end to end, whose clocks start at these seconds."""

    def build(folder: Path) -> Path:
        files = [
            flash_and_beep(folder / f"{number}.part", 2, *words, "-output_ts_offset", start)
            for number, start in enumerate(starts)
        ]
        return joined(folder / "in.ts", *files)

    return build


def one(name: str, *words: object) -> Callable[[Path], Path]:
    return lambda folder: flash_and_beep(folder / name, 4, *words)


def stuttering(folder: Path) -> Path:
    source = flash_and_beep(folder / "whole.flv", 4, *H264)
    ffmpeg("-i", source, "-c", "copy", "-bsf:a", STUTTER, folder / "in.flv")
    return folder / "in.flv"


def edited(folder: Path) -> Path:
    """Six seconds of which an editor shows the first two and the last two (ISO/IEC 14496-12,
    8.6.6). The cut lies inside a packet of the audio."""
    path = flash_and_beep(folder / "in.mp4", 6, *H264)
    data = path.read_bytes()
    moov = data.index(b"moov") - 4
    assert moov > data.index(b"mdat"), "no offset moves when it grows"
    head, body = data[:moov], bytearray(data[moov:])
    (movie,) = struct.unpack(">I", body[body.find(b"mvhd") + 16 :][:4])
    list_at = 0
    while (list_at := body.find(b"elst", list_at + 1)) >= 0:
        (scale,) = struct.unpack(">I", body[body.find(b"mdhd", list_at) + 16 :][:4])
        (lead,) = struct.unpack(">i", body[list_at + 16 : list_at + 20])
        rows = [(2 * movie, lead + at * scale, 1 << 16) for at in (0, 4)]
        table = struct.pack(">II", 0, 2) + b"".join(struct.pack(">IiI", *row) for row in rows)
        grown = len(table) - 20
        body[list_at + 4 : list_at + 24] = table
        for box in (b"moov", b"trak", b"edts", b"elst"):
            start = body.rfind(box, 0, list_at + 4) - 4
            size = int.from_bytes(body[start : start + 4], "big") + grown
            body[start : start + 4] = size.to_bytes(4, "big")
    path.write_bytes(head + body)
    return path


def video_for_windows(*words: object) -> Callable[[Path], Path]:
    """Matroska with the frames as an AVI has them: in coding order, by the times of that order
    (RFC 9559, 5.1.4.1.16; Matroska codec mappings, V_MS/VFW/FOURCC)."""

    def build(folder: Path) -> Path:
        source = flash_and_beep(folder / "in.avi", 4, *words, "-c:a", "pcm_s16le")
        path = folder / "in.mkv"
        with av.open(str(source)) as before, av.open(str(path), "w") as after:
            video = after.add_stream_from_template(before.streams.video[0])
            audio = after.add_stream_from_template(before.streams.audio[0])
            context = before.streams.video[0].codec_context
            tag = context.codec_tag.encode()
            head = struct.pack("<IiiHH4s5I", 40, 64, 48, 1, 24, tag, 64 * 48 * 3, 0, 0, 0, 0)
            video.codec_context.extradata = head + (context.extradata or b"")
            for packet in before.demux():
                if packet.size:
                    packet.pts = packet.dts
                    packet.stream = video if packet.stream.type == "video" else audio
                    after.mux(packet)
        data = path.read_bytes()
        own = b"V_MPEG4/ISO/AVC" if b"V_MPEG4/ISO/AVC" in data else b"V_MPEG4/ISO/ASP"
        path.write_bytes(data.replace(own, b"V_MS/VFW/FOURCC", 1))
        return path

    return build


SOURCES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "joined transport streams": (parts(0, 0), "mp4"),
    "joined programme streams": (parts(0, 0, words=VOB), "mkv"),
    "a clock an hour back": (parts(3600, 0), "mkv"),
    "a clock an hour ahead": (parts(0, 3602), "mp4"),
    "a clock half a second back": (parts(0, 1.5), "mov"),
    "audio that stutters": (stuttering, "mp4"),
    "an AVI with B-frames": (one("in.avi", *H264[:-1], "pcm_s16le"), "mkv"),
    "packed MPEG-4": (one("in.avi", "-c:v", "mpeg4", "-bf", "2", "-c:a", "mp2"), "mkv"),
    "AVI's frames in Matroska": (video_for_windows(*H264[:-2], "-bf", "3"), "mp4"),
    "AVI's frames in Matroska, in order": (video_for_windows(*H264[:-2], "-bf", "0"), "mkv"),
    "AVI's MPEG-4 in Matroska": (video_for_windows("-c:v", "mpeg4", "-bf", "2"), "mp4"),
    "fragments from an epoch": (
        one("in.mp4", *H264, *FRAGMENTED, "-output_ts_offset", 1_650_000_006),
        "mp4",
    ),
    "fragments from the middle": (
        one("in.mp4", *H264, *FRAGMENTED, "-output_ts_offset", 6),
        "mkv",
    ),
    "a recording after a day": (one("in.mkv", *H264, "-output_ts_offset", 90_000), "mp4"),
    "two edits": (edited, "mp4"),
    "two edits, Matroska": (edited, "mkv"),
}


_SLOW = {
    "a clock an hour ahead",
    "packed MPEG-4",
    "AVI's frames in Matroska, in order",
    "AVI's MPEG-4 in Matroska",
    "fragments from the middle",
    "two edits, Matroska",
}
"""Left out of the quick run: their neighbours take the same way."""


@pytest.mark.parametrize(
    "case", [pytest.param(one, marks=pytest.mark.slow if one in _SLOW else ()) for one in SOURCES]
)
def test_flash_and_beep_come_together(tmp_path: Path, case: str) -> None:
    build, suffix = SOURCES[case]
    task = job(build(tmp_path), tmp_path / f"out.{suffix}", scale=2)
    result = upscale_file(task, Repeat(scale=2))
    white, loud = flashes(tmp_path / f"out.{suffix}"), beeps(tmp_path / f"out.{suffix}")
    assert len(white) == 4
    assert loud == pytest.approx(white, abs=0.025)
    assert result.stats.frames_processed == 100
    with av.open(str(tmp_path / f"out.{suffix}")) as container:
        assert container.duration / av.time_base == pytest.approx(4.0, abs=0.1)
        starts = [float(s.start_time * s.time_base) for s in container.streams]
    assert min(starts) == pytest.approx(0, abs=0.001)
    assert [at - white[0] for at in white] == pytest.approx([0, 1, 2, 3], abs=0.002)
    assert white[0] == pytest.approx(0.48, abs=0.1)
    jumps = [warning.code for warning in task.warnings].count("clock_jump")
    assert jumps == ("joined" in case or "clock" in case)


def test_a_trim_of_several_seconds_moves_nothing(tmp_path: Path) -> None:
    """An edit list that starts late, as phones write it: what it hides is not carried along."""
    source = flash_and_beep(tmp_path / "whole.mp4", 6, *H264)
    ffmpeg("-ss", 2, "-i", source, "-c", "copy", tmp_path / "in.mp4")
    for suffix in ("mp4", "mkv"):
        task = job(tmp_path / "in.mp4", tmp_path / f"out.{suffix}", scale=2)
        upscale_file(task, Repeat(scale=2))
        white = flashes(tmp_path / f"out.{suffix}")
        assert white == pytest.approx([0.48, 1.48, 2.48, 3.48], abs=0.05)
        assert beeps(tmp_path / f"out.{suffix}") == pytest.approx(white, abs=0.025)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_task_follows_one_clock(tmp_path: Path) -> None:
    """In the sandbox, at the product's defaults, on a recording whose clock jumps back an hour."""
    source = parts(3600, 0)(tmp_path)
    crop, drawn, large = (tmp_path / f"{name}.mp4" for name in ("crop", "drawn", "large"))
    with media_worker(tmp_path) as worker:
        answers = {
            "detect_scenes": worker.run("detect_scenes", source),
            "beat": worker.run("beat", source),
            "track": worker.run("track", source, drawn, model="hog", classes=["person"]),
            "auto_crop": worker.run("auto_crop", source, crop, keyframes=[{"frame": 0, "x": 0.0}]),
            "upscale": worker.upscaled(source, large),
        }
    for task, answer in answers.items():
        assert answer["status"] == "completed", (task, answer)
        codes = [warning["code"] for warning in answer["warnings"]]
        assert codes.count("clock_jump") == 1, (task, codes)
    assert answers["detect_scenes"]["stats"]["duration"] == pytest.approx(4.0, abs=0.001)
    assert answers["beat"]["duration"] == pytest.approx(4.0, abs=0.1)
    assert answers["track"]["video"]["duration"] == pytest.approx(4.0, abs=0.001)
    for output in (crop, drawn, large):
        white = flashes(output)
        assert [at - white[0] for at in white] == pytest.approx([0, 1, 2, 3], abs=0.002)
        assert beeps(output) == pytest.approx(white, abs=0.025), output.name
