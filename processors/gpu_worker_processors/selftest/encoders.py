"""Which video encoders work here, each found by encoding one real frame: a listed encoder may lack
its driver or its chip.

`encode_one_frame` runs in the calling process. A broken driver can crash that; who must survive it
runs this module as a child: `python -m gpu_worker_processors.selftest.encoders NAME...` writes one
JSON line `[name, problem or null]` after each attempt.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from typing import cast

from gpu_worker_processors.media.encoders import CANDIDATES, encoder_options

SIDE_PX = 256
"""Above the smallest frame that any NVENC takes. NVIDIA Video Codec SDK, NV_ENC_CAPS_WIDTH_MIN."""

PIXEL_FORMATS = {
    candidate.name: candidate.pix_fmts[8] for group in CANDIDATES.values() for candidate in group
}
"""Encoder that some processor may choose -> a pixel format that it takes."""

_CRF = 18


def encode_one_frame(name: str) -> str | None:
    """None when the encoder gave a packet for one grey frame, with the options that processors use;
    else why not."""
    import av
    from av.error import FFmpegError
    from av.video.codeccontext import VideoCodecContext

    try:
        context = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
        context.width = context.height = SIDE_PX
        context.pix_fmt = PIXEL_FORMATS[name]
        context.time_base = Fraction(1, 25)
        context.options = encoder_options(name, _CRF)
        frame = av.VideoFrame(SIDE_PX, SIDE_PX, PIXEL_FORMATS[name])
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]
    except FFmpegError as error:
        log = cast(
            "tuple[int, str, str] | None", error.log
        )  # level, origin, text; PyAV's stub says otherwise
        return log[2].strip() if log else error.strerror
    except ValueError:  # this build of FFmpeg does not know the name
        return "it is not in this build"
    return None if any(packet.size for packet in packets) else "it made no packet"


def main(names: list[str]) -> int:
    import av.logging

    av.logging.set_level(
        av.logging.ERROR
    )  # so that a problem is FFmpeg's own message ("Cannot load libcuda.so.1")
    for name in names:
        sys.stdout.write(json.dumps([name, encode_one_frame(name)]) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
