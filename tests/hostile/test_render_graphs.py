"""Filter graphs as an attacker writes them, and files that are not what a command takes them for:
refused before anything is started, with the place of the word."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_kit import NAMES, refused

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.command import compile_command, parse_command

VF = ["-i", "in.mp4", "-vf"]
AF = ["-i", "in.mp4", "-af"]


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param("movie=/etc/passwd", id="F03 movie"),
        pytest.param("amovie=x", id="F03 amovie"),
        pytest.param("[in]null[out];movie=x,nullsink", id="F03 in a second chain"),
        pytest.param("mov\\ie=x", id="F03 a backslash inside the name"),
        pytest.param("'movie'=x", id="F03 a quoted name"),
        pytest.param("movie@scale=x", id="F03 an instance name"),
        pytest.param("vidstabdetect=result=/tmp/x", id="F06 vidstabdetect"),
        pytest.param("vidstabdetect=result=in.mp4", id="F06 over an input"),
        pytest.param("vidstabtransform=input=/etc/passwd", id="F05 vidstabtransform"),
        pytest.param("vidstabtransform", id="F05 a file by default"),
        pytest.param("libvmaf=log_path=../x", id="F06 libvmaf"),
        pytest.param("movie=in.mp4:f=hls", id="F03 a demuxer that opens more"),
        pytest.param("movie=in.mp4:format_opts=protocol_whitelist=all", id="F03 its guards"),
        pytest.param("movie=http\\://127.0.0.1/x", id="F03 a URL"),
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
        pytest.param("metadata=print:file=/tmp/x", id="F06 metadata"),
        pytest.param("psnr=f=../x", id="F06 psnr"),
        pytest.param("curves=plot=x", id="F06 curves"),
        pytest.param("curves=psfile=in.mp4", id="F06 psfile"),
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
        "ametadata=print:file=/tmp/x",
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
    "graph",
    [
        "movie=x",
        "color",
        "testsrc2=s=99999x99999:d=1",
        "amovie=x",
        "color=d=1,metadata=print:file=/tmp/x",
        "sine",
        "anullsrc",
        "lavfi",
    ],
)
def test_a_generated_input_is_a_graph_of_the_table_with_an_end(graph: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_command(["-f", "lavfi", "-i", graph, "out.mp4"], NAMES)
    assert caught.value.details["token_index"] in (2, 3)


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


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("evil.txt", b"movie=/etc/passwd", "inputs"),
        ("evil.txt", b"drawtext=textfile=/etc/passwd", "inputs"),
        ("evil.txt", b"null\x00", "control character"),
        ("evil.txt", b"null," * 20_000 + b"null", "bytes"),
        ("evil.txt", b"\xff\xfe", "UTF-8"),
        ("other.txt", b"null", "inputs"),
    ],
    ids=["movie", "a path", "NUL", "too long", "no text", "no input"],
)
@pytest.mark.parametrize("word", ["-/vf", "-/filter:v", "-filter_script:v", "-/filter_complex"])
def test_f02_a_graph_in_a_file_is_checked_as_any_other(
    word: str, name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    inputs = {"evil.txt": path, "in.mp4": path}
    inputs.pop(name if name != "evil.txt" else "", None)
    with pytest.raises(TaskError, match=reason) as caught:
        compile_command(["-i", "in.mp4", word, name, "out.mp4"], inputs, None, tmp_path / "out")
    assert caught.value.details["token_index"] == 3
