"""Which of FFmpeg's decoders may read a stranger's file, and why the rest may not.

Allowed is what cameras, editors, recorders, archives and broadcasters write. Every other decoder
of the FFmpeg that comes with PyAV stands in `REFUSED` with its reason; a test holds both tables
against that FFmpeg, so a new release makes somebody decide.
"""

from __future__ import annotations


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


VIDEO_DECODERS = _names(
    # distribution
    "h264 hevc vvc av1 libdav1d libaom-av1 vp8 vp9 libvpx libvpx-vp9 theora vc1 wmv1 wmv2 wmv3",
    "mpeg1video mpeg2video mpegvideo mpeg4 msmpeg4 msmpeg4v1 msmpeg4v2 h261 h263 h263i h263p",
    "flv vp3 vp4 vp5 vp6 vp6a vp6f vp7 rv10 rv20 rv30 rv40 rv60 svq1 svq3 cavs cinepak",
    "indeo2 indeo3 indeo4 indeo5 gif apng",
    # cameras, editing, broadcast, archives
    "prores dnxhd cfhd dvvideo mjpeg mjpegb jpeg2000 jpegls ffv1 ffvhuff huffyuv hymt utvideo",
    "lagarith rawvideo bitpacked v210 v210x v308 v408 v410 r10k r210 y41p yuv4 avrp avui",
    "dirac snow cljr cllc hap dxv speedhq hq_hqa hqx media100 m101 aic pixlet apv notchlc",
    "sheervideo vble xl asv1 asv2 loco zerocodec ylc mvha mvdv 012v frwu aura aura2",
    # one picture for each frame
    "png bmp dpx exr targa tiff webp",
    # recordings of a screen
    "qtrle rpza smc 8bps msrle msvideo1 zlib mszh camtasia tscc2 camstudio zmbv fraps flashsv",
    "flashsv2 dxtory vmnc",
)
AUDIO_DECODERS = _names(
    "aac aac_latm mp1 mp1float mp2 mp2float mp3 mp3float ac3 eac3 dca truehd mlp opus libopus",
    "vorbis libvorbis flac alac als wavpack tta tak ape shorten mpc7 mpc8 speex nellymoser",
    "wmav1 wmav2 wmapro wmalossless wmavoice cook sipr ralf real_144 real_288 atrac3",
    "atrac3plus atrac3plusal atrac3al atrac9 qdm2 qdmc mace3 mace6 dvaudio s302m dolby_e",
    "amrnb amrwb libopencore_amrnb libopencore_amrwb g722 g723_1 g726 g726le g728 g729 gsm",
    "gsm_ms ilbc evrc qcelp truespeech aptx aptx_hd sbc",
    "adpcm_ms adpcm_ima_wav adpcm_ima_qt adpcm_swf adpcm_yamaha adpcm_ima_dk3 adpcm_ima_dk4",
    "dsd_lsbf dsd_msbf dsd_lsbf_planar dsd_msbf_planar dst",
    "pcm_alaw pcm_mulaw pcm_vidc pcm_bluray pcm_dvd pcm_lxf pcm_u8 pcm_s8 pcm_s8_planar",
    "pcm_s16le pcm_s16be pcm_s16le_planar pcm_s16be_planar pcm_u16le pcm_u16be",
    "pcm_s24le pcm_s24be pcm_s24le_planar pcm_u24le pcm_u24be pcm_s24daud",
    "pcm_s32le pcm_s32be pcm_s32le_planar pcm_u32le pcm_u32be pcm_s64le pcm_s64be",
    "pcm_f16le pcm_f24le pcm_f32le pcm_f32be pcm_f64le pcm_f64be",
)
SUBTITLE_DECODERS = _names("mov_text srt subrip webvtt ass ssa")

REFUSED: dict[str, frozenset[str]] = {
    "memory bugs of late: CVE-2026-8461": _names("magicyuv"),
    "it drives a device; the same codec is decoded in software": _names(
        "av1_amf av1_cuvid av1_qsv h263_v4l2m2m h264_amf h264_cuvid h264_qsv h264_v4l2m2m hevc_amf",
        "hevc_cuvid hevc_qsv hevc_v4l2m2m mjpeg_cuvid mjpeg_qsv mpeg1_cuvid mpeg1_v4l2m2m",
        "mpeg2_cuvid mpeg2_qsv mpeg2_v4l2m2m mpeg4_cuvid mpeg4_v4l2m2m vc1_cuvid vc1_qsv",
        "vc1_v4l2m2m vp8_cuvid vp8_qsv vp8_v4l2m2m vp9_amf vp9_cuvid vp9_qsv vp9_v4l2m2m vvc_qsv",
    ),
    "raw samples of a sensor: nobody has developed the picture yet": _names("prores_raw"),
    "another decoder of the same codec is used": _names("aac_fixed ac3_fixed"),
    "no coded media: it passes frames on, makes them up or drops them": _names(
        "wrapped_avframe vnull anull wavesynth comfortnoise ftr"
    ),
    "made for a game, a toy or a games console, in containers that are not read": _names(
        "4xm anm argo bethsoftvid bfi binkvideo bmv_video c93 cdgraphics cdtoons cdxl dfa",
        "dsicinvideo dxa eacmv eamad eatgq eatgv eatqi escape124 escape130 flic gdv hnm4video",
        "idcinvideo interplayvideo ipu jv kmvc mdec mmvideo mobiclip motionpixels paf_video rl2",
        "roqvideo sanm sga simbiosis_imx smackvid smvjpeg thp tiertexseqvideo tmv truemotion1",
        "truemotion2 truemotion2rt txd vb vmdvideo vqavideo xan_wc3 xan_wc4 yop arbc avs",
        "8svx_exp 8svx_fib acelp.kelvin adpcm_4xm adpcm_adx adpcm_afc adpcm_agm adpcm_aica",
        "adpcm_argo adpcm_ct adpcm_dtk adpcm_ea adpcm_ea_maxis_xa adpcm_ea_r1 adpcm_ea_r2",
        "adpcm_ea_r3 adpcm_ea_xas adpcm_ima_acorn adpcm_ima_alp adpcm_ima_amv adpcm_ima_apc",
        "adpcm_ima_apm adpcm_ima_cunning adpcm_ima_dat4 adpcm_ima_ea_eacs adpcm_ima_ea_sead",
        "adpcm_ima_iss adpcm_ima_moflex adpcm_ima_mtf adpcm_ima_oki adpcm_ima_rad",
        "adpcm_ima_smjpeg adpcm_ima_ssi adpcm_ima_ws adpcm_ima_xbox adpcm_mtaf adpcm_psx",
        "adpcm_sanyo adpcm_sbpro_2 adpcm_sbpro_3 adpcm_sbpro_4 adpcm_thp adpcm_thp_le adpcm_vima",
        "adpcm_xa adpcm_xmd adpcm_zork binkaudio_dct binkaudio_rdft bmv_audio cbd2_dpcm",
        "derf_dpcm dsicinaudio fastaudio gremlin_dpcm hca hcom interplay_dpcm interplayacm misc4",
        "paf_audio pcm_sga roq_dpcm sdx2_dpcm smackaud sol_dpcm vmdaudio wady_dpcm ws_snd1",
        "xan_dpcm xma1 xma2",
    ),
    "pictures, pages or text and no video": _names(
        "alias_pix ansi avrn bintext brender_pix dds fits gem hdr idf iff pam pbm pcx pfm pgm",
        "pgmyuv pgx phm photocd pictor ppm psd ptx qdraw qoi sgi sunrast targa_y216 vbn vc1image",
        "wmv3image wbmp xbin xbm xface xpm xwd cri",
    ),
    "seen in the wild so rarely that nobody would notice it broken": _names(
        "aasc agm amv clearvideo cpia cyuv fic fmvc g2m imm4 imm5 kgv1 lead lscr mimic msa1 mscc",
        "msp2 mss1 mss2 mts2 mv30 mvc1 mvc2 mwsc mxpeg nuv pdv prosumer qpeg rasc rscc",
        "rtv1 scpr screenpresso sgirle sp5x srgc tdsc ultimotion vcr1 vmix vqc wcmv wnv1",
        "apac atrac1 bonk dfpwm dss_sp iac imc metasound mp3adu mp3adufloat mp3on4 mp3on4float",
        "msnsiren on2avc osq qoa rka siren twinvq wavarc",
    ),
}
"""Reason -> decoders. Its reader's memory is shared with the next job's: what nearly nobody sends
is not worth the risk."""
