"""The manifest: which weights exist, where they come from, and what must be true of a file before
it is opened.

Reads TOML, imports nothing heavy. An entry that could reach outside WEIGHTS_DIR or has a malformed
digest is refused here, so that every `WeightSpec` in the program names a plain file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import MAX_INTEGER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGED_MANIFEST = Path(__file__).with_name("manifest.toml")
"""In the repository a link to weights/."""
LOCAL_MANIFEST = "manifest.local.toml"
"""An operator's own entries, in WEIGHTS_DIR."""
MAX_MANIFEST_BYTES = 1_000_000

SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".onnx"})
"""What a manifest may name. TensorRT engines and exported programs (`.engine`, `.plan`, `.pt2`) run
code when they are opened, so no digest makes them safe to list."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightSpec:
    """One entry of the manifest."""

    name: str
    """What a task calls it: "RealESRGAN_x4plus"."""
    file: str
    """Its file in WEIGHTS_DIR: a plain name with one of `SUFFIXES`."""
    url: str = ""
    """Where it is downloaded; empty when it can only be put there by hand."""
    sha256: str = ""
    """64 lower-case hex digits of the whole file; empty while nobody has confirmed it."""
    bytes: int = 0
    """Size of the file; 0 is unknown."""
    licence: str = "unstated"
    kind: str = ""
    """"sr", "face-restoration", "face-detection", ..."""
    arch: str = ""
    """"rrdbnet", "srvgg_compact", "swinir", "gfpgan", "yunet", ..."""
    scale: int = 1
    min_vram: int = 0
    """MiB of GPU memory for one 720x480 frame; 0 is unknown."""
    source: str = ""
    """What the file is that has no address, as a sentence goes on after "it is"."""

    @property
    def suffix(self) -> str:
        return Path(self.file).suffix.lower()


_FIELDS = {
    field.name: int if field.name in {"bytes", "scale", "min_vram"} else str
    for field in fields(WeightSpec)
}


def read_manifests(paths: Iterable[Path]) -> dict[str, WeightSpec]:
    """Entries of several files by name; a later entry of the same name overrides single fields of
    an earlier one.

    Raises:
        TaskError: `weights_rejected` when a file is not a manifest; it names file and entry.
    """
    specs: dict[str, WeightSpec] = {}
    for path in paths:
        for number, entry in enumerate(_entries(path), start=1):
            location = f"{path.name}, entry {number}"
            changes = _checked(entry, location)
            name = changes["name"]
            try:
                specs[name] = (
                    _override(specs[name], changes) if name in specs else WeightSpec(**changes)
                )
            except TypeError:
                raise _bad(location, "needs `name` and `file`") from None
    return specs


def _override(spec: WeightSpec, changes: dict[str, Any]) -> WeightSpec:
    """A file of another name or format is not what the old URL serves."""
    moved = "url" not in changes and changes.get("file", spec.file) != spec.file
    return replace(spec, **({"url": ""} | changes if moved else changes))


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise _bad(path.name, f"is larger than {MAX_MANIFEST_BYTES} bytes")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(path.name, f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # of TOML, of UTF-8, or of a number with thousands of digits
        raise _bad(path.name, f"is not TOML: {error}") from None
    except RecursionError:
        raise _bad(path.name, "is nested too deeply") from None
    entries = document.get("weights", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _bad(path.name, "must hold [[weights]] tables")
    return entries


def _checked(entry: Mapping[str, Any], location: str) -> dict[str, Any]:
    for key, value in entry.items():
        expected = _FIELDS.get(key)
        if expected is None:
            raise _bad(location, f"knows no key `{key[:40]}`; there are: {', '.join(_FIELDS)}")
        if type(value) is not expected:
            raise _bad(
                location, f"`{key}` must be {'a whole number' if expected is int else 'text'}"
            )
    if not _PLAIN_NAME.fullmatch(entry.get("name", "")):
        raise _bad(location, "`name` must be letters, digits and . _ + - only")
    if "file" in entry:
        _check_file(entry["file"], location)
    if entry.get("sha256") and not _SHA256.fullmatch(entry["sha256"]):
        raise _bad(location, "`sha256` must be 64 lower-case hex digits or empty")
    for key, kind in _FIELDS.items():
        if kind is int and not 0 <= entry.get(key, 0) <= MAX_INTEGER:
            raise _bad(location, f"`{key}` is negative or too large")
    return dict(entry)


def _check_file(file: str, location: str) -> None:
    if not _PLAIN_NAME.fullmatch(file):
        raise _bad(location, "`file` must be a plain file name, without folders")
    if Path(file).suffix.lower() not in SUFFIXES:
        raise _bad(
            location,
            f"`file` must end in {', '.join(sorted(SUFFIXES))}; compiled engines and exported"
            " programs are refused",
        )


def _bad(location: str, what: str) -> TaskError:
    return TaskError(
        ErrorCode.weights_rejected,
        f"the weights manifest is not usable: {location}: {what}",
        reason="manifest",
    )
