"""Containers, encoders, decoders and bit stream filters that a command may use, by FFmpeg's
names."""

from __future__ import annotations

from dataclasses import dataclass


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Muxer:
    """A container to write, with the encoders FFmpeg takes for it when the command names none."""

    suffixes: tuple[str, ...]
    video: str | None = None
    audio: str | None = None
    subtitle: str | None = None
    still: bool = False
    """One frame: the command must stop after one frame."""


MUXERS: dict[str, Muxer] = {
    "mp4": Muxer(("mp4",), "libx264", "aac"),
    "mov": Muxer(("mov",), "libx264", "aac"),
    "ipod": Muxer(("m4v", "m4a", "m4b"), "libx264", "aac"),
    "matroska": Muxer(("mkv",), "libx264", "libvorbis", "ass"),
    "webm": Muxer(("webm",), "libvpx-vp9", "libopus", "webvtt"),
    "mpegts": Muxer(("ts", "m2t", "m2ts", "mts"), "mpeg2video", "mp2"),
    "avi": Muxer(("avi",), "mpeg4", "libmp3lame"),
    "flv": Muxer(("flv",), "flv", "libmp3lame"),
    "gif": Muxer(("gif",), "gif"),
    "apng": Muxer(("apng",), "apng"),
    "webp": Muxer(("webp",), "libwebp_anim"),
    "mp3": Muxer(("mp3",), "png", "libmp3lame"),
    "adts": Muxer(("aac",), None, "aac"),
    "flac": Muxer(("flac",), "png", "flac"),
    "wav": Muxer(("wav",), None, "pcm_s16le"),
    "ogg": Muxer(("ogg",), "libtheora", "libvorbis"),
    "oga": Muxer(("oga",), None, "flac"),
    "opus": Muxer(("opus",), None, "libopus"),
    "srt": Muxer(("srt",), subtitle="srt"),
    "webvtt": Muxer(("vtt",), subtitle="webvtt"),
    "ass": Muxer(("ass", "ssa"), subtitle="ass"),
    "image2": Muxer(("jpg", "jpeg", "png"), still=True),
}
IMAGE_ENCODERS = {"jpg": "mjpeg", "jpeg": "mjpeg", "png": "png"}
"""What `image2` takes by the suffix of the output's name; the file itself may have another one."""
MUXER_OF_SUFFIX: dict[str, str] = {
    suffix: name for name, muxer in MUXERS.items() for suffix in muxer.suffixes
}

DEMUXERS = _names(
    "mov mp4 matroska webm avi mpegts mpeg flv wav w64 aiff caf mp3 aac flac ogg gif png_pipe"
    " jpeg_pipe webp_pipe bmp_pipe tiff_pipe srt webvtt ass"
)
"""What an input may be said to be with `-f`; what it is decides the worker."""

VIDEO_ENCODERS = _names(
    "libx264 libx265 libsvtav1 libaom-av1 libvpx-vp9 libvpx h264_nvenc hevc_nvenc av1_nvenc"
    " prores_ks prores dnxhd mpeg4 mpeg2video mjpeg png apng gif libwebp libwebp_anim ffv1 flv"
    " libtheora"
)
AUDIO_ENCODERS = _names(
    "aac libmp3lame libopus libvorbis flac alac ac3 eac3 mp2 pcm_s16le pcm_s24le pcm_s32le"
    " pcm_f32le pcm_s16be pcm_u8"
)
SUBTITLE_ENCODERS = _names("mov_text srt subrip webvtt ass")
ENCODERS = VIDEO_ENCODERS | AUDIO_ENCODERS | SUBTITLE_ENCODERS
ENCODER_ALIASES = {
    "h264": "libx264",
    "hevc": "libx265",
    "mp3": "libmp3lame",
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
}
"""Codecs by their own name, for which FFmpeg would take the same encoder."""

DECODERS = _names(
    "h264 hevc av1 libdav1d vp8 vp9 libvpx libvpx-vp9 mpeg1video mpeg2video mpeg4 msmpeg4 h263 flv"
    " prores dnxhd mjpeg png apng webp webp_anim gif bmp tiff rawvideo ffv1 huffyuv utvideo qtrle"
    " wmv3 vc1 theora dvvideo wrapped_avframe h264_cuvid hevc_cuvid av1_cuvid vp8_cuvid vp9_cuvid"
    " mpeg1_cuvid mpeg2_cuvid mpeg4_cuvid vc1_cuvid mjpeg_cuvid aac aac_latm mp3float mp3 mp2"
    " mp2float mp1float ac3 eac3 opus libopus vorbis libvorbis flac alac dca truehd wmav2 wmapro"
    " amrnb amrwb adpcm_ms adpcm_ima_wav adpcm_ima_qt pcm_alaw pcm_mulaw pcm_s8 pcm_u8 pcm_s16le"
    " pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be"
    " pcm_bluray pcm_dvd mov_text srt subrip webvtt ass ssa text cc_dec dvdsub dvbsub pgssub"
)
"""What may be decoded at all: common codecs, none of the exotic ones that carry most of the
decoders' faults."""

BITSTREAM_FILTERS = _names(
    "h264_mp4toannexb hevc_mp4toannexb aac_adtstoasc extract_extradata dump_extra vp9_superframe"
    " av1_frame_merge null"
)

_WHY_NOT = {
    "hls": ": one file comes out; ask for mp4 or mpegts and segment it elsewhere",
    "dash": ": one file comes out; ask for fragmented mp4 and package it elsewhere",
    "segment": ": one file comes out; submit a job for each part",
    "stream_segment": ": one file comes out; submit a job for each part",
    "m3u8": ": one file comes out; ask for mp4 or ts and segment it elsewhere",
    "mpd": ": one file comes out; ask for fragmented mp4 and package it elsewhere",
    "-hls_time": ": one file comes out; ask for mp4 or ts and segment it elsewhere",
    "-safe": ": give every file with -i and join them with the filter concat",
    "tee": ": one file comes out; submit a job for each output",
    "concat": ": give every file with -i and join them with the filter concat",
    "image2": " here: give one picture, or a video",
    "null": ": the result must be a file",
    "-pass": ": two passes need a file between them; use crf, or b:v with maxrate and bufsize",
    "-passlogfile": (
        ": two passes need a file between them; use crf, or b:v with maxrate and bufsize"
    ),
    "-filter_complex_script": ": give the graph itself with -filter_complex",
    "-filter_script": ": give the graph itself with -vf or -af",
    "-re": ": the worker reads as fast as it can",
    "-x264opts": ": use -x264-params",
}


def why_not(name: str) -> str:
    """What to do without something that people ask for and that no table has."""
    return _WHY_NOT.get(name, "")
