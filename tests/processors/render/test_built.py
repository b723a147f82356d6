"""A command that another package has built: ffmpeg-python's stream goes through the SDK to the
processor, and what comes out is what FFmpeg makes of the package's own command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest
from support import clips

from gpu_worker_client.commands import command_args
from gpu_worker_client.protocol import RenderParams
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render.processor import PROCESSOR, ffmpeg_program
from gpu_worker_processors.sandbox import landlock


@pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)
def test_a_stream_of_ffmpeg_python_renders_as_by_itself(tmp_path: Path) -> None:
    names = ("a.mp4", "b.mp4")
    for name in names:
        clips.make(tmp_path / name, clips.Clip(frames=25, audio_seconds=1))
    first, second = (ffmpeg.input(name) for name in names)
    joined = ffmpeg.concat(
        first.video.hflip(), first.audio, second.video, second.audio.filter("volume", 0.5), v=1, a=1
    ).node
    picture = (
        joined[0]
        .overlay(second.video.filter("scale", 16, -2), x=4, y=4)
        .drawbox(0, 0, 8, 8, color="red", thickness=2)
    )
    stream = ffmpeg.output(
        picture,
        joined[1],
        "out.mp4",
        vcodec="libx264",
        crf=12,
        acodec="flac",
        strict=-2,
        metadata="title=it's: 5%",
    ).overwrite_output()

    words = command_args(stream)
    subprocess.run([ffmpeg_program(), "-v", "error", *words], cwd=tmp_path, check=True, timeout=60)
    inputs = {name: tmp_path / name for name in names}
    job = LocalJob(
        "job", RenderParams(command_args=words), tmp_path, None, inputs, tmp_path / "ours.mp4"
    )
    assert PROCESSOR.run(job).stats.frames == 50

    for kind in ("video", "audio"):
        ours, plain = (decoded(tmp_path / name, kind) for name in ("ours.mp4", "out.mp4"))
        assert len(ours) > 10
        assert all(np.array_equal(one, other) for one, other in zip(ours, plain, strict=True))
    with av.open(str(tmp_path / "ours.mp4")) as container:
        assert container.metadata["title"] == "it's: 5%"


def decoded(path: Path, kind: str) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            frame.to_ndarray() for packet in container.demux(stream) for frame in packet.decode()
        ]
