"""Commands for render: the one for the card, and those of the builders people know."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker_client import create_nvenc_command
from gpu_worker_client.commands import NVENC_CODECS, command_args, plainly_named
from gpu_worker_processors.render.command import compile_command


def test_the_card_is_asked_for_by_names_alone() -> None:
    words = create_nvenc_command(
        "/home/me/in.mp4", "renders/out.mp4", bitrate="8M", codec="hevc_nvenc"
    )
    assert words[:4] == ["-i", "in.mp4", "-c:v", "hevc_nvenc"]
    assert words[words.index("-b:v") + 1] == "8M"
    assert words[-1] == "out.mp4"


@pytest.mark.parametrize("codec", NVENC_CODECS)
@pytest.mark.parametrize("output", ["out.mp4", "out.mkv"])
def test_the_worker_takes_every_such_command(tmp_path: Path, codec: str, output: str) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(b"\0\0\0\x18ftypisom" + bytes(32))
    words = create_nvenc_command("in.mp4", output, codec=codec)
    compiled = compile_command(words, {"in.mp4": source}, None, tmp_path / output)
    assert (compiled.video_encoder, compiled.audio_encoder) == (codec, "aac")


def test_another_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="h264_nvenc, hevc_nvenc, av1_nvenc"):
        create_nvenc_command("in.mp4", "out.mp4", codec="libx264")


def test_files_get_names_that_the_task_takes() -> None:
    words = [
        "-i",
        "a:b.mp4",
        "-i",
        "c.mp4",
        "-vf",
        "drawtext=text=a:b.mp4",
        "-metadata",
        "title=ö?.mp4",
        "ö?.mp4",
    ]
    said, named = plainly_named(words, {"a:b.mp4": 1, "c.mp4": 2}, "ö?.mp4")
    assert said == ["-i", "file-1.mp4", *words[2:-1], "file-2.mp4"]
    assert named == {"file-1.mp4": 1, "c.mp4": 2}
    said, named = plainly_named(["-i", "-x.ü?", "o"], {"-x.ü?": 1}, "o")
    assert (said, named) == (["-i", "file-1", "o"], {"file-1": 1})


def test_a_new_name_is_never_one_that_is_there() -> None:
    said, named = plainly_named(
        ["-i", "ä*.mp4", "-i", "file-1.mp4", "o.mp4"], {"ä*.mp4": 1, "file-1.mp4": 2}, "o.mp4"
    )
    assert [named[said[1]], named[said[3]]] == [1, 2]


def test_what_is_no_list_of_words_is_refused() -> None:
    class Odd:
        def compile(self) -> object:
            return "ffmpeg -i a.mp4 out.mp4"

    for command in ("-i a.mp4 out.mp4", Odd()):
        with pytest.raises(TypeError, match="words"):
            command_args(command)


def test_words_stay_as_they_are() -> None:
    assert command_args(("-i", "a.mp4", "out.mp4")) == ["-i", "a.mp4", "out.mp4"]


def test_a_stream_of_a_builder_is_compiled() -> None:
    """What `ffmpeg-python` and `typed-ffmpeg` have in common: `compile()` gives the program and its
    words."""

    class Stream:
        def compile(self) -> list[str]:
            return [
                "ffmpeg",
                "-i",
                "a.mp4",
                "-filter_complex",
                "[0]hflip[s0]",
                "-map",
                "[s0]",
                "out.mp4",
            ]

    assert command_args(Stream()) == [
        "-i",
        "a.mp4",
        "-filter_complex",
        "[0]hflip[s0]",
        "-map",
        "[s0]",
        "out.mp4",
    ]
