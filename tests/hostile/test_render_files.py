"""Files that a command of render reads beside its streams, made to fill time or memory: each is
refused before FFmpeg gets it, or ends the process at the limit of every opening."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support import bloated
from support.bloated import bloat, status_of
from support.command_kit import refused
from support.render_kit import plain, rendered

from gpu_worker_client.protocol import ErrorCode, RenderParams, TaskError
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.media.open_limits import TOOK_TOO_LONG, TOOK_TOO_MUCH_MEMORY
from gpu_worker_processors.render.archive import pack
from gpu_worker_processors.render.command import compile_command
from gpu_worker_processors.render.command.motion_file import check_motion
from gpu_worker_processors.render.failures import failure
from gpu_worker_processors.render.long_words import short_words
from gpu_worker_processors.render.processor import PROCESSOR
from gpu_worker_processors.render.progress import Report

MOVIE = """
import sys
from pathlib import Path
from gpu_worker_processors.render.command import compile_command
path = Path(sys.argv[1])
words = ["-f", "lavfi", "-i", f"amovie={path.name}", "out.wav"]
compile_command(words, {path.name: path}, None, path.with_name("out.wav"))
"""
CHECK = """
import sys
from pathlib import Path
from gpu_worker_processors.base import Limits
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.check import check_output
from gpu_worker_processors.render.progress import Report
check_output(Path(sys.argv[1]), Expectation(), Report(), limits=Limits(max_open_seconds=0.5))
"""


def test_what_a_filter_opens_ends_at_the_limit_of_memory(tmp_path: Path) -> None:
    path = bloated.clip(tmp_path, "flv")
    path.write_bytes(bloated.flv_index(path.read_bytes(), 2**28 - 1))
    assert status_of(MOVIE, path) == TOOK_TOO_MUCH_MEMORY


def test_checking_an_output_ends_at_the_limit_of_time(tmp_path: Path) -> None:
    assert status_of(CHECK, bloat(tmp_path, "FLAC comments", 60_000)) == TOOK_TOO_LONG


def test_an_input_with_more_than_five_thousand_tags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="5000") as caught:
        rendered(tmp_path, "out.wav", a=bloat(tmp_path, "FLAC comments", 5_100))
    assert caught.value.code is ErrorCode.media_limit


@pytest.mark.parametrize(
    ("line", "most"),
    [
        pytest.param("k{}=v\n", 5_000, id="tags"),
        pytest.param("k{}=v\0", 5_000, id="tags with NUL between them"),
        pytest.param(
            "[CHAPTER]\nTIMEBASE=1/1\nSTART={0}\nEND={0}\ntitle=A\n", 2_500, id="chapters"
        ),
    ],
)
def test_a_metadata_file_has_the_tags_of_any_other_input(
    line: str, most: int, tmp_path: Path
) -> None:
    path, words = tmp_path / "m.txt", ["-f", "lavfi", "-i", "sine=d=1", "-i", "m.txt", "out.wav"]
    for count in (most, most + 1):
        path.write_text(";FFMETADATA1\n" + "".join(line.format(n) for n in range(count)))
        if count == most:
            compile_command(words, {path.name: path}, None, tmp_path / "out.wav")
            continue
        with pytest.raises(TaskError, match="5000") as caught:
            compile_command(words, {path.name: path}, None, tmp_path / "out.wav")
        assert caught.value.code is ErrorCode.media_limit


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            b"VID.STAB 1\nFrame 1 (List 2000000000 [(LM 0 0 8 8 16 0.1 0.1)])\n", id="List"
        ),
        pytest.param(b"VID.STAB 1\nFrame 2000000000 (List 0 [])\n", id="Frame"),
        pytest.param(b"VID.STAB 1\nFrame 1 (List 1 [(LM 0 0 8", id="cut off"),
        pytest.param(b"TRF1" + bytes(20) + struct.pack("<2i", 1, 2**31 - 1), id="vectors"),
        pytest.param(b"TRF1" + bytes(20) + struct.pack("<2i", 2**31 - 1, 0), id="frame number"),
        pytest.param(b"TRF1" + bytes(20) + struct.pack("<i", 1), id="half a frame"),
    ],
)
def test_a_motion_file_holds_what_it_says(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.trf"
    path.write_bytes(content)
    words = ["-f", "lavfi", "-i", "color=d=1,vidstabtransform=input=m.trf", "out.mp4"]
    with pytest.raises(TaskError, match="vidstabdetect") as caught:
        compile_command(words, {path.name: path}, None, tmp_path / "out.mp4")
    assert caught.value.code is ErrorCode.ffmpeg_arg_denied


@pytest.mark.parametrize("form", ["ascii", "binary"])
def test_what_vidstabdetect_writes_is_taken(form: str, tmp_path: Path) -> None:
    source = "testsrc2=s=160x90:d=0.4,crop=128:64:4*n:2"
    plain("-f", "lavfi", "-i", f"{source},vidstabdetect=result=m.trf:fileformat={form}",
          "-f", "null", "-", cwd=tmp_path)  # fmt: skip
    check_motion(tmp_path / "m.trf")


def test_a_number_in_a_name_is_padded_to_nine_digits() -> None:
    words = ["-f", "hls", "-hls_segment_filename", "s%0300d.ts", "o.m3u8"]
    refused(["-i", "in.mp4", *words], at=5, reason="9 digits")


def test_a_list_of_segments_is_in_no_folder_that_nobody_makes() -> None:
    words = ["-f", "segment", "-segment_list", "no/such.m3u8", "o%d.ts"]
    refused(["-i", "in.mp4", *words], at=5, reason="no folder")


def test_a_stream_that_no_variant_has_is_the_command_s_mistake() -> None:
    log = "Unable to find mapping variant stream\nCannot allocate memory"
    assert failure(244, log).code is ErrorCode.invalid_task


def test_a_playlist_that_names_what_no_system_takes_is_not_delivered(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "o.m3u8").write_text("#EXTM3U\n" + "s" * 300 + ".ts\n")
    with pytest.raises(TaskError, match="not made") as caught:
        pack(folder, tmp_path / "o.zip", Report())
    assert caught.value.code is ErrorCode.output_invalid


LONG = {
    "list": ("file a\n" * 6_000, "-f concat -i l.txt -c copy -t 0.3 out.wav"),
    "one word": ("", f"-i concat:{'|'.join(['a'] * 4_000)} out.wav"),
}


@pytest.mark.parametrize("kind", ["list", "one word"])
def test_no_word_is_longer_than_the_system_takes(kind: str, tmp_path: Path) -> None:
    content, words = LONG[kind]
    a, text, output = tmp_path / "a.wav", tmp_path / "l.txt", tmp_path / "out.wav"
    plain("-f", "lavfi", "-i", "sine=d=0.1", str(a))
    text.write_text(content)
    params, inputs = RenderParams(command_args=words.split()), {"a": a, "l.txt": text}
    job = LocalJob(id="t", params=params, work_dir=tmp_path, inputs=inputs, output_path=output)
    if kind == "list":
        assert PROCESSOR.run(job).stats.duration == pytest.approx(0.3, abs=0.05)
        return
    with pytest.raises(TaskError, match="longer than") as caught:
        PROCESSOR.run(job)
    assert caught.value.code is ErrorCode.invalid_task


def test_a_long_graph_is_read_from_a_file(tmp_path: Path) -> None:
    graph = ",".join(["volume=1." + "0" * 1400] * 100)
    words, files = short_words(["-f", "lavfi", "-i", "sine=d=0.1", "-af", graph, "a.wav"], tmp_path)
    assert max(map(len, words)) < 4096 and [path.read_text() for path in files] == [graph]
    plain(*words, cwd=tmp_path)
