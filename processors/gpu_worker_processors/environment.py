"""Typed access to an environment mapping: an unset or empty variable is the default, a value that
does not parse an error that names the variable and what it accepts, never the value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpu_worker_client.protocol.foreign import parse_integer


class ConfigError(ValueError):
    """A variable's value is not usable. The message names the variable and what it accepts, never
    the value."""


class Reader:
    """Reads single variables."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def path(self, name: str, default: Path | None) -> Path | None:
        value = self._env.get(name, "")
        return Path(value).expanduser().resolve() if value else default

    def text(self, name: str, default: str) -> str:
        return self._env.get(name, "") or default

    def flag(self, name: str, default: bool) -> bool:
        value = self._env.get(name, "").lower()
        if value not in ("", "0", "1", "true", "false"):
            raise ConfigError(f"{name} must be 0 or 1")
        return default if not value else value in ("1", "true")

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(
            part.strip().lower() for part in self._env.get(name, "").split(",") if part.strip()
        )

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in allowed:
            raise ConfigError(f"{name} must be one of: {', '.join(allowed)}")
        return value

    def whole(self, name: str, default: int) -> int:
        value = self._env.get(name, "")
        number = parse_integer(value)
        if value and number is None:
            raise ConfigError(f"{name} must be a whole number")
        return default if number is None else number

    def number(self, name: str, default: float) -> float:
        value = self._env.get(name, "")
        try:
            number = float(value) if value else default
        except ValueError:
            raise ConfigError(f"{name} must be a number of seconds") from None
        if not 0 <= number < 10**9:
            raise ConfigError(f"{name} must lie between 0 and 10^9")
        return number
