"""Weights on disk: a name from the manifest becomes a path whose size and SHA-256 were checked
before anything opened it.

Accepts names only, never paths. Searches WEIGHTS_DIR, then among the few files that come with this
package, and downloads nothing: processors have no network, the worker's `gpu-worker weights pull`
does that. A file is hashed once per process as long as its inode, size and time stay the same.
Imports nothing heavy, so the worker's parent process may use it too.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.task import nearest
from gpu_worker_processors.base import ProcessorSettings
from gpu_worker_processors.models.manifest import (
    LOCAL_MANIFEST,
    PACKAGED_MANIFEST,
    WeightSpec,
    read_manifests,
)

FACE_RESTORER = "GFPGANv1.4"
FACE_DETECTOR = "face_detection_yunet_2023mar"
DNI_PARTNERS: Mapping[str, str] = {"realesr-general-x4v3": "realesr-general-wdn-x4v3"}
"""Networks trained as a pair, the second with weak denoising: their weights may be interpolated
(DNI, arXiv 1811.10515)."""
X2_PARTNERS: Mapping[str, str] = {"lite": "lite_x2"}
"""Networks that come in two sizes: the one that enlarges by 4, and the one that enlarges by 2."""

SHIPPED: Mapping[str, str] = {"lite": "lite_x4.safetensors", "lite_x2": "lite_x2.safetensors"}
"""Weights that come with this package, and their files; in the repository it has links to
weights/."""

_WITHOUT_DOWNLOAD = {
    "sr": '; or set params.model to "lite", which comes with the worker',
    "yolo": '; or set params.model to "hog", which finds people and needs no weights',
}
"""By a weight's kind: what works without it."""
_EXTERNAL_TENSOR = b"\x0a\x08location"
"""An ONNX `StringStringEntryProto` with the key "location": a tensor stored in another file
(CVE-2022-25882, CVE-2024-27318)."""
_HASH_BLOCK_BYTES = 1 << 20

_verified: dict[tuple[Path, int, int, int], str] = {}


@dataclass(frozen=True)
class WeightFile:
    """A verified file and what the manifest says of it."""

    path: Path
    spec: WeightSpec


def network_for(model: str, scale: float) -> str:
    """Manifest name of the network that enlarges by `scale` or the next larger factor it has."""
    return X2_PARTNERS.get(model, model) if scale <= 2 else model


def shipped(file: str) -> Path:
    """Where a file of `SHIPPED` lies."""
    return Path(__file__).with_name(file).resolve()


def upscale_weights(
    model: str, denoise_strength: float | None, face_enhance: bool
) -> tuple[str, ...]:
    """Manifest names that an upscale by this network with these parameters loads."""
    names = [model]
    if model in DNI_PARTNERS and denoise_strength is not None and denoise_strength < 1:
        names.append(DNI_PARTNERS[model])
    if face_enhance:
        names += [FACE_RESTORER, FACE_DETECTOR]
    return tuple(names)


class WeightStore:
    """The weights of one WEIGHTS_DIR, and those that come with this package.

    Args:
        weights_dir: the folder; None when none is configured, then only the shipped ones are there.
            A file in it is preferred.
        manifest: another manifest than the one that comes with this package.
    """

    def __init__(self, weights_dir: Path | None, manifest: Path | None = None) -> None:
        self.weights_dir = weights_dir
        paths = [manifest or PACKAGED_MANIFEST]
        if weights_dir is not None and (weights_dir / LOCAL_MANIFEST).is_file():
            paths.append(weights_dir / LOCAL_MANIFEST)
        self._specs = read_manifests(paths)

    @classmethod
    def of(cls, settings: ProcessorSettings) -> WeightStore:
        """The weights that an operator chose."""
        return cls(settings.weights_dir, settings.manifest)

    def list(self) -> tuple[WeightSpec, ...]:
        """Every entry of the manifest, in its order."""
        return tuple(self._specs.values())

    def spec(self, name: str) -> WeightSpec:
        """The manifest's entry.

        Raises:
            TaskError: `weights_missing` when no manifest knows the name.
        """
        if name not in self._specs:
            raise TaskError(
                ErrorCode.weights_missing,
                f"no weights of that name; the manifest has: {', '.join(self._specs)}."
                f"{nearest(name, list(self._specs))}",
                names=sorted(self._specs),
            )
        return self._specs[name]

    def __contains__(self, name: str) -> bool:
        """Whether a manifest knows the name."""
        return name in self._specs

    def path(self, name: str) -> Path | None:
        """Where the file is, None when it is not there; says nothing about its content."""
        file = self.spec(name).file
        if self.weights_dir is not None and (self.weights_dir / file).is_file():
            return self.weights_dir / file
        return shipped(file) if SHIPPED.get(name) == file else None

    def present(self, name: str) -> bool:
        """Whether the file is there; says nothing about its content."""
        return self.path(name) is not None

    def resolve(self, name: str) -> WeightFile:
        """The verified file.

        Raises:
            TaskError: `weights_missing` or `weights_rejected`; the message says what to do.
        """
        spec, folder = self.spec(name), self.weights_dir
        path = self.path(name)
        if path is None:
            if folder is None or not folder.is_dir():
                problem = "is not set" if folder is None else f"is {folder}, which is no folder"
                raise TaskError(
                    ErrorCode.weights_missing,
                    f"WEIGHTS_DIR {problem}; set it to a folder; {how_to_get(spec)}",
                    name=name,
                )
            path = folder / spec.file
        verify(path, spec)
        return WeightFile(path, spec)


def verify(path: Path, spec: WeightSpec, *, downloaded: bool = False) -> None:
    """Proves that the file is the one the manifest pins, reading it as plain bytes only.

    Args:
        downloaded: the file has just come from its address, so another download is no advice.

    Raises:
        TaskError: `weights_missing`, or `weights_rejected` with `reason` = not_a_file | no_digest |
            size_mismatch | digest_mismatch | external_data.
    """
    try:
        status = path.lstat()
    except OSError:
        raise TaskError(
            ErrorCode.weights_missing,
            f"{spec.file} is not in WEIGHTS_DIR; {how_to_get(spec)}",
            name=spec.name,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise _rejected(
            spec, "not_a_file", "is a link or no regular file; put the file itself into WEIGHTS_DIR"
        )
    if not spec.sha256:
        raise _rejected(spec, "no_digest", f"has no pinned SHA-256; add one to {LOCAL_MANIFEST}")
    again = "" if downloaded else f"; {_again(spec)}"
    if spec.bytes and status.st_size != spec.bytes:
        raise _rejected(
            spec,
            "size_mismatch",
            f"has {status.st_size} bytes and the manifest says {spec.bytes}{again}",
        )
    key = (path, status.st_ino, status.st_mtime_ns, status.st_size)
    if key not in _verified:
        _verified[key] = _digest(path, spec)
    if _verified[key] != spec.sha256:
        raise _rejected(
            spec, "digest_mismatch", f"has another SHA-256 than the manifest pins{again}"
        )


def _digest(path: Path, spec: WeightSpec) -> str:
    """SHA-256 of the file; refuses an ONNX file that would make its reader open more files."""
    digest, tail = hashlib.sha256(), b""
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
            if spec.suffix == ".onnx":
                if _EXTERNAL_TENSOR in tail + block:
                    raise _rejected(
                        spec,
                        "external_data",
                        "keeps tensors in other files; only self-contained ONNX is opened",
                    )
                tail = block[-len(_EXTERNAL_TENSOR) :]
    return digest.hexdigest()


def how_to_get(spec: WeightSpec) -> str:
    """By a command that this machine has. What it brings is verified before it is opened, whoever
    brought it."""
    if not spec.url:
        by_hand = f"put {spec.file} there yourself: the manifest has no address for it"
        if not spec.sha256:
            by_hand += f", and wants its SHA-256 in {LOCAL_MANIFEST} there"
        return by_hand + (f"; it is {spec.source}" if spec.source else "")
    if find_spec("gpu_worker") is None:
        command = f"`curl -fL -o {spec.file} {spec.url}` in that folder gets it"
    else:
        command = f"`gpu-worker weights pull {spec.name}` gets it"
    return command + _WITHOUT_DOWNLOAD.get(spec.kind, "")


def _again(spec: WeightSpec) -> str:
    return "delete it" + (f", then {how_to_get(spec)}" if spec.url else "")


def _rejected(spec: WeightSpec, reason: str, what: str) -> TaskError:
    return TaskError(
        ErrorCode.weights_rejected, f"{spec.file} {what}", name=spec.name, reason=reason
    )
