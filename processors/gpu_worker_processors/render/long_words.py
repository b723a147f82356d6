"""Words of a command that are longer than Linux takes in one: a graph or a list of files goes into
a file of the job's folder, from which FFmpeg reads it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError

_MAX_BYTES = 128 * 1024 - 1
"""MAX_ARG_STRLEN of execve(2), less the NUL at its end."""
_DATA = "data:text/plain;base64,"
_GRAPHS = ("-filter_complex", "-filter", "-vf", "-af")


def short_words(words: Sequence[str], folder: Path) -> tuple[list[str], list[Path]]:
    """The same command of short words, and the files that it reads for them.

    Raises:
        TaskError: `invalid_task`: a long word can only be given as it is.
    """
    short, files = list(words), list[Path]()
    for index, word in enumerate(words):
        if len(word.encode()) <= _MAX_BYTES:
            continue
        path = folder / f"word-{index}.txt"
        option = words[index - 1]
        if word.startswith(_DATA):
            path.write_bytes(base64.b64decode(word.removeprefix(_DATA)))
            short[index] = f"file:{path}"
        elif option.partition(":")[0] in _GRAPHS:
            path.write_text(word, "utf-8")
            short[index - 1 : index + 1] = [f"-/{option[1:]}", str(path)]
        else:
            raise TaskError(
                ErrorCode.invalid_task,
                f"a word of the command is longer than {_MAX_BYTES} bytes with the paths of its"
                " inputs; name fewer of them in one word, or give a list with -f concat",
            )
        files.append(path)
    return short, files
