"""The check of a rendered file: what plain FFmpeg writes is never taken for a broken file, and what
lacks something never for a good one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import clips
from support.render_kit import FFMPEG, decoded, plain, rendered

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import formats
from gpu_worker_processors.sandbox import landlock

pytestmark = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)

FRAMES = 40
B_FRAMES = {
    "libx264": ("-bf", "3", "-preset", "fast"),
    "libx265": ("-preset", "ultrafast", "-x265-params", "bframes=3:log-level=none"),
    "mpeg4": ("-bf", "2"),
    "mpeg2video": ("-bf", "2"),
    "libsvtav1": ("-preset", "12"),
    "libaom-av1": ("-cpu-used", "8"),
    "libvpx-vp9": ("-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "8"),
    "libvpx": ("-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "8"),
}
"""Encoder -> options with which frames are stored in another order than they are shown."""
_OF_THE_FAST_RUN = ("mp4", "mkv", "ts", "avi", "flv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def source(folder: Path, encoder: str) -> Path:
    """Video of an encoder, with two key frames."""
    path = folder / f"{encoder}.{'mp4' if encoder == 'libx264' else 'mkv'}"
    if not path.exists():
        plain(
            *("-f", "lavfi", "-i", f"testsrc2=size=192x108:rate=25:duration={FRAMES / 25}"),
            *("-c:v", encoder, "-g", "24", *B_FRAMES[encoder]),
            *("-pix_fmt", "yuv420p"),
            str(path),
        )
    return path


def accepts(path: Path, suffix: str, tmp_path: Path) -> bool:
    """Whether plain FFmpeg copies the stream into this container and reads it back."""
    name = tmp_path / f"plain.{suffix}"
    words = ["-v", "error", "-y", "-i", str(path), "-c", "copy", str(name)]
    if subprocess.run([FFMPEG, *words], capture_output=True).returncode != 0:
        return False
    words = ["-v", "error", "-i", str(name), "-f", "framemd5", "-"]
    read = subprocess.run([FFMPEG, *words], capture_output=True, text=True).stdout
    return sum(not line.startswith("#") for line in read.splitlines()) == FRAMES


SUFFIXES = [suffix for suffix, muxer in formats.MUXER_OF_SUFFIX.items() if muxer != "image2"]


@pytest.mark.parametrize("suffix", _OF_THE_FAST_RUN)
def test_reordered_frames_pass_in_every_container(
    suffix: str, folder: Path, tmp_path: Path
) -> None:
    result = rendered(tmp_path, "-c", "copy", f"out.{suffix}", a=source(folder, "libx264"))
    assert result.stats.frames == FRAMES


@pytest.mark.slow
@pytest.mark.parametrize("encoder", B_FRAMES)
def test_what_plain_ffmpeg_copies_passes_in_every_container(
    encoder: str, folder: Path, tmp_path: Path
) -> None:
    path = source(folder, encoder)
    taken = [suffix for suffix in SUFFIXES if accepts(path, suffix, tmp_path)]
    assert taken
    for suffix in taken:
        result = rendered(tmp_path, "-c", "copy", f"out.{suffix}", a=path)
        assert result.stats.frames == FRAMES, suffix


def test_an_empty_subtitle_track_is_a_warning(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "clip.mp4", clips.Clip(frames=200, options=(("g", "25"),)))
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,900\nEarly\n")
    both = tmp_path / "both.mkv"
    plain("-i", str(clip), "-i", str(words), "-c:v", "copy", "-c:s", "srt", str(both))
    result = rendered(tmp_path, "-map", "0", "-c", "copy", "out.mkv", before=("-ss", "7"), a=both)
    assert [(one.code, "subtitle" in one.message) for one in result.warnings] == [
        ("empty_stream", True)
    ]


def with_one_key_frame(folder: Path) -> Path:
    path = folder / "one_key.mp4"
    plain(
        *("-f", "lavfi", "-i", "testsrc2=size=192x108:rate=25:duration=4"),
        *("-f", "lavfi", "-i", "sine=duration=4", "-c:v", "libx264", "-g", "50", "-c:a", "aac"),
        *("-sc_threshold", "0", str(path)),
    )
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_copy_without_a_key_frame_is_refused_with_the_cure(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="key frame.*-ss before -i.*encode") as caught:
        rendered(
            tmp_path,
            *("-ss", "0.5", "-t", "1", "-c", "copy", f"out.{suffix}"),
            a=with_one_key_frame(tmp_path),
        )
    assert caught.value.code is ErrorCode.output_invalid


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ((), ("-ss", "0.5"), "after the audio"),
        (("-ss", "1.5"), ("-t", "0.4"), "instead of"),
        (("-ss", "2"), ("-t", "1"), None),
    ],
    ids=["behind -i", "before -i", "at a key frame"],
)
def test_a_copy_that_begins_elsewhere_says_so(
    before: tuple[str, ...], after: tuple[str, ...], says: str | None, tmp_path: Path
) -> None:
    clip = with_one_key_frame(tmp_path)
    result = rendered(tmp_path, *after, "-c", "copy", "out.mkv", before=before, a=clip)
    messages = [one.message for one in result.warnings if one.code == "cut_at_key_frame"]
    assert len(messages) == (says is not None)
    assert all(str(says) in message for message in messages)


def test_a_copy_counts_what_its_edit_list_shows(tmp_path: Path) -> None:
    clip = with_one_key_frame(tmp_path)
    words = ("-t", "0.4", "-c", "copy", "out.mp4")
    result = rendered(tmp_path, *words, before=("-ss", "1.5"), a=clip)
    lines = decoded(tmp_path / "output.mp4").splitlines()
    shown = sum(line.startswith("0,") for line in lines)
    assert result.stats.frames == shown < 15
    assert result.stats.duration == pytest.approx(0.4, abs=0.1)
    assert [one.code for one in result.warnings] == []


@pytest.mark.parametrize(("pix_fmt", "codes"), [("yuv444p", ["pix_fmt_unusual"]), ("yuv420p", [])])
def test_h264_that_few_players_show_is_a_warning(
    pix_fmt: str, codes: list[str], folder: Path, tmp_path: Path
) -> None:
    clip = source(folder, "libx264")
    result = rendered(tmp_path, "-vf", f"format={pix_fmt}", "-c:v", "libx264", "out.mp4", a=clip)
    assert [one.code for one in result.warnings] == codes
