"""Sizes that an expression decides, or what comes into a filter, end at the limit of those that are
stated: typed, before a frame is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import clips
from support.render_kit import decoded, plain, rendered

from gpu_worker_client.protocol import ErrorCode, TaskError

CODEC = ("-c:v", "libx264", "-preset", "ultrafast", "-frames:v", "2")
WALL = "".join(f"[{n}]scale=5000:5000,setsar=1[t{n}];" for n in "abcd")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make(tmp_path_factory.mktemp("sizes") / "a.mp4", clips.Clip(frames=5))


TOO_LARGE = {
    "scale": "scale=iw*400:-2",
    "scale and back": "scale=iw*200:-2,scale=64:48",
    "pad": "pad=iw*150:ih*150",
    "rotate": "rotate=0:ow=iw*150:oh=ih*150",
    "zscale": "zscale=w=iw*200:h=ih*200",
    "tile": "scale=5000:5000,tile=2x2",
    "hqx": "scale=2000:2000,hqx=n=4",
    "xbr": "scale=2000:2000,xbr=n=4",
    "stacks": f"split=4[a][b][c][d];{WALL}[ta][tb][tc][td]xstack=4:grid=2x2",
    "drawtext": "drawtext=text=WM:fontsize=w*100",
    "drawtext later": "drawtext=text=WM:fontsize=40+10000*n",
}


@pytest.mark.slow
@pytest.mark.parametrize("graph", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_size_above_the_limit(tmp_path: Path, clip: Path, graph: str) -> None:
    words = ("-filter_complex", f"[0:v]{graph}[o]", "-map", "[o]")
    with pytest.raises(TaskError) as caught:
        rendered(tmp_path, *words, *CODEC, "out.mp4", a=clip)
    assert caught.value.code is ErrorCode.media_limit, caught.value


@pytest.mark.parametrize(
    "graph",
    ["drawtext=text=W:fontsize=16384", "scale=16384:16384", "v360=e:flat:w=16384:h=16384"],
)
def test_a_stated_size_above_the_limit(tmp_path: Path, clip: Path, graph: str) -> None:
    with pytest.raises(TaskError) as caught:
        rendered(tmp_path, "-vf", graph, *CODEC, "out.mp4", a=clip)
    assert caught.value.code is ErrorCode.ffmpeg_arg_denied, caught.value


FINE = {
    "scale": "scale=iw*2:-2",
    "an odd size": "scale=iw+1:ih+3,format=yuv444p",
    "pad": "pad=iw+16:ih+16:8:8",
    "several": "split[a][b];[a]scale=w=iw/2:h=-2[c];[b]scale=32:24[d];[c][d]hstack",
    "ten bits": "scale=iw*2:-2,format=yuv420p10",
}


@pytest.mark.parametrize("graph", FINE.values(), ids=FINE)
def test_below_it_every_frame_is_plain_ffmpegs(tmp_path: Path, clip: Path, graph: str) -> None:
    words = ("-filter_complex", f"[0:v]{graph}[o]", "-map", "[o]", "-c:v", "ffv1")
    rendered(tmp_path, *words, "out.mkv", a=clip)
    plain("-i", str(clip), *words, str(tmp_path / "plain.mkv"))
    assert decoded(tmp_path / "output.mkv") == decoded(tmp_path / "plain.mkv")
