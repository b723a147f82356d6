"""What the render tests share: a command through the processor, FFmpeg in its sandbox, and the same
words through plain FFmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import imageio_ffmpeg

from gpu_worker_client.protocol import RenderParams, RenderResult
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.processor import PROCESSOR

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def plain(*words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Runs FFmpeg outside the sandbox; what it said."""
    command = [FFMPEG, "-v", "error", "-y", *words]
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    return said


def decoded(path: Path) -> str:
    """Time stamp and hash of every decoded frame."""
    words = ["-v", "error", "-i", str(path), "-map", "0", "-f", "framemd5", "-"]
    done = subprocess.run([FFMPEG, *words], stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def font_folders() -> list[Path]:
    """Of the packages that carry the worker's fonts."""
    packages = ("manimgx_fonts", "noto_cjk_sans_otc")
    return [Path(str(files(package))) for package in packages]


def fontconfig(path: Path, *folders: Path) -> str:
    """Writes a configuration that knows these folders and no other."""
    listed = "".join(f"<dir>{folder}</dir>" for folder in folders)
    path.write_text(
        f"<fontconfig>{listed}<alias><family>sans-serif</family><prefer><family>Noto Sans</family>"
        "</prefer></alias></fontconfig>"
    )
    return str(path)


def rendered(
    work: Path, *words: str, before: tuple[str, ...] = (), a: Path, **more: Path
) -> RenderResult:
    """The answer to `-i A WORD... OUTPUT`; the file is `output.SUFFIX` in `work`.

    Args:
        before: words in front of `-i`.
        a: the first input; the command calls it "a" and its own suffix.
        more: more inputs by the name before their suffix.
    """
    inputs = {f"{name}{path.suffix}": path for name, path in {"a": a, **more}.items()}
    suffix = Path(words[-1]).suffix
    job = LocalJob(
        id="t",
        params=RenderParams(command_args=[*before, "-i", f"a{a.suffix}", *words]),
        work_dir=work,
        inputs=inputs,
        output_path=work / f"output{suffix}",
    )
    result = PROCESSOR.run(job)
    return result.model_copy(update={"warnings": [*result.warnings, *job.warnings]})
