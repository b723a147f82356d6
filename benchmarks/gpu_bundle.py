"""What `gpu.py` needs on a machine that has PyTorch and a GPU but reaches no package index: one
folder to take along.

    python benchmarks/gpu_bundle.py DIR                for Python 3.12 on x86-64 Linux
    python benchmarks/gpu.py --bundle DIR              there

Made of the versions installed here: pure Python packages in `pure.zip`, compiled ones as wheels for
that Python. Weights and clips for the tests come along where WEIGHTS_DIR and TEST_MEDIA are set.
What every PyTorch image has (NumPy, OpenCV, requests, pytest, SciPy, scikit-image) is left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distribution, version
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

COMPILED = ("av", "lap", "pydantic-core")
PURE = (
    "annotated-types",
    "pydantic",
    "typing-inspection",
    "scenedetect-headless",
    "spandrel",
    "ultralytics",
    "basicsr",
    "facexlib",
    "gfpgan",
    "realesrgan",  # the peer; `make reference` installs them here
)
WEIGHTS = ("manifest.local.toml", "yolov8n.pt", "realesr-animevideov3.safetensors")
MEDIA = ("tracking/basketball_720p24.mp4", "tracking/pets_vtest/vtest_480x360.avi")
GLIBCS = (17, 24, 27, 28, 31, 34)
"""Minor versions of the manylinux tags that wheels carry; pip takes only those that are listed."""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--python", default="3.12", metavar="X.Y", help="version of the other machine's Python"
    )
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    download(COMPILED, args.folder, args.python)
    with ZipFile(args.folder / "pure.zip", "w", ZIP_DEFLATED) as archive:
        for name in PURE:
            add_package(name, archive)
    copy_files("WEIGHTS_DIR", WEIGHTS, args.folder / "weights")
    copy_files("TEST_MEDIA", MEDIA, args.folder / "media")
    size = sum(path.stat().st_size for path in args.folder.rglob("*") if path.is_file())
    print(f"{args.folder}: {size / 2**20:.1f} MiB")
    return 0


def download(names: Sequence[str], folder: Path, python: str) -> None:
    """Wheels of the versions installed here, for another Python."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBCS] + [
        "--platform=manylinux2014_x86_64"
    ]
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
    ]
    pins = [f"{name}=={version(name)}" for name in names]
    subprocess.run(
        [*argv, f"--python-version={python}", *platforms, "-d", str(folder), *pins], check=True
    )


def add_package(name: str, archive: ZipFile) -> None:
    """The files of an installed package, its metadata among them, without compiled bytecode or
    commands."""
    for file in distribution(name).files or []:
        source = Path(str(file.locate()))
        if file.parts[0] != ".." and file.suffix != ".pyc" and source.is_file():
            archive.write(source, str(file))


def copy_files(variable: str, names: Sequence[str], folder: Path) -> None:
    """Files of the folder that a variable names; none where it is not set."""
    if not os.environ.get(variable):
        return
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(os.environ[variable], name), target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
