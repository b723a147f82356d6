"""What an engine may read: interpreter, installed packages, system libraries, the GPU's device
nodes, weights. Nothing else."""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from gpu_worker_processors.models.manifest import PACKAGED_MANIFEST
from gpu_worker_processors.models.weights import SHIPPED, shipped
from gpu_worker_processors.sandbox.landlock import DEVICE, READ, WORK, Access, Rule

PACKAGES = ("gpu_worker_client", "gpu_worker_processors", "gpu_worker")

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime")
_KERNEL_FACTS = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/kernel",
    "/proc/sys/vm",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)
_OWN_FACTS = (
    *("auxv", "cgroup", "cmdline", "comm", "limits", "maps", "mountinfo", "mounts"),
    *("stat", "statm", "status", "fd", "fdinfo"),
)
"""Of /proc/self, for the C library, the interpreter and numeric libraries. `net` is not among them:
it lists the sockets of the whole container, and `task` has one for every thread."""
_GPU_FILES = (
    "/usr/local/nvidia",
    "/usr/local/cuda",
    "/usr/share/nvidia",
    "/etc/nvidia",
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/modules",
    "/sys/bus/pci",
    "/sys/devices",
    "/sys/module",
    "/sys/class/drm",
    "/usr/lib/wsl",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_GPU_DEVICES = ("nvidia*", "dxg")


def read_roots(weights_dir: Path | None) -> list[Path]:
    """Folders and files that hold what the engine imports or loads, existing or not."""
    roots = [Path(path) for path in _LIBRARIES]
    roots += [
        Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    ]
    roots += [
        Path(prefix) / "lib"
        for prefix in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    ]
    roots += [Path(folder) for folder in (*site.getsitepackages(), *_user_site())]
    roots += [folder for package in PACKAGES for folder in _package_folders(package)]
    roots += [
        Path(part)
        for part in os.environ.get("LD_LIBRARY_PATH", "").split(":")
        if len(Path(part).parts) > 1
    ]
    # In the repository the package has links to these.
    roots += [PACKAGED_MANIFEST, *map(shipped, SHIPPED.values())]
    if weights_dir is not None:
        roots.append(weights_dir)
    return list(dict.fromkeys(roots))


def _user_site() -> list[str]:
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def files_in(weights_dir: Path | None) -> list[Path]:
    """The files that lie directly in the folder of weights."""
    if weights_dir is None or not weights_dir.is_dir():
        return []
    return [entry for entry in weights_dir.iterdir() if entry.is_file()]


def _package_folders(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    yield from (Path(folder) for folder in (spec.submodule_search_locations or () if spec else ()))


def has_gpu() -> bool:
    """Whether the driver put its device nodes here."""
    return any(True for pattern in _GPU_DEVICES for _ in Path("/dev").glob(pattern))


def rules(
    work_root: Path,
    weights_dir: Path | None,
    executables: tuple[Path, ...],
    readable: tuple[Path, ...] = (),
    *,
    gpu: bool,
) -> list[Rule]:
    """The engine's whole allow list."""
    listed = [
        Rule(path, READ)
        for path in (*read_roots(weights_dir), *map(Path, (*_LOADER, *_KERNEL_FACTS)))
    ]
    # An import looks a package up by listing the folder around it; names only, the files beside it
    # stay closed.
    listed += [
        Rule(folder.parent, Access.READ_DIR)
        for package in PACKAGES
        for folder in _package_folders(package)
    ]
    listed.append(Rule(Path(sys.prefix) / "pyvenv.cfg", READ))
    listed += [Rule(Path(device), DEVICE) for device in _DEVICES]
    listed += own_process(gpu=gpu)
    if gpu:
        listed += [Rule(Path(path), READ) for path in _GPU_FILES]
        listed += [
            Rule(node, DEVICE | READ)
            for pattern in _GPU_DEVICES
            for node in Path("/dev").glob(pattern)
        ]
    if executables:
        listed += [
            Rule(program, READ | Access.EXECUTE) for program in (*executables, *_program_loaders())
        ]
    listed += [Rule(path, READ) for path in readable]
    listed.append(Rule(work_root, WORK))
    return listed


def own_process(*, gpu: bool) -> list[Rule]:
    """What an engine may read of /proc/self. The CUDA driver names its threads by writing
    /proc/self/task/*/comm, and Landlock opens all beneath a folder or nothing."""
    own = Path("/proc/self")
    if gpu:
        return [Rule(own, READ | Access.WRITE_FILE)]
    facts = [Rule(own / name, READ) for name in _OWN_FACTS]
    return [*facts, Rule(own / "task", Access.READ_DIR)]


def _program_loaders() -> Iterator[Path]:
    """The dynamic loader: the kernel executes it before any dynamically linked program."""
    for folder in ("/lib64", "/lib"):
        yield from Path(folder).glob("ld-*.so*")
