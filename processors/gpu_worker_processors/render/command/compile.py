"""A command checked and bound to its real files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpu_worker_processors.base import Limits
from gpu_worker_processors.render.command import formats
from gpu_worker_processors.render.command.command import Command
from gpu_worker_processors.render.command.errors import at_token
from gpu_worker_processors.render.command.graph import Graph
from gpu_worker_processors.render.command.parse import parse_command
from gpu_worker_processors.render.command.script import Input, Script
from gpu_worker_processors.render.command.sequence import FileList, read_list
from gpu_worker_processors.render.command.sources import (
    check_metadata,
    check_purpose,
    check_stated,
    demuxer_of,
    read_text,
)
from gpu_worker_processors.render.command.values import InputFile

_DEFAULT = Limits()


def compile_command(
    command_args: Sequence[str],
    inputs: Mapping[str, Path],
    output_filename: str | None,
    output: Path,
    limits: Limits = _DEFAULT,
) -> Command:
    """Checks a command and binds its names to files.

    Args:
        command_args: what follows `ffmpeg` on a command line.
        inputs: the task's inputs. A colour table's path must keep the suffix of its name, by which
            FFmpeg derives its kind.
        output_filename: the command's name for the output; None: its last word.
        output: where the file goes.
        limits: what opening an input may take.

    Raises:
        TaskError: `ffmpeg_arg_denied` naming the word; `not_media` or `unsupported_media` for an
            input that is none.
    """
    script = parse_command(
        command_args, inputs.keys(), output_filename, lambda name: read_text(inputs[name])
    )
    demuxers: dict[str, str] = {}
    lists: dict[str, FileList] = {}
    for item in script.inputs:
        if isinstance(item.source, InputFile):
            name, stated = item.source.name, item.stated.plain if item.stated else ""
            if stated == "concat":
                with at_token(item.token + 1):
                    lists[name] = read_list(inputs[name], inputs)
            elif stated in formats.RAW:
                demuxers[name] = stated
            else:
                demuxers[name] = _demuxer(item, inputs[name])
    _check_side_files(script, inputs, limits)
    for file in script.files:
        if file.purpose == "movie":
            demuxers[file.name] = demuxer_of(inputs[file.name])
    return Command(script, inputs, demuxers, output, lists)


def _demuxer(item: Input, path: Path) -> str:
    demuxer = demuxer_of(path)
    if demuxer == "ffmetadata":
        check_metadata(path)
    if item.stated is not None:
        with at_token(item.stated.token + 1):
            check_stated(item.stated.plain, demuxer)
    return demuxer


def _check_side_files(script: Script, inputs: Mapping[str, Path], limits: Limits) -> None:
    given_graphs = [(given.token + 1, given.value) for given in script.given]
    input_graphs = [(item.token + 1, item.source) for item in script.inputs]
    for token, graph in (*given_graphs, *input_graphs):
        if isinstance(graph, Graph):
            with at_token(token):
                for file in graph.files:
                    check_purpose(inputs[file.name], file.purpose, limits)
