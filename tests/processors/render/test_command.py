"""What the runner learns from a command, and what every command line carries whatever the caller
wrote."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.base import Expectation, Rendering
from gpu_worker_processors.render.command import Command, compile_command, parse_command
from gpu_worker_processors.render.command.arithmetic import value_of

Compile = Callable[..., Command]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files below a folder whose name means something at every level of quoting."""
    folder = tmp_path_factory.mktemp("it's [a] \\folder; with, signs:=%")
    subtitles = folder / "subs.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,500\nHello\n")
    return {
        "in.mp4": clips.make(folder / "in.mp4", clips.Clip(audio_seconds=2)),
        "subs.srt": subtitles,
    }


@pytest.fixture
def compiled(inputs: dict[str, Path], tmp_path: Path) -> Compile:
    return lambda *words: compile_command(words, inputs, None, tmp_path / "made")


def words_of(line: str) -> list[str]:
    return line.split()


def after(command: Rendering, word: str) -> list[str]:
    """What follows each place of a word."""
    argv = command.argv()
    return [argv[index + 1] for index, found in enumerate(argv[:-1]) if found == word]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-i in.mp4 -crf 99 out.mp4", "command_args[3]: -crf: must lie between"),
        ("-i in.mp4 -vf subtitles=other.srt out.mp4", 'among them; use "subs.srt"'),
        ("-i in.mp4 -vf drawtext=fontfile=/x/a.ttf:text=a out.mp4", '"a.ttf" must be the name'),
        ("-i in.mp4 -filter_complex_script graph.txt out.mp4", "send the file among them"),
    ],
)
def test_a_word_at_fault_is_named(compiled: Compile, line: str, says: str) -> None:
    with pytest.raises(TaskError) as caught:
        compiled(*line.split())
    assert says in caught.value.message
    assert caught.value.details["nearest"] in (None, "subs.srt")


def test_every_command_line_is_fenced(
    compiled: Compile, inputs: dict[str, Path], tmp_path: Path
) -> None:
    command = compiled("-i", "in.mp4", "-loglevel", "debug", "-n", "out.mkv")
    argv = command.argv()
    assert {"-nostdin", "-xerror", "-y"} <= set(argv)
    assert not {"-n", "-loglevel", "debug", "in.mp4", "out.mkv"} & set(argv)
    assert after(command, "-abort_on") == ["empty_output"]
    assert after(command, "-protocol_whitelist") == [
        "file",
        "file",
    ]  # once before the input, once before the output
    assert after(command, "-f") == ["mov", "matroska"]
    assert "magicyuv" not in after(command, "-codec_whitelist")[0].split(",")
    assert after(command, "-i") == [f"file:{inputs['in.mp4']}"]
    assert argv[-1] == f"file:{tmp_path / 'made'}"


def test_every_input_is_fenced_on_its_own(compiled: Compile) -> None:
    command = compiled(
        "-i", "in.mp4", "-f", "lavfi", "-t", "1", "-i", "sine", "-i", "subs.srt", "out.mkv"
    )
    assert after(command, "-f") == ["mov", "lavfi", "srt", "matroska"]
    assert len(after(command, "-codec_whitelist")) == 2
    assert len(after(command, "-max_pixels")) == 2


def test_paths_of_any_name_are_read(compiled: Compile, tmp_path: Path) -> None:
    command = compiled(
        "-i", "in.mp4", "-vf", "subtitles=subs.srt", "-preset", "ultrafast", "out.mp4"
    )
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *command.argv()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made").stat().st_size > 1000


def test_the_files_that_are_read(
    compiled: Compile, inputs: dict[str, Path], tmp_path: Path
) -> None:
    assert compiled("-i", "in.mp4", "-i", "in.mp4", "out.mp4").files == (inputs["in.mp4"],)
    assert compiled("-i", "in.mp4", "-vf", "subtitles=subs.srt", "out.mp4").files == (
        inputs["in.mp4"],
        inputs["subs.srt"],
    )
    assert compiled("-f", "lavfi", "-i", "color=d=1", "out.mp4").files == ()
    assert compiled("-i", "in.mp4", "out.mp4").output_path == tmp_path / "made"


@pytest.mark.parametrize(
    ("words", "video", "audio"),
    [
        ("-c:v h264_nvenc -c:a copy out.mp4", "h264_nvenc", "copy"),
        ("-vcodec hevc_nvenc out.mp4", "hevc_nvenc", "aac"),
        ("-c copy out.mp4", "copy", "copy"),
        ("-c copy -c:v libx265 out.mp4", "libx265", "copy"),
        ("-c:v h264 out.mp4", "libx264", "aac"),
        ("out.webm", "libvpx-vp9", "libopus"),
        ("-an out.mp4", "libx264", None),
        ("-vn out.mp4", None, "aac"),
        ("out.wav", None, "pcm_s16le"),
        ("-frames:v 1 out.png", "png", None),
        ("-frames:v 1 out.jpg", "mjpeg", None),
    ],
)
def test_the_encoders(compiled: Compile, words: str, video: str | None, audio: str | None) -> None:
    command = compiled("-i", "in.mp4", *words.split())
    assert (command.video_encoder, command.audio_encoder) == (video, audio)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("out.mp4", Expectation()),
        ("-t 2.5 out.mp4", Expectation(max_seconds=2.5)),
        ("-t 00:01:00 -to 20 out.mp4", Expectation(max_seconds=20)),
        ("-frames:v 10 -an out.mp4", Expectation(audio=False, max_frames=10)),
        ("-frames:a 10 out.mp4", Expectation()),
        ("-map 0:v -map 0:a? out.mp4", Expectation(video=True)),
        ("-map 0:a:0 out.mp4", Expectation(audio=True)),
        ("-map 0 -map -0:v out.mp4", Expectation()),
        ("out.gif", Expectation(audio=False)),
        ("out.flac", Expectation()),  # it may hold a cover
        ("out.wav", Expectation(video=False)),
    ],
)
def test_what_must_come_out(compiled: Compile, words: str, expected: Expectation) -> None:
    assert compiled("-i", "in.mp4", *words.split()).expected == expected


def test_another_encoder_takes_the_place_of_the_one_asked_for(compiled: Compile) -> None:
    hardware = compiled(
        *words_of(
            "-i in.mp4 -map 0:v -c:v h264_nvenc -preset p5 -rc vbr -cq 23 -b:v 5M -profile:v high"
            " -pix_fmt nv12 -g 50"
        ),
        *words_of(
            "-r 30 -tag:v avc1 -color_range tv -c:a aac -b:a 96k -profile:a aac_low -movflags"
            " +faststart out.mp4"
        ),
    )
    assert hardware.video_options == {
        "preset": "p5",
        "rc": "vbr",
        "cq": "23",
        "b:v": "5M",
        "profile:v": "high",
        "pix_fmt": "nv12",
        "g": "50",
    }
    software = hardware.with_encoder(
        "libx264",
        {"preset": "slow", "crf": "23", "profile:v": "high", "pix_fmt": "yuv420p", "g": "50"},
    )
    assert software.video_encoder == "libx264"
    assert software.video_options == {
        "preset": "slow",
        "crf": "23",
        "profile:v": "high",
        "pix_fmt": "yuv420p",
        "g": "50",
    }
    for word, values in {
        "-c:v": ["libx264"],
        "-cq": [],
        "-rc": [],
        "-b:v": [],
        "-b:a": ["96k"],
        "-profile:a": ["aac_low"],
    }.items():
        assert after(software, word) == values
    for word in ("-r", "-tag:v", "-color_range", "-map", "-movflags", "-c:a"):
        assert after(software, word) == after(hardware, word) != []
    assert hardware.video_encoder == "h264_nvenc"


@pytest.mark.parametrize(
    ("words", "uses"),
    [
        ("-i in.mp4 out.mp4", False),
        ("-hwaccel cuda -i in.mp4 out.mp4", True),
        ("-hwaccel none -i in.mp4 out.mp4", False),
        ("-c:v h264_cuvid -i in.mp4 out.mp4", True),
        ("-i in.mp4 -vf hwupload_cuda,scale_cuda=640:-2 -c:v h264_nvenc out.mp4", True),
        ("-i in.mp4 -c:v h264_nvenc out.mp4", False),
    ],
)
def test_whether_the_card_is_needed_for_more_than_encoding(
    compiled: Compile, words: str, uses: bool
) -> None:
    assert compiled(*words.split()).uses_gpu is uses


def test_old_names_become_those_that_ffmpeg_has() -> None:
    old = parse_command(
        words_of(
            "-i in.mp4 -vcodec h264 -vsync 2 -qscale:v 3 -ab 96k -vframes 5 -channel_layout stereo"
            " out.mp4"
        ),
        ["in.mp4"],
    )
    new = parse_command(
        words_of(
            "-i in.mp4 -c:v libx264 -fps_mode vfr -q:v 3 -b:a 96k -frames:v 5 -ch_layout stereo"
            " out.mp4"
        ),
        ["in.mp4"],
    )
    assert old == new


def test_the_output_has_the_name_that_the_task_gives_it() -> None:
    assert parse_command(["-i", "in.mp4", "out.mp4"], ["in.mp4"], "out.mp4").output == "out.mp4"
    with pytest.raises(TaskError) as caught:
        parse_command(["-i", "in.mp4", "other.mp4"], ["in.mp4"], "out.mp4")
    assert (caught.value.code, caught.value.details["token_index"]) == (
        ErrorCode.ffmpeg_arg_denied,
        2,
    )
    assert caught.value.details["nearest"] == "out.mp4"


@pytest.mark.parametrize(
    ("words", "at", "hint"),
    [
        (["ffmpeg", "-i", "in.mp4", "out.mp4"], 0, "leave it out"),
        (["-i in.mp4", "-an", "out.mp4"], 0, "an item of its own"),
        (["-i", "in.mp4", "-c:v libx264", "out.mp4"], 2, "an item of its own"),
        (["-crf", "20", "-i", "in.mp4", "out.mp4"], 0, "after the last input"),
        (["-i", "in.mp4", "-stream_loop", "2", "out.mp4"], 2, "before the input"),
        (["-i", "in.mp4", "-vf", "movie=x.png", "out.mp4"], 3, "one of the task's inputs"),
        (["-i", "in.mp4", "-b:w", "5M", "out.mp4"], 2, 'no stream specifier "w"; use v, a or s'),
        (["-i", "in.mp4", "-c:v", "libx246", "out.mp4"], 3, 'use "libx264"'),
    ],
)
def test_common_slips_are_told_what_to_do(words: list[str], at: int, hint: str) -> None:
    with pytest.raises(TaskError, match=hint) as caught:
        parse_command(words, ["in.mp4"])
    assert caught.value.details["token_index"] == at


def test_older_words_for_a_graph_in_a_file_mean_the_same(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("[0:v] hflip,\n vflip [v]\n")
    named = {**inputs, "graph.txt": graph}
    rest = ["-map", "[v]", "out.mp4"]
    expected, *found = (
        compile_command(["-i", "in.mp4", *words, *rest], named, None, tmp_path / "made").argv()
        for words in (
            ["-filter_complex", "[0:v]hflip,vflip[v]"],
            ["-filter_complex_script", "graph.txt"],
            ["-/filter_complex", "graph.txt"],
            ["-/lavfi", "graph.txt"],
        )
    )
    assert all(argv == expected for argv in found)


def test_a_file_that_a_filter_opens_has_its_demuxer(
    compiled: Compile, inputs: dict[str, Path]
) -> None:
    command = compiled("-f", "lavfi", "-i", "movie=in.mp4", "out.mp4")
    (source,) = after(command, "-i")
    assert source.endswith(":format_name=mov:format_opts=protocol_whitelist\\\\=file")
    assert inputs["in.mp4"] in command.files


def test_a_command_is_a_rendering(compiled: Compile) -> None:
    rendering: Rendering = compiled("-i", "in.mp4", "out.mp4")
    assert rendering.argv() == rendering.argv()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-20dB", 0.1),
        ("2*1000*1000", 2e6),
        ("-(1+2)*1k", -3000),
        ("30/2-5", 10),
        ("2^3^2", 64),
        ("-2^2", 4),
        (".5M", 5e5),
        ("1/0", None),
        ("9^9^9^9", None),
        ("(((1)", None),
        ("1 2", None),
        ("(" * 40 + "1" + ")" * 40, None),
        ("nan", None),
        ("", None),
    ],
)
def test_arithmetic_has_the_value_that_ffmpeg_gives_it(text: str, value: float | None) -> None:
    found = value_of(text)
    assert found == (None if value is None else pytest.approx(value))
