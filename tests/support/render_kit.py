"""What the render tests share: a command through the processor, FFmpeg in its sandbox, and the same
words through plain FFmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg

from gpu_worker_client.protocol import RenderParams, RenderResult
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.processor import PROCESSOR

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def plain(*words: str, cwd: Path | None = None) -> str:
    """Runs FFmpeg outside the sandbox; what it said."""
    command = [FFMPEG, "-v", "error", "-y", *words]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    return said


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
