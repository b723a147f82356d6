"""Clips that a split can cut, in every container, codec and clock."""

from __future__ import annotations

import subprocess
from fractions import Fraction

from gpu_worker_client.protocol import UpscaleParams
from support import clips

B_FRAMES = (("crf", "20"), ("preset", "medium"), ("g", "12"))
CLOSED_HEVC = (("x265-params", "keyint=12:open-gop=0:log-level=error"), ("preset", "ultrafast"))
UNEVEN = tuple(index * 3000 + index % 7 * 301 for index in range(60))
LITE = UpscaleParams(model="lite")

CLIPS = {
    "b-frames.mp4": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.mov": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.mkv": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "b-frames.ts": clips.Clip(frames=60, options=B_FRAMES, audio_seconds=2.4),
    "vfr.mp4": clips.Clip(frames=60, pts=UNEVEN, options=B_FRAMES, audio_seconds=1.8),
    "ntsc.mp4": clips.Clip(
        frames=60, rate=Fraction(30000, 1001), options=B_FRAMES, audio_seconds=2.0
    ),
    "late.mp4": clips.Clip(frames=60, start_pts=20, options=B_FRAMES, audio_seconds=2.4),
    "late.mkv": clips.Clip(frames=60, start_pts=20, options=B_FRAMES, audio_seconds=2.4),
    "rotated.mp4": clips.Clip(frames=60, rotation=-90, sar=Fraction(4, 3), options=B_FRAMES),
    "hevc.mp4": clips.Clip(frames=60, codec="libx265", options=CLOSED_HEVC, audio_seconds=2.4),
    "prores.mov": clips.Clip(
        frames=40, codec="prores_ks", pix_fmt="yuv422p10le", options=(), audio_seconds=1.6
    ),
    "vp9.webm": clips.Clip(
        frames=60,
        codec="libvpx-vp9",
        options=(("g", "12"), ("cpu-used", "8"), ("deadline", "realtime")),
    ),
    "av1.mp4": clips.Clip(frames=60, codec="libsvtav1", options=(("g", "12"), ("preset", "12"))),
}


def ffmpeg(*args: object) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *map(str, args)]
    subprocess.run(command, check=True, timeout=60)
