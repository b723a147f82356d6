"""The command language: a caller's FFmpeg command, parsed, held against tables of what is allowed,
and written anew."""

from gpu_worker_processors.render.command.command import Command
from gpu_worker_processors.render.command.compile import compile_command
from gpu_worker_processors.render.command.delivered_name import suffix_warnings
from gpu_worker_processors.render.command.parse import parse_command
from gpu_worker_processors.render.command.script import Script

__all__ = ["Command", "Script", "compile_command", "parse_command", "suffix_warnings"]
