"""Commands as people write them: each, run by the task in its sandbox, gives the streams and the
decoded frames and samples that plain FFmpeg gives for the words as they stand; or is refused where
the task refuses it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest
from support import clips
from support.paths import TESTS

from gpu_worker_client.protocol import ErrorCode, RenderParams, RenderResult, TaskError
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.command import compile_command, formats
from gpu_worker_processors.render.processor import PROCESSOR
from gpu_worker_processors.sandbox import landlock

pytestmark = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()

COMMANDS = dict(
    re.findall(
        r"^\[([^]\n]+)\]\n(.+?)(?=\n\n\[|\Z)",
        (TESTS / "render_commands.txt").read_text(),
        re.M | re.S,
    )
)
"""Name -> what follows `ffmpeg` in a shell."""
FAST = ["transcode", "copy of a part", "logo", "thumbnail", "text"]
"""Of the fast run."""
NO_FONTS = pytest.mark.xfail(reason="the sandbox has no fonts")
REFUSED = {
    "pictures in": ("-framerate 24 -i frame%03d.png -c:v libx264 -pix_fmt yuv420p out.mp4", 3),
    "pictures in by a pattern": ("-pattern_type glob -i '*.png' out.mp4", 0),
    "pictures out": ("-i a.mp4 -vf fps=1 out%03d.png", 4),
    "hls": ("-i a.mp4 -c copy -hls_time 4 -f hls out.m3u8", 4),
    "dash": ("-i a.mp4 -c copy -f dash out.mpd", 5),
    "a list of files": ("-f concat -i list.txt -c copy out.mp4", 1),
    "two passes": ("-i a.mp4 -c:v libx264 -b:v 1M -pass 1 -an -f null -", 6),
    "several outputs": ("-i a.mp4 -vf scale=32:-2 small.mp4 -vf scale=48:-2 out.mp4", 4),
    "from the web": ("-i https://example.com/a.mp4 out.mp4", 1),
    "segments": ("-i a.mp4 -c copy -f segment -segment_time 1 out%d.mp4", 6),
    "a file of the system": (
        "-i a.mp4 -vf drawtext=fontfile=/usr/share/fonts/x.ttf:text=a out.mp4",
        3,
    ),
    "to a server": ("-i a.mp4 -f flv rtmp://live.example.com/app/key", 4),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands read, under the names by which they say it."""
    where = tmp_path_factory.mktemp("inputs")
    clips.make(where / "a.mp4", clips.Clip(audio_seconds=2.0))
    clips.make(where / "b.mp4", clips.Clip(audio_seconds=2.0), clips.corners)
    clips.make(where / "silent.mp4")
    clips.make(where / "turned.mp4", clips.Clip(rotation=-90))
    for words in (
        ["color=red@0.5:s=32x16,format=rgba", "-frames:v", "1", "logo.png"],
        ["sine=f=660:d=3", "song.wav"],
    ):
        subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", *words], cwd=where, check=True)
    two_languages = ["-map", "0", "-map", "0:a", "-metadata:s:a:0", "language=eng"]
    run(
        [FFMPEG, "-v", "error", "-i", "a.mp4", *two_languages]
        + ["-metadata:s:a:1", "language=ger", "-c", "copy", "two.mkv"],
        where,
    )
    (where / "chapters.txt").write_text(
        ";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=9\ntitle=One\n"
    )
    (where / "subs.srt").write_text("1\n00:00:00,200 --> 00:00:01,500\nIt's 5:30, [ok]; done\n")
    (where / "look.cube").write_text(cube())
    (where / "font.ttf").write_bytes(
        (Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf").read_bytes()
    )
    return where


def cube() -> str:
    """A colour table that swaps red and blue and darkens green."""
    steps = np.linspace(0, 1, 5)
    rows = [
        f"{blue:.4f} {green * 0.8:.4f} {red:.4f}"
        for blue in steps
        for green in steps
        for red in steps
    ]
    return "LUT_3D_SIZE 5\n" + "\n".join(rows) + "\n"


def same_as_plain(command: str, folder: Path, tmp_path: Path) -> None:
    words = shlex.split(command)
    ours, plain = tmp_path / "ours" / words[-1], tmp_path / "plain" / words[-1]
    for path in (ours, plain):
        path.parent.mkdir()
    rendered(words, folder, ours)
    run([FFMPEG, "-v", "error", *words[:-1], str(plain)], folder)
    if not formats.MUXERS[formats.MUXER_OF_SUFFIX.get(ours.suffix[1:], "rawvideo")].is_checked:
        assert ours.read_bytes() == plain.read_bytes()
        return
    assert streams(ours) == streams(plain)
    assert decoded(ours) == decoded(plain)


def rendered(words: list[str], folder: Path, output: Path) -> RenderResult:
    job = LocalJob(
        id="t",
        params=RenderParams(command_args=words),
        work_dir=output.parent,
        inputs={path.name: path for path in folder.iterdir()},
        output_path=output,
    )
    return PROCESSOR.run(job)


def run(command: list[str], where: Path) -> None:
    done = subprocess.run(
        command, cwd=where, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def streams(path: Path) -> list[tuple[object, ...]]:
    """What a player sees before it decodes anything."""
    with av.open(str(path)) as container:
        return [
            (
                stream.type,
                stream.codec_context and stream.codec_context.name,
                stream.time_base,
                stream.codec_context and stream.codec_context.extradata,
                dict(stream.metadata),
                getattr(stream, "average_rate", None),
                getattr(stream, "sample_aspect_ratio", None),
                stream.disposition,
            )
            for stream in container.streams
        ] + [(container.format.name, dict(container.metadata))]


def decoded(path: Path) -> str:
    """Time stamp, size and hash of every decoded frame; subtitles as packets."""
    words = ["-v", "error", "-i", str(path), "-map", "0", "-c:s", "copy", "-f", "framemd5", "-"]
    done = subprocess.run(
        [FFMPEG, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert any(not line.startswith("#") for line in done.stdout.splitlines()), "nothing decoded"
    return done.stdout


@pytest.mark.parametrize("name", FAST)
def test_a_command_gives_what_plain_ffmpeg_gives(name: str, folder: Path, tmp_path: Path) -> None:
    same_as_plain(COMMANDS[name], folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.xfail(reason="no fonts yet")] * (name == "burn subtitles")
        )
        for name in COMMANDS
        if name not in FAST
    ],
)
def test_every_command_gives_what_plain_ffmpeg_gives(
    name: str, folder: Path, tmp_path: Path
) -> None:
    same_as_plain(COMMANDS[name], folder, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_task_does_not_do_is_refused_with_its_place(
    name: str, folder: Path, tmp_path: Path
) -> None:
    command, at = REFUSED[name]
    inputs = {path.name: path for path in folder.iterdir()}
    with pytest.raises(TaskError) as caught:
        compile_command(shlex.split(command), inputs, None, tmp_path / "out.mp4")
    assert (caught.value.code, caught.value.details["token_index"]) == (
        ErrorCode.ffmpeg_arg_denied,
        at,
    ), caught.value.message


def test_a_difference_is_seen(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{name}.mp4" for name in ("one", "two")]
    for path, quality in zip(outputs, ("20", "21"), strict=True):
        run([FFMPEG, "-v", "error", "-i", "a.mp4", "-crf", quality, str(path)], folder)
    assert decoded(outputs[0]) != decoded(outputs[1])
