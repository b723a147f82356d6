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
    """One frame to one file."""
    is_many: bool = False
    """It writes several files: a playlist and segments."""
    is_checked: bool = True
    """It can be read back by its content. False: raw samples and text, of which only the size is
    checked."""


RAW_AUDIO = _names(
    "s8 u8 s16le s16be s24le s24be s32le s32be u16le u16be f32le f32be f64le f64be alaw mulaw"
)
"""Samples without a header, by the name that muxer, demuxer and encoder have in common."""

RAW = RAW_AUDIO | {"rawvideo"}
"""Demuxers of files that say nothing of themselves: the command must."""

MUXERS: dict[str, Muxer] = {
    "mp4": Muxer(("mp4",), "libx264", "aac"),
    "mov": Muxer(("mov",), "libx264", "aac"),
    "ipod": Muxer(("m4v", "m4a", "m4b"), "libx264", "aac"),
    "3gp": Muxer(("3gp",), "h263", "libopencore_amrnb"),
    "3g2": Muxer(("3g2",), "h263", "libopencore_amrnb"),
    "psp": Muxer(("psp",), "libx264", "aac"),
    "f4v": Muxer(("f4v",), "libx264", "aac"),
    "matroska": Muxer(("mkv",), "libx264", "libvorbis", "ass"),
    "webm": Muxer(("webm",), "libvpx-vp9", "libopus", "webvtt"),
    "mpegts": Muxer(("ts", "m2t", "m2ts", "mts"), "mpeg2video", "mp2"),
    "mpeg": Muxer(("mpg", "mpeg"), "mpeg1video", "mp2"),
    "vob": Muxer(("vob",), "mpeg2video", "mp2"),
    "dvd": Muxer((), "mpeg2video", "mp2"),
    "svcd": Muxer((), "mpeg2video", "mp2"),
    "vcd": Muxer((), "mpeg1video", "mp2"),
    "dv": Muxer(("dv",), "dvvideo", "pcm_s16le", is_checked=False),
    "avi": Muxer(("avi",), "mpeg4", "libmp3lame"),
    "mxf": Muxer(("mxf",), "mpeg2video", "pcm_s16le"),
    "asf": Muxer(("wmv", "asf", "wma"), "msmpeg4", "wmav2", is_checked=False),
    "nut": Muxer(("nut",), "mpeg4", "libvorbis", is_checked=False),
    "flv": Muxer(("flv",), "flv", "libmp3lame"),
    "gif": Muxer(("gif",), "gif"),
    "apng": Muxer(("apng",), "apng"),
    "avif": Muxer(("avif",), "libaom-av1"),
    "webp": Muxer(("webp",), "libwebp_anim"),
    "mp3": Muxer(("mp3",), "png", "libmp3lame"),
    "mp2": Muxer(("mp2",), None, "mp2"),
    "adts": Muxer(("aac",), None, "aac"),
    "flac": Muxer(("flac",), "png", "flac"),
    "wav": Muxer(("wav",), None, "pcm_s16le"),
    "w64": Muxer(("w64",), None, "pcm_s16le"),
    "aiff": Muxer(("aiff", "aif"), "png", "pcm_s16be", is_checked=False),
    "caf": Muxer(("caf",), None, "pcm_s16be", is_checked=False),
    "au": Muxer(("au",), None, "pcm_s16be", is_checked=False),
    "ac3": Muxer(("ac3",), None, "ac3"),
    "eac3": Muxer(("eac3",), None, "eac3"),
    "amr": Muxer(("amr",), None, "libopencore_amrnb", is_checked=False),
    "tta": Muxer(("tta",), None, "tta", is_checked=False),
    "wv": Muxer(("wv",), None, "wavpack", is_checked=False),
    "ogg": Muxer(("ogg",), "libtheora", "libvorbis"),
    "ogv": Muxer(("ogv",), "libtheora", "libvorbis"),
    "oga": Muxer(("oga",), None, "flac"),
    "opus": Muxer(("opus",), None, "libopus"),
    "srt": Muxer(("srt",), subtitle="srt"),
    "webvtt": Muxer(("vtt",), subtitle="webvtt"),
    "ass": Muxer(("ass", "ssa"), subtitle="ass"),
    "ttml": Muxer(("ttml",), subtitle="ttml", is_checked=False),
    "lrc": Muxer(("lrc",), subtitle="srt", is_checked=False),
    "mjpeg": Muxer(("mjpg", "mjpeg"), "mjpeg"),
    "h264": Muxer(("h264", "264"), "libx264", is_checked=False),
    "hevc": Muxer(("hevc", "h265", "265"), "libx265", is_checked=False),
    "mpeg2video": Muxer(("m2v",), "mpeg2video", is_checked=False),
    "ivf": Muxer(("ivf",), "libvpx", is_checked=False),
    "obu": Muxer(("obu",), "libaom-av1", is_checked=False),
    "yuv4mpegpipe": Muxer(("y4m",), "wrapped_avframe", is_checked=False),
    "rawvideo": Muxer(("yuv", "rgb"), "rawvideo", is_checked=False),
    "image2": Muxer(
        ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "jp2", "ppm", "pgm", "tga", "dpx"), still=True
    ),
    "hls": Muxer(("m3u8",), "libx264", "aac", "webvtt", is_many=True),
    "dash": Muxer(("mpd",), "libx264", "aac", is_many=True),
    "segment": Muxer((), is_many=True),
    "stream_segment": Muxer((), is_many=True),
    "tee": Muxer((), is_many=True, is_checked=False),
    "null": Muxer((), "wrapped_avframe", "pcm_s16le", is_checked=False),
    "ffmetadata": Muxer(("ffmeta",), is_checked=False),
    "framemd5": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "framecrc": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "md5": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "crc": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "ico": Muxer(("ico",), "bmp"),
    "streamhash": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "framehash": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    "hash": Muxer((), "rawvideo", "pcm_s16le", is_checked=False),
    **{name: Muxer((), None, f"pcm_{name}", is_checked=False) for name in sorted(RAW_AUDIO)},
}
IMAGE_ENCODERS = {
    "jpg": "mjpeg",
    "jpeg": "mjpeg",
    "png": "png",
    "bmp": "bmp",
    "tif": "tiff",
    "tiff": "tiff",
    "webp": "libwebp_anim",
    "jp2": "jpeg2000",
    "ppm": "ppm",
    "pgm": "pgm",
    "tga": "targa",
    "dpx": "dpx",
}
"""What `image2` takes by the suffix of the output's name; the file itself may have another one."""
MUXER_OF_SUFFIX: dict[str, str] = {
    suffix: name for name, muxer in MUXERS.items() for suffix in muxer.suffixes
}

NOT_INSIDE = frozenset({"tee", "null"})
"""Muxers that no other one may write its files with."""

DEMUXERS = _names(
    "mov mp4 matroska webm avi mpegts mpeg flv wav w64 aiff caf mp3 aac flac ogg gif png_pipe"
    " jpeg_pipe webp_pipe webp_anim apng mxf bmp_pipe tiff_pipe srt webvtt ass ffmetadata concat"
    " image2"
)
"""What an input may be said to be with `-f`; what it is decides the worker."""

VIDEO_ENCODERS = _names(
    "libx264 libx265 libsvtav1 libaom-av1 libvpx-vp9 libvpx h264_nvenc hevc_nvenc av1_nvenc"
    " prores_ks prores dnxhd mpeg4 mpeg2video mjpeg png apng gif libwebp libwebp_anim ffv1 flv"
    " libtheora mpeg1video h263 msmpeg4 msmpeg4v2 wmv1 wmv2 dvvideo rawvideo wrapped_avframe"
    " huffyuv ffvhuff utvideo qtrle bmp tiff cfhd v210 libxvid libopenh264 librav1e jpeg2000"
    " ppm pgm targa dpx"
)
AUDIO_ENCODERS = _names(
    "aac libmp3lame libopus libvorbis flac alac ac3 eac3 mp2 pcm_s16le pcm_s24le pcm_s32le"
    " pcm_f32le pcm_s16be pcm_u8 pcm_s8 pcm_s24be pcm_s32be pcm_f32be pcm_f64le pcm_f64be pcm_u16le"
    " pcm_u16be pcm_alaw pcm_mulaw adpcm_ima_wav adpcm_ms wmav1 wmav2 tta wavpack dca truehd opus"
    " vorbis libtwolame libopencore_amrnb g722"
)
SUBTITLE_ENCODERS = _names("mov_text srt subrip webvtt ass ssa text ttml dvdsub dvbsub")
ENCODERS = VIDEO_ENCODERS | AUDIO_ENCODERS | SUBTITLE_ENCODERS
ENCODER_ALIASES = {
    "h264": "libx264",
    "hevc": "libx265",
    "mp3": "libmp3lame",
    "vp9": "libvpx-vp9",
    "vp8": "libvpx",
    "theora": "libtheora",
    "amr_nb": "libopencore_amrnb",
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
    " pcm_u16le pcm_u16be pcm_bluray pcm_dvd mov_text srt subrip webvtt ass ssa text cc_dec dvdsub"
    " dvbsub pgssub"
)
"""What may be decoded at all: common codecs, none of the exotic ones that carry most of the
decoders' faults."""

BITSTREAM_FILTERS = _names(
    "h264_mp4toannexb hevc_mp4toannexb aac_adtstoasc extract_extradata dump_extra vp9_superframe"
    " av1_frame_merge null h264_metadata hevc_metadata av1_metadata vp9_metadata mpeg2_metadata"
    " filter_units remove_extra h264_redundant_pps mpeg4_unpack_bframes mjpeg2jpeg mov2textsub"
    " text2movsub truehd_core dca_core eac3_core pcm_rechunk prores_metadata chomp"
)

_WHY_NOT = {
    "-resize": ": give -vf scale behind the input",
    "-map_channel": ": FFmpeg 7 and later have it no more; take -af pan=mono|c0=c0",
}


def why_not(name: str) -> str:
    """What to do without something that people ask for and that no table has."""
    return _WHY_NOT.get(name, "")
