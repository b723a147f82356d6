"""Commands as people write them: each, run by the task in its sandbox, gives the streams and the
decoded frames and samples that plain FFmpeg gives for the words as they stand; or is refused where
the task refuses it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
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
REFUSED = {
    "pictures by a pattern that fits none": ("-pattern_type glob -i '*.tga' out.mp4", 3),
    "pictures by number that are not there": ("-framerate 24 -i frame%03d.png out.mp4", 3),
    "two outputs of one name": ("-i a.mp4 out.mp4 -an out.mp4", 4),
    "an output in a folder": ("-i a.mp4 sub/small.mp4 out.mp4", 2),
    "two passes of two outputs": ("-i a.mp4 small.mp4 -pass 2 out.mp4", 3),
    "tee to a path": ("-i a.mp4 -map 0 -f tee [f=mp4]/tmp/x|b.ts", 6),
    "tee to a server": ("-i a.mp4 -map 0 -f tee [f=flv]rtmp://h/x|b.ts", 6),
    "tee in a tee": ("-i a.mp4 -map 0 -f tee [f=tee]x|b.ts", 6),
    "tee over an input": ("-i a.mp4 -map 0 -f tee b.mp4|c.ts", 6),
    "tee with an option of no table": ("-i a.mp4 -map 0 -f tee [hls_key_info_file=k]c.m3u8", 6),
    "tee that leaves out what fails": ("-i a.mp4 -map 0 -f tee [onfail=ignore]c.mp4|d.ts", 6),
    "from the web": ("-i https://example.com/a.mp4 out.mp4", 1),
    "segments elsewhere": ("-i a.mp4 -f segment -segment_list /tmp/list.m3u8 out%d.mp4", 5),
    "a playlist that calls elsewhere": ("-i a.mp4 -hls_base_url http://x/ out.m3u8", 2),
    "a key for segments": ("-i a.mp4 -hls_key_info_file key.txt out.m3u8", 2),
    "joined with a file of the system": ("-i concat:a.ts|/etc/passwd out.mp4", 1),
    "a list that names another file": ("-f concat -i bad_list.txt -c copy out.mp4", 3),
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
        ["testsrc2=s=64x48:r=10:d=1", "anim.webp"],
        ["testsrc2=s=64x48:r=10:d=1", "-f", "apng", "anim.png"],
    ):
        subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", *words], cwd=where, check=True)
    two_languages = ["-map", "0", "-map", "0:a", "-metadata:s:a:0", "language=eng"]
    run(
        [FFMPEG, "-v", "error", "-i", "a.mp4", *two_languages]
        + ["-metadata:s:a:1", "language=ger", "-c", "copy", "two.mkv"],
        where,
    )
    for number in range(1, 5):
        picture = ["-ss", str(number * 0.4), "-i", "a.mp4", "-frames:v", "1"]
        run([FFMPEG, "-v", "error", *picture, f"img{number:03d}.png"], where)
    for name in ("a", "b"):
        run([FFMPEG, "-v", "error", "-i", f"{name}.mp4", "-c", "copy", f"{name}.ts"], where)
    (where / "samples.raw").write_bytes(
        (9000 * np.sin(np.arange(16000) / 9)).astype("<i2").tobytes()
    )
    (where / "list.txt").write_text("# two clips\nfile 'a.mp4'\nfile './b.mp4'\n")
    (where / "slides.txt").write_text("file img001.png\nduration 0.5\nfile img002.png\n")
    (where / "bad_list.txt").write_text("file a.mp4\nfile /etc/passwd\n")
    (where / "chapters.txt").write_text(
        ";FFMETADATA1\ntitle=A title\n[CHAPTER]\nTIMEBASE=1/10\nSTART=0\nEND=9\ntitle=One\n"
    )
    (where / "subs.srt").write_text("1\n00:00:00,200 --> 00:00:01,500\nIt's 5:30, [ok]; done\n")
    (where / "graph.txt").write_text("[0:v] scale=32:24,\n drawtext=fontfile=font.ttf:text=a [v]\n")
    clips.make(where / "it's my clip (1), é.mp4", clips.Clip(audio_seconds=2.0))
    (where / "Дёма é.cube").write_text(cube())
    (where / "spaced.txt").write_text("file 'it'\\''s my clip (1), é.mp4'\nfile a.mp4\n")
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
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    ours.mkdir()
    plain.mkdir()
    for path in folder.iterdir():
        (plain / path.name).symlink_to(path)
    run([FFMPEG, "-v", "error", *words], plain)
    logs = set(plain.glob("ffmpeg-*.log"))
    made = [path for path in plain.rglob("*") if path.is_file() and not path.is_symlink()]
    made = [path for path in made if path not in logs]
    name = words[-1]
    if len(made) > 1 or "%" in name or name.endswith((".m3u8", ".mpd")):
        rendered(words, folder, ours / "out.zip")
        same_files(ours / "out.zip", {str(path.relative_to(plain)): path for path in made})
        return
    rendered(words, folder, ours / name)
    if not formats.MUXERS[
        formats.MUXER_OF_SUFFIX.get(name.rpartition(".")[2], "rawvideo")
    ].is_checked:
        assert (ours / name).read_bytes() == made[0].read_bytes()
        return
    assert streams(ours / name) == streams(made[0])
    assert decoded(ours / name) == decoded(made[0])


def same_files(archive: Path, made: Mapping[str, Path]) -> None:
    """Byte for byte; Matroska and DASH say when or by what number they were made."""
    with zipfile.ZipFile(archive) as files:
        assert sorted(files.namelist()) == sorted(made)
        for name, path in made.items():
            if path.suffix not in (".mpd", ".mkv"):
                assert files.read(name) == path.read_bytes(), name


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


def streams(path: Path) -> Sequence[tuple[object, ...]]:
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
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in FAST])
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


@pytest.mark.parametrize(
    ("command", "token"),
    [("-i a.mp4 -map 0:v -map 0:s out.mp4", 5), ("-i silent.mp4 -map v -map a out.mp4", 5)],
)
def test_a_stream_that_is_not_there_is_named(
    command: str, token: int, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(TaskError) as caught:
        rendered(shlex.split(command), folder, tmp_path / "out.mp4")
    assert caught.value.details["token_index"] == token
    assert caught.value.message.startswith(f"command_args[{token}]: -map 0:")


def test_a_difference_is_seen(folder: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / f"{name}.mp4" for name in ("one", "two")]
    for path, quality in zip(outputs, ("20", "21"), strict=True):
        run([FFMPEG, "-v", "error", "-i", "a.mp4", "-crf", quality, str(path)], folder)
    assert decoded(outputs[0]) != decoded(outputs[1])


@pytest.mark.parametrize(
    ("command", "path", "pattern"),
    [
        pytest.param(
            "-i a.mp4 -af loudnorm=I=-16:print_format=json -f null -",
            ("loudnorm", "input_i"),
            r'"input_i" : "(\S+)"',
            id="loudnorm",
        ),
        pytest.param(
            "-i a.mp4 -af ebur128=peak=true -f null -",
            ("ebur128", "i"),
            r"Summary:\s+Integrated loudness:\s+I: +(\S+)",
            id="ebur128",
        ),
        pytest.param(
            "-i a.mp4 -vn -af volumedetect -f null /dev/null",
            ("volumedetect", "mean_volume"),
            r"mean_volume: (\S+)",
            id="volumedetect",
        ),
        pytest.param(
            "-i a.mp4 -vn -af astats -f null -",
            ("astats", "overall", "rms_level_db"),
            r"Overall[\s\S]*?RMS level dB: (\S+)",
            id="astats",
        ),
        pytest.param(
            "-i a.mp4 -af silencedetect=n=0dB:d=0.1 -f null -",
            ("silencedetect", 0, "silence_duration"),
            r"silence_duration: (\S+)",
            id="silencedetect",
        ),
        pytest.param(
            "-i a.mp4 -vf blackdetect=d=0.1:pix_th=1 -an -f null -",
            ("blackdetect", 0, "black_end"),
            r"black_end:(\S+)",
            id="blackdetect",
        ),
        pytest.param(
            "-i a.mp4 -vf pad=64:64:0:8,cropdetect=round=2 -f null -",
            ("cropdetect", "h"),
            r"h:(\d+) x:\d+ y:\d+ pts:\S+ t:1.96",
            id="cropdetect",
        ),
        pytest.param(
            "-i a.mp4 -i b.mp4 -lavfi [0:v][1:v]psnr -f null -",
            ("psnr", "average"),
            r"average:(\S+)",
            id="psnr",
        ),
        pytest.param(
            "-i a.mp4 -i b.mp4 -filter_complex ssim -an -f null -",
            ("ssim", "all"),
            r"All:(\S+)",
            id="ssim",
        ),
        pytest.param(
            "-i a.mp4 -vf trim=end_frame=1,signalstats,metadata=print -an -f null -",
            ("signalstats", "yavg", "mean"),
            r"signalstats.YAVG=(\S+)",
            id="signalstats",
        ),
    ],
)
def test_what_a_command_measures_comes_back_as_numbers(
    command: str, path: tuple[str | int, ...], pattern: str, folder: Path, tmp_path: Path
) -> None:
    words = shlex.split(command)
    output = tmp_path / "numbers.json"
    found: object = rendered(words, folder, output).stats.measurements
    assert json.loads(output.read_text()) == found
    for key in path:
        found = found[key]  # type: ignore[index] - a test walks through JSON
    plain = subprocess.run([FFMPEG, *words], cwd=folder, capture_output=True, text=True).stderr
    assert found == float(re.findall(pattern, plain)[-1])


def test_a_file_beside_a_measurement_needs_an_output(folder: Path, tmp_path: Path) -> None:
    words = shlex.split("-i a.mp4 -c copy out.mp4 -af volumedetect -vn -f null -")
    inputs = {path.name: path for path in folder.iterdir()}
    job = LocalJob(
        id="t", params=RenderParams(command_args=words), work_dir=tmp_path, inputs=inputs
    )
    with pytest.raises(TaskError, match="output_url"):
        PROCESSOR.run(job)
    result = rendered(words, folder, tmp_path / "out.mp4")
    assert result.stats.measurements["volumedetect"]["n_samples"] > 0
    assert streams(tmp_path / "out.mp4")[:1] == streams(folder / "a.mp4")[:1]


def test_a_filter_writes_its_file_and_another_reads_it(folder: Path, tmp_path: Path) -> None:
    """The stabiliser's two passes are two jobs; the file of the first one is its output."""
    motion = tmp_path / "motion.trf"
    rendered(shlex.split("-i a.mp4 -vf vidstabdetect -f null -"), folder, motion)
    assert motion.read_bytes()[:4] == b"TRF1"
    (folder / "transforms.trf").write_bytes(motion.read_bytes())
    words = shlex.split("-i a.mp4 -vf vidstabtransform=smoothing=5,unsharp -an out.mp4")
    rendered(words, folder, tmp_path / "out.mp4")
    run([FFMPEG, "-v", "error", *words[:-1], str(tmp_path / "plain.mp4")], folder)
    assert decoded(tmp_path / "out.mp4") == decoded(tmp_path / "plain.mp4")


def test_both_passes_run_for_the_second_one(folder: Path, tmp_path: Path) -> None:
    words = shlex.split("-i a.mp4 -c:v libx264 -b:v 60k -bitexact -an -pass 2 out.mp4")
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    ours.mkdir()
    plain.mkdir()
    rendered(words, folder, ours / "out.mp4")
    first = ["-i", str(folder / "a.mp4"), *words[2:-2], "1", "-f", "null", "-"]
    run([FFMPEG, "-v", "error", *first], plain)
    run([FFMPEG, "-v", "error", "-i", str(folder / "a.mp4"), *words[2:]], plain)
    assert decoded(ours / "out.mp4") == decoded(plain / "out.mp4")
    one_pass = [*words[:-3], "out.mp4"]
    rendered(one_pass, folder, ours / "one.mp4")
    assert decoded(ours / "one.mp4") != decoded(plain / "out.mp4")
