"""What an attacker writes into a command: refused before anything is started, with the place of the
word and the reason, and without an echo of the text. Nothing here needs FFmpeg; what is contained
instead of refused is tested with the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import compile_command, parse_command

NAMES = ("in.mp4", "logo.png", "subs.srt", "look.cube")
VF = ["-i", "in.mp4", "-vf"]
AF = ["-i", "in.mp4", "-af"]


def refused(
    args: list[str], at: int, reason: str = "", names: tuple[str, ...] = NAMES
) -> TaskError:
    with pytest.raises(TaskError) as caught:
        parse_command(args, names)
    error = caught.value
    assert (error.code, error.details["token_index"]) == (ErrorCode.ffmpeg_arg_denied, at), (
        error.message
    )
    assert reason in error.message
    assert f"command_args[{at}]" in error.message
    return error


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
    "graph",
    [
        pytest.param("movie=/etc/passwd", id="F03 movie"),
        pytest.param("amovie=x", id="F03 amovie"),
        pytest.param("[in]null[out];movie=x,nullsink", id="F03 in a second chain"),
        pytest.param("mov\\ie=x", id="F03 a backslash inside the name"),
        pytest.param("'movie'=x", id="F03 a quoted name"),
        pytest.param("movie@scale=x", id="F03 an instance name"),
        pytest.param("drawtext=textfile=/etc/passwd", id="F04 textfile"),
        pytest.param("drawtext=/text=/etc/passwd", id="F04 an option from a file"),
        pytest.param("drawtext=text=x:fontfile=/etc/passwd", id="F04 fontfile"),
        pytest.param("drawtext=text=%{metadata\\:x}", id="F04 metadata in a text"),
        pytest.param("drawtext=text='%{m\\etadata:x}'", id="F04 metadata behind a backslash"),
        pytest.param("drawtext=text=%{eif\\:while(1\\,1)\\:d}", id="F04 a loop in a text"),
        pytest.param("drawtext=text='%{e:ld(0\\'}'", id="F04 an expression behind quotes"),
        pytest.param("drawtext=text='%{gmtime:%999999999Y}'", id="F04 a clock of a gigabyte"),
        pytest.param("drawtext=text='%{pts:gmtime:0:%_9999d}'", id="F04 a time stamp as wide"),
        pytest.param(
            "drawtext=text='%{localtime:a\\}%0\\99999Y}'",
            id="F04 the width behind a brace and a backslash",
        ),
        pytest.param("drawtext=text='%{eif:1:d:999999999}'", id="F04 a number of a gigabyte"),
        pytest.param("drawtext=text='%{eif:1:d:-1}'", id="F04 a number of four gigabytes"),
        pytest.param("drawtext=text='%{eif:1:s}'", id="F04 a format that reads memory"),
        pytest.param("drawtext=text=x:fontcolor_expr=%{metadata}", id="F04 a colour expression"),
        pytest.param("scale=/w=x", id="F04 a number from a file"),
        pytest.param("subtitles=/etc/passwd", id="F05 subtitles"),
        pytest.param("subtitles=filename=subs.srt:fontsdir=/", id="F05 fontsdir"),
        pytest.param("ass=../subs.srt", id="F05 ass"),
        pytest.param("lut3d=file=/etc/passwd", id="F05 lut3d"),
        pytest.param("lut1d=x.cube", id="F05 lut1d"),
        pytest.param("removelogo=logo.png", id="F05 removelogo"),
        pytest.param("metadata=print:file=x", id="F06 metadata"),
        pytest.param("psnr=f=x", id="F06 psnr"),
        pytest.param("curves=plot=x", id="F06 curves"),
        pytest.param("curves=psfile=in.mp4", id="F06 psfile"),
        pytest.param("vidstabdetect=result=x", id="F06 vidstabdetect"),
        pytest.param("paletteuse=debug_kdtree=x", id="F06 paletteuse"),
        pytest.param("sendcmd=f=x", id="F07 sendcmd"),
        pytest.param("zmq", id="F07 zmq"),
        pytest.param("frei0r=filter_name=x", id="F07 frei0r"),
        pytest.param("program_opencl=source=x", id="F07 program_opencl"),
        pytest.param("libplacebo=custom_shader_path=x", id="F07 libplacebo"),
        pytest.param("scale=w='1:movie=x'", id="F14 a colon in quotes"),
        pytest.param("scale=w=1\\:movie\\=x", id="F14 a colon behind a backslash"),
        pytest.param("scale=1\\\\:movie=x", id="F14 a colon behind two"),
        pytest.param("scale=1,\nmovie=x", id="F14 a line feed"),
        pytest.param("[a;b]scale=1", id="F14 a semicolon in a label"),
        pytest.param("[a']scale=1", id="F14 a quote in a label"),
        pytest.param("[a", id="F14 an open label"),
        pytest.param("scale=1[a]]", id="F14 a bracket too many"),
        pytest.param("scale=1;;null", id="F14 an empty chain"),
        pytest.param("scale=1,", id="F14 an empty filter"),
        pytest.param("", id="F14 nothing"),
        pytest.param("sws_flags=bicubic;scale=1", id="F14 options before the graph"),
        pytest.param("scale=w=1:w=2", id="F14 an option twice"),
        pytest.param("scale=w=1:2", id="F14 a value after a key"),
        pytest.param("select='while(1,1)'", id="F15 while"),
        *(pytest.param(f"select='while{sign}(1,1)'", id=f"F15 while {sign}") for sign in "+-*/^"),
        pytest.param("drawbox=x=t+taylor*(1,2)", id="F15 taylor before another bracket"),
        pytest.param(
            "drawtext=text=%{e\\:while+(1\\,1)}", id="F15 a loop in a text, before another bracket"
        ),
        pytest.param("select=taylor(1\\,1)", id="F15 taylor"),
        pytest.param("setpts='root(x,1)'", id="F15 root"),
        pytest.param("setpts='print(1)'", id="F15 print"),
        pytest.param(f"geq=lum={'1+' * 1200}1", id="F15 a long expression"),
        pytest.param(f"geq=lum={'(' * 100}1{')' * 100}", id="F15 a deep expression"),
        pytest.param("geq=lum=((1)", id="F15 an open parenthesis"),
        pytest.param("loop=-1:1", id="F16 loop"),
        pytest.param("tpad=stop=-1", id="F16 tpad"),
        pytest.param("fps=1000000", id="F16 fps"),
        pytest.param("trim=end=1e9", id="F16 a long time"),
        pytest.param("[0:v][c]overlay;color[c]", id="F16 a colour without an end"),
        pytest.param("scale=32000:32000", id="F17 a large picture"),
        pytest.param("scale=3 2000:-2", id="F17 a large picture in two parts"),
        pytest.param("scale='3\n2000':-2", id="F17 a large picture on two lines"),
        pytest.param("scale=s=16384x16384", id="F17 a large picture by its size"),
        pytest.param("tile=500x500", id="F17 a large mosaic"),
        pytest.param("split=5000", id="F17 many outputs"),
        pytest.param("loop=loop=2:size=32767", id="F17 many frames held"),
        pytest.param(",".join(["null"] * 300), id="F17 many filters"),
        pytest.param(f"scale='{' ' * 8000}?'", id="F17 white space to look through"),
    ],
)
def test_a_graph_is_refused(graph: str) -> None:
    refused([*VF, graph, "out.mp4"], at=3)
    refused(["-i", "in.mp4", "-filter_complex", graph, "out.mp4"], at=3)


@pytest.mark.parametrize(
    "graph",
    [
        "loudnorm=stats_file=x",
        "arnndn=m=/etc/passwd",
        "ametadata=print:file=x",
        "ladspa=file=x",
        "lv2=p=x",
        "asendcmd=f=x",
        "firequalizer=dumpfile=x",
        "azmq",
        "apad",
        "aloop=-1:48000",
        "asplit=5000",
    ],
)
def test_a_graph_of_sound_is_refused(graph: str) -> None:
    refused([*AF, graph, "out.m4a"], at=3)


@pytest.mark.parametrize(
    ("words", "at"),
    [
        pytest.param(["-f", "tee", "out.mp4"], 3, id="F08 tee"),
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
        pytest.param(["-report", "out.mp4"], 2, id="F09 report"),
        pytest.param(["-progress", "tcp://127.0.0.1:1", "out.mp4"], 2, id="F09 progress"),
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
        pytest.param(["out.mp4", "out2.mp4"], 2, id="F24 two outputs"),
        pytest.param(["out.mp4", "out.mp4"], 2, id="F24 one output twice"),
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


@pytest.mark.parametrize(
    "graph",
    [
        "movie=x",
        "color",
        "testsrc2=s=99999x99999:d=1",
        "amovie=x",
        "color=d=1,metadata=print:file=x",
        "sine",
        "anullsrc",
        "lavfi",
    ],
)
def test_a_generated_input_is_a_graph_of_the_table_with_an_end(graph: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_command(["-f", "lavfi", "-i", graph, "out.mp4"], NAMES)
    assert caught.value.details["token_index"] in (2, 3)


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
        ("list.srt", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
        ("list.mp4", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"),
        ("page.mp4", b"<?xml version='1.0'?><MPD/>"),
        (
            "page.png",
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        ),
        ("empty.mp4", b""),
    ],
)
def test_a_file_that_would_open_others_is_no_input(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for args in (
        ["-i", name, "out.mp4"],
        ["-f", "lavfi", "-i", f"color=d=1,subtitles={name}", "out.mp4"],
    ):
        with pytest.raises(TaskError) as caught:
            compile_command(args, {name: path}, None, tmp_path / "out.mp4")
        assert caught.value.code is ErrorCode.not_media


def test_side_files_are_what_their_filter_reads(tmp_path: Path) -> None:
    secret = tmp_path / "in.mp4"
    secret.write_bytes(b"root:x:0:0:root")
    for graph in ("lut3d=in.mp4", "drawtext=text=a:fontfile=in.mp4"):
        with pytest.raises(TaskError) as caught:
            compile_command(
                ["-f", "lavfi", "-i", f"color=d=1,{graph}", "out.mp4"],
                {"in.mp4": secret},
                None,
                tmp_path / "out.mp4",
            )
        assert (caught.value.code, caught.value.details["token_index"]) == (
            ErrorCode.ffmpeg_arg_denied,
            3,
        )


def test_what_f_says_an_input_is_must_be_true(tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(32))
    with pytest.raises(TaskError) as caught:
        compile_command(
            ["-f", "mp4", "-i", "logo.png", "-frames:v", "1", "out.jpg"],
            {"logo.png": path},
            None,
            tmp_path / "out.jpg",
        )
    assert caught.value.details["token_index"] == 1
