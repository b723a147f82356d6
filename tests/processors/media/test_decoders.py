"""The tables of decoders against the FFmpeg that they are about."""

from __future__ import annotations

from av.codec import Codec, codecs_available

from gpu_worker_processors.media.decoders import AUDIO_DECODERS, REFUSED, VIDEO_DECODERS


def offered() -> set[str]:
    """Names of the decoders of video and audio that PyAV's FFmpeg has."""
    names: set[str] = set()
    for name in codecs_available:
        try:
            codec = Codec(name, "r")
        except ValueError:  # an encoder only
            continue
        names |= {name} if codec.type in ("video", "audio") else set()
    return names


def test_every_decoder_is_allowed_or_refused_with_a_reason() -> None:
    refused = [name for names in REFUSED.values() for name in names]
    assert len(refused) == len(set(refused))
    allowed = VIDEO_DECODERS | AUDIO_DECODERS
    assert not allowed & set(refused)
    assert offered() - allowed == set(refused)
    assert allowed - offered() == {"libaom-av1", "libvorbis"}, "those of other builds"
