"""Completion scripts for shells, made from the table of commands: commands, their options, the
options' words, files."""

from __future__ import annotations

from gpu_worker_client.cli.table import COMMANDS, GLOBAL, Command, Option

PROGRAM = "gpu-client"


def bash() -> str:
    """For `source <(gpu-client completion bash)`. Needs no bash-completion package."""
    return f"""# {PROGRAM} completion for bash
_gpu_client() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in
            {"|".join(_names())}) command="$word"; break ;;
        esac
    done
    COMPREPLY=()
    case "$command $previous" in
{_bash_values()}
    esac
    case "$command" in
{_bash_words()}
    esac
}}
complete -F _gpu_client {PROGRAM}
"""


def zsh() -> str:
    """For `source <(gpu-client completion zsh)`: zsh runs bash's by its own bashcompinit."""
    begin = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit"
    return f"# {PROGRAM} completion for zsh\n{begin}\n{bash()}"


def fish() -> str:
    """For `gpu-client completion fish | source`."""
    lines = [f"# {PROGRAM} completion for fish", f"complete -c {PROGRAM} -f"]
    for option in GLOBAL:
        lines.append(f"complete -c {PROGRAM} -l {option.name[2:]} -x -d {_quoted(option.what)}")
    lines.append(f"complete -c {PROGRAM} -l json -d 'print JSON on a terminal too'")
    for command in COMMANDS:
        first = f"complete -c {PROGRAM} -n __fish_use_subcommand"
        lines += [
            f"{first} -a {name} -d {_quoted(command.what)}"
            for name in (command.name, *command.aliases)
        ]
        chosen = f"'__fish_seen_subcommand_from {' '.join((command.name, *command.aliases))}'"
        lines += [
            f"complete -c {PROGRAM} -n {chosen} {_fish_option(option)}"
            for option in command.options
            if _completes(option)
        ]
    return "\n".join(lines) + "\n"


def _names() -> list[str]:
    return [name for command in COMMANDS for name in (command.name, *command.aliases)]


def _bash_values() -> str:
    """What follows an option that takes a value."""
    rows = [f'        *" {option.name}") return ;;' for option in GLOBAL]
    for command in COMMANDS:
        for option in command.options:
            if option.name.startswith("-"):
                pattern = "|".join(
                    f'"{name} {option.name}"' for name in (command.name, *command.aliases)
                )
                rows.append(f"        {pattern}) {_bash_reply(option)}return ;;")
    return "\n".join(rows)


def _bash_reply(option: Option) -> str:
    if option.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$current")); '
    return 'COMPREPLY=($(compgen -f -- "$current")); ' if option.is_file else ""


def _bash_words() -> str:
    """What stands where an option or an argument is expected."""
    rows = [
        '        "") COMPREPLY=($(compgen -W'
        f' "{" ".join([*_names(), *(o.name for o in GLOBAL), "--json"])}" -- "$current")) ;;'
    ]
    for command in COMMANDS:
        words = [
            *(option.name for option in command.options if option.name.startswith("-")),
            "--json",
            *_argument_words(command),
        ]
        files = ' $(compgen -f -- "$current")' if _takes_file(command) else ""
        pattern = "|".join((command.name, *command.aliases))
        rows.append(
            f'        {pattern}) COMPREPLY=($(compgen -W "{" ".join(words)}" --'
            f' "$current"){files}) ;;'
        )
    return "\n".join(rows)


def _arguments(command: Command) -> list[Option]:
    return [option for option in command.options if not option.name.startswith("-")]


def _argument_words(command: Command) -> list[str]:
    return [word for option in _arguments(command) for word in option.choices or ()]


def _takes_file(command: Command) -> bool:
    return any(option.is_file for option in _arguments(command))


def _completes(option: Option) -> bool:
    return option.name.startswith("-") or option.is_file or option.choices is not None


def _fish_option(option: Option) -> str:
    values = f" -a {_quoted(' '.join(option.choices))}" if option.choices else ""
    if not option.name.startswith("-"):
        return "-F" if option.is_file else f"-f{values}"
    return (
        f"-l {option.name[2:]} {'-r -F' if option.is_file else '-x'}{values} -d"
        f" {_quoted(option.what)}"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
