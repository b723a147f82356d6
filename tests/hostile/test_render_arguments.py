"""What an attacker writes into a command: refused before anything is started, with the place of the
word and the reason, and without an echo of the text. Nothing here needs FFmpeg; what is contained
instead of refused is tested with the sandbox."""

from __future__ import annotations

import pytest
from support.command_kit import NAMES, refused

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import parse_command

VF = ["-i", "in.mp4", "-vf"]


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1/x",
        "https://h/x",
        "/etc/passwd",
        "../in.mp4",
        "./in.mp4",
        "file:in.mp4",
        "concatf:in.mp4",
        "concat,file:in.mp4",
        "pipe:0",
        "-",
        "fd:",
        "data:,x",
        "crypto:in.mp4",
        "subfile,,start,0,end,0,,:in.mp4",
        "cache:in.mp4",
        "async:in.mp4",
        "tcp://127.0.0.1:1",
        "rtsp://h/x",
        "IN.MP4",
        "in.mp4\n",
        " in.mp4",
        "in.mp",
        "",
        "other.mp4",
        "tee:x",
        "\\\\host\\share",
        "in.mp4?x",
    ],
)
def test_f01_an_input_is_a_name_of_the_task(source: str) -> None:
    refused(["-i", source, "out.mp4"], at=1, reason="one of the task's own")


@pytest.mark.parametrize(
    "source",
    [
        "concat:in.mp4|/etc/passwd",
        "concat:in.mp4|http://127.0.0.1/x",
        "concat:",
        "concat:in.mp4|concat:in.mp4",
        "in%03d.png",
        "/etc/pass%1d",
        "../in%d.mp4",
        "in%s.mp4",
        "%d%d.mp4",
    ],
)
def test_f01_several_files_are_inputs_of_the_task_too(source: str) -> None:
    refused(["-i", source, "out.mp4"], at=1)


@pytest.mark.parametrize(
    "word",
    [
        "-/vf",
        "-/filter_complex",
        "--help",
        "--",
        "-/i",
        "---",
        "-?",
        "-h",
        "-L",
        "-:v",
        "-c:v:x:y",
        "- i",
    ],
)
def test_f02_words_that_are_no_option_of_the_table(word: str) -> None:
    refused(["-i", "in.mp4", word, "x", "out.mp4"], at=2)


@pytest.mark.parametrize(
    ("words", "at"),
    [
        pytest.param(["-f", "tee", "[f=mp4]/tmp/out.mp4|x.ts"], 4, id="F08 tee"),
        pytest.param(["../a.mp4", "out.mp4"], 2, id="F08 a first output above"),
        pytest.param(["out.mp4", "http://127.0.0.1/x.mp4"], 3, id="F08 a second one elsewhere"),
        pytest.param(["in.mp4", "out.mp4"], 2, id="F08 a first output over an input"),
        pytest.param(["-f", "hls", "-hls_segment_filename", "/x", "out.m3u8"], 5, id="F08 hls"),
        pytest.param(["-hls_segment_filename", "../x%d", "out.m3u8"], 3, id="F08 hls above"),
        pytest.param(
            ["-hls_segment_filename", "in.mp4", "out.m3u8"], 3, id="F08 hls over an input"
        ),
        pytest.param(["-hls_base_url", "http://x", "out.m3u8"], 2, id="F08 hls elsewhere"),
        pytest.param(["-hls_key_info_file", "x", "out.m3u8"], 2, id="F08 hls with a key"),
        pytest.param(["-hls_fmp4_init_filename", "/x", "out.m3u8"], 3, id="F08 hls init"),
        pytest.param(["-master_pl_name", "a/../x", "out.m3u8"], 3, id="F08 hls master"),
        pytest.param(["-method", "PUT", "out.m3u8"], 2, id="F08 hls to a server"),
        pytest.param(["-strftime_mkdir", "1", "out.m3u8"], 2, id="F08 hls folders"),
        pytest.param(["-media_seg_name", "../x", "out.mpd"], 3, id="F08 dash"),
        pytest.param(["-utc_timing_url", "http://x", "out.mpd"], 2, id="F08 dash elsewhere"),
        pytest.param(["-f", "segment", "-segment_list", "/x", "out%d.ts"], 5, id="F08 segment"),
        pytest.param(["-f", "segment", "-segment_format", "tee", "o%d.ts"], 5, id="F08 segments"),
        pytest.param(["out%03d.mp4"], 2, id="F08 numbers without segments"),
        pytest.param(["out%s.png"], 2, id="F08 a format that is no number"),
        pytest.param(["out%99999d.png"], 2, id="F08 a number of 99999 digits"),
        pytest.param(["-f", "fifo", "out.mp4"], 3, id="F08 fifo"),
        pytest.param(["-f", "rtp", "out.mp4"], 3, id="F08 rtp"),
        pytest.param(["-progress", "tcp://127.0.0.1:1", "out.mp4"], 3, id="F09 progress"),
        pytest.param(["-vstats_file", "x", "out.mp4"], 2, id="F09 vstats_file"),
        pytest.param(["-print_graphs_file", "x", "out.mp4"], 2, id="F09 print_graphs_file"),
        pytest.param(["-stats_enc_pre:v:0", "x", "out.mp4"], 2, id="F09 stats_enc_pre"),
        pytest.param(["-sdp_file", "x", "out.mp4"], 2, id="F09 sdp_file"),
        pytest.param(["-attach", "/etc/passwd", "out.mkv"], 3, id="F10 attach"),
        pytest.param(["-pass", "3", "out.mp4"], 3, id="F10 three passes"),
        pytest.param(["-fpre", "x", "out.mp4"], 2, id="F10 fpre"),
        pytest.param(["-vpre", "x", "out.mp4"], 2, id="F10 vpre"),
        pytest.param(["-x264-params", "stats=x", "out.mp4"], 3, id="F11 x264 stats"),
        pytest.param(["-x264-params", "crf=20:dump-yuv=x", "out.mp4"], 3, id="F11 x264 dump-yuv"),
        pytest.param(["-x264-params", "qpfile=x", "out.mp4"], 3, id="F11 x264 qpfile"),
        pytest.param(
            ["-x264-params", "crf=/etc/passwd", "out.mp4"], 3, id="F11 a path for a number"
        ),
        pytest.param(["-x264opts", "crf=20:stats=x", "out.mp4"], 3, id="F11 x264opts stats"),
        pytest.param(["-x265-params", "csv=x", "out.mp4"], 3, id="F11 x265 csv"),
        pytest.param(["-x265-params", "recon=x", "out.mp4"], 3, id="F11 x265 recon"),
        pytest.param(["-x265-stats", "x", "out.mp4"], 2, id="F11 x265-stats"),
        pytest.param(["-svtav1-params", "stats=x", "out.mp4"], 3, id="F11 svtav1 stats"),
        pytest.param(["-protocol_whitelist", "all", "out.mp4"], 2, id="F12 protocol_whitelist"),
        pytest.param(["-enable_drefs", "1", "out.mp4"], 2, id="F12 enable_drefs"),
        pytest.param(["-graph_file", "x", "out.mp4"], 2, id="F12 graph_file"),
        pytest.param(["-filter_complex_script", "x", "out.mp4"], 2, id="F12 filter_complex_script"),
        pytest.param(["-filter_script:v", "x", "out.mp4"], 2, id="F12 filter_script"),
        pytest.param(["-init_hw_device", "opencl:0.0", "out.mp4"], 2, id="F13 init_hw_device"),
        pytest.param(["-t", "1e9", "out.mp4"], 3, id="F16 a long time"),
        pytest.param(["-t", "99999999", "out.mp4"], 3, id="F16 115 days"),
        pytest.param(["-r", "1000000", "out.mp4"], 3, id="F16 a high rate"),
        pytest.param(["-threads", "9999", "out.mp4"], 3, id="F17 threads"),
        pytest.param(["-s", "32000x32000", "out.mp4"], 3, id="F17 size"),
        pytest.param(
            ["-force_key_frames", "expr:while(1,1)", "out.mp4"], 3, id="F15 in force_key_frames"
        ),
        pytest.param(
            ["-force_key_frames", "expr:while+(1,1)", "out.mp4"],
            3,
            id="F15 in force_key_frames, apart",
        ),
        pytest.param(["-metadata", "x=" + "y" * 8000, "out.mp4"], 3, id="F22 long metadata"),
        pytest.param(["-metadata", "title", "out.mp4"], 3, id="F22 metadata without a value"),
        pytest.param(["-c:v", "magicyuv", "out.mp4"], 3, id="an encoder outside the table"),
        pytest.param(
            ["-bsf:v", "noise=amount=1", "out.mp4"], 3, id="a bit stream filter outside the table"
        ),
        pytest.param(["-map", "1", "out.mp4"], 3, id="an input that is not there"),
        pytest.param(["-map", "[x]", "out.mp4"], 3, id="a label that is not there"),
        pytest.param(
            ["-map_metadata", "3", "out.mp4"], 3, id="metadata of an input that is not there"
        ),
        pytest.param(["-b:v:0:1", "1M", "out.mp4"], 2, id="a specifier of too many parts"),
        pytest.param(["-b:#0xg", "1M", "out.mp4"], 2, id="a specifier by no stream id"),
        pytest.param(["-c:m:a/b", "copy", "out.mp4"], 2, id="a specifier by a path"),
        pytest.param(["-map", "0"] * 40 + ["out.mp4"], 66, id="F17 many streams"),
        pytest.param(["-vf", "null"] * 40 + ["out.mp4"], 67, id="F17 many graphs"),
        pytest.param(
            ["-vf", ",".join(["null"] * 200)] * 2 + ["out.mp4"],
            5,
            id="F17 many filters in two graphs",
        ),
        pytest.param([], 0, id="F24 no output"),
        pytest.param(["-c", "copy"], 2, id="F24 no output after an option"),
        pytest.param(["out.mp4", "out.mp4"], 3, id="F24 one output twice"),
        pytest.param(["in.mp4"], 2, id="F24 the output is the input"),
        pytest.param(["-frames:v", "1", "logo.png"], 4, id="F24 the output is another input"),
        pytest.param(["/tmp/out.mp4"], 2, id="an output elsewhere"),
        pytest.param(["../out.mp4"], 2, id="an output above"),
        pytest.param(["file:out.mp4"], 2, id="an output with a protocol"),
        pytest.param(["tcp://127.0.0.1:1/out.mp4"], 2, id="an output on the network"),
        pytest.param(["-"], 2, id="an output to a pipe"),
        pytest.param(["out.exe"], 2, id="an output of no container"),
        pytest.param(["out"], 2, id="an output without a suffix"),
        pytest.param(
            ["-ss", "1", "-i", "out.mp4"], 4, id="an option of an input that does not come"
        ),
    ],
)
def test_words_after_the_input_are_refused(words: list[str], at: int) -> None:
    refused(["-i", "in.mp4", *words], at)


@pytest.mark.parametrize(
    ("words", "at"),
    [
        pytest.param(["-f", "x11grab"], 1, id="F13 x11grab"),
        pytest.param(["-f", "v4l2"], 1, id="F13 v4l2"),
        pytest.param(["-hwaccel_device", "/dev/dri/card0"], 1, id="F13 hwaccel_device"),
        pytest.param(["-hwaccel", "vaapi"], 1, id="F13 hwaccel"),
        pytest.param(["-vaapi_device", "/dev/dri/card0"], 0, id="F13 vaapi_device"),
        pytest.param(["-dump_attachment:t:0", "x"], 0, id="F10 dump_attachment"),
        pytest.param(["-stream_loop", "-1"], 2, id="F16 a loop without an end"),
        pytest.param(["-loop", "1"], 2, id="F16 a picture without an end"),
        pytest.param(["-c:v", "magicyuv"], 1, id="a decoder outside the table"),
        pytest.param(["-key", "00"], 0, id="a key"),
        pytest.param(["-headers", "X: y"], 0, id="headers"),
        pytest.param(["-format_whitelist", "ALL"], 0, id="format_whitelist"),
        pytest.param(["-crf", "20"], 0, id="an option of the output"),
        pytest.param(["-export_path_metadata", "1"], 0, id="export_path_metadata"),
    ],
)
def test_words_before_the_input_are_refused(words: list[str], at: int) -> None:
    refused([*words, "-i", "in.mp4", "out.mp4"], at)


def test_work_without_an_end_is_accepted_where_the_command_ends_it() -> None:
    for words in (["-t", "5"], ["-shortest"], ["-frames:v", "10"], ["-to", "00:00:05"]):
        parse_command(["-stream_loop", "-1", "-i", "in.mp4", *words, "out.mp4"], NAMES)
    parse_command(["-f", "lavfi", "-t", "5", "-i", "color", "out.mp4"], NAMES)
    parse_command(
        ["-i", "in.mp4", "-filter_complex", "color[c];[c][0:v]overlay=shortest=1", "out.mp4"], NAMES
    )


def test_f25_an_unknown_option_is_answered_with_the_nearest() -> None:
    error = refused(["-i", "in.mp4", "-preste", "slow", "out.mp4"], at=2, reason="preste")
    assert error.details["nearest"] == "preset"
    assert refused(["-i", "in.mp4", "-foo", "1", "out.mp4"], at=2).details["nearest"] is None
    assert refused([*VF, "scal=1:1", "out.mp4"], at=3).details["nearest"] == "scale"
    assert refused([*VF, "scale=widht=1", "out.mp4"], at=3).details["nearest"] == "width"
    assert refused(["-i", "in.mp5", "out.mp4"], at=1).details["nearest"] == "in.mp4"
    assert (
        refused(["-i", "in.mp4", "-c:v", "libx2644", "out.mp4"], at=3).details["nearest"]
        == "libx264"
    )


@pytest.mark.parametrize(
    ("words", "use"),
    [
        (["-c:a", "libfdk_aac"], "aac"),
        (["-c:v", "h265_nvenc"], "hevc_nvenc"),
        (["-c:v", "h264_videotoolbox"], "libx264"),
        (["-c:v", "libvvenc"], None),
        (["-vf", "frei0r=glow"], None),
        (["-vf", "scale_npp=64:48"], "scale_cuda"),
    ],
)
def test_a_suggestion_does_the_same_or_there_is_none(words: list[str], use: str | None) -> None:
    with pytest.raises(TaskError) as caught:
        parse_command(["-i", "in.mp4", *words, "out.mp4"], NAMES)
    assert caught.value.details["nearest"] == use


def test_f23_a_refusal_does_not_say_the_text_back() -> None:
    secret = "https://h/x?X-Amz-Signature=CANARY"
    for args in (
        ["-i", secret, "o.mp4"],
        ["-i", "in.mp4", f"-{secret}", "1", "o.mp4"],
        [*VF, secret, "o.mp4"],
        ["-i", "in.mp4", secret],
    ):
        with pytest.raises(TaskError) as caught:
            parse_command(args, NAMES)
        assert "CANARY" not in caught.value.body().to_wire()


def test_f21_more_words_than_the_wire_takes() -> None:
    for args in (["-y"] * 100_000, ["x" * 40_000]):
        with pytest.raises(TaskError) as caught:
            parse_command(args, NAMES)
        assert caught.value.code is ErrorCode.invalid_task


def test_f22_metadata_is_one_word_whatever_it_says() -> None:
    title = "title=<script>alert('-i /etc/passwd')</script>"
    assert title in parse_command(["-i", "in.mp4", "-metadata", title, "out.mp4"], NAMES).words()
