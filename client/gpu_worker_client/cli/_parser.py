"""The command line, read by the table of commands."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from gpu_worker_client.cli.output import UsageError
from gpu_worker_client.cli.table import COMMANDS, GLOBAL, Command, Option


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise UsageError(message)


def parser(description: str) -> argparse.ArgumentParser:
    """Its `parse_args` raises UsageError for a wrong call."""
    made = _Parser(
        prog="gpu-client",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_json(made, default=False)
    for option in GLOBAL:
        _add(made, option)
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        _add_command(
            commands.add_parser(command.name, aliases=command.aliases, help=command.what), command
        )
    return made


def _add_command(sub: argparse.ArgumentParser, command: Command) -> None:
    sub.description = command.what
    sub.set_defaults(command=command.function, needs_client=command.needs_client)
    _add_json(
        sub, default=argparse.SUPPRESS
    )  # before or after the command; the first one's value stays
    for option in command.options:
        _add(sub, option)


def _add_json(made: argparse.ArgumentParser, default: Any) -> None:
    made.add_argument(
        "--json", action="store_true", default=default, help="print JSON on a terminal too"
    )


def _add(made: argparse.ArgumentParser, option: Option) -> None:
    settings: dict[str, Any] = {"type": option.kind, "help": option.what, "choices": option.choices}
    if option.name.startswith("-"):
        settings |= {
            "metavar": option.metavar,
            "default": option.default,
            "required": option.required,
        }
        made.add_argument(option.name, **settings)
    else:
        made.add_argument(option.name.lower(), metavar=option.name, **settings)
