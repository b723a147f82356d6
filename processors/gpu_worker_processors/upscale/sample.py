"""What a self-test gives upscale, and what must come out."""

from __future__ import annotations

from gpu_worker_client.protocol import TaskResult, UpscaleResult
from gpu_worker_processors.samples import FRAMES, HEIGHT_PX, WIDTH_PX, Sample

_LIGHTEST_FIRST = (
    "realesr-animevideov3",
    "realesr-general-x4v3",
    "RealESRGAN_x4plus_anime_6B",
    "ESRGAN_4x",
    "RealESRGAN_x4plus",
    "SwinIR_4x_GAN",
    "lite",  # always there, so last: it proves nothing of the weights that an operator chose
)


def _wrong(result: TaskResult) -> str | None:
    assert isinstance(result, UpscaleResult)
    stats, size = result.stats, f"{WIDTH_PX * 4}x{HEIGHT_PX * 4}"
    right = stats.frames_processed == FRAMES and stats.output_resolution == size
    return (
        None
        if right
        else f"{stats.frames_processed} frames of {stats.output_resolution}, not {FRAMES} of {size}"
    )


SAMPLE = Sample(variants=tuple({"model": model} for model in _LIGHTEST_FIRST), judge=_wrong)
