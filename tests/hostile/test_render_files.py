"""Files that a command of render reads beside its streams, made to fill time or memory: each is
refused before FFmpeg gets it, or ends the process at the limit of every opening."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import bloated
from support.render_kit import rendered

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.open_limits import TOOK_TOO_LONG, TOOK_TOO_MUCH_MEMORY
from gpu_worker_processors.render.command import compile_command

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


def bloat(folder: Path, kind: str, count: int) -> Path:
    suffix, change = bloated.BLOATS[kind]
    path = bloated.clip(folder, suffix)
    path.write_bytes(change(path.read_bytes(), count))
    return path


def status_of(code: str, path: Path) -> int:
    command = [sys.executable, "-c", code, path]
    return subprocess.run(command, capture_output=True, check=False).returncode


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
