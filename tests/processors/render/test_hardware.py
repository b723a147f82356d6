"""NVENC: the table of stand-ins as pure rows, each run through the shipped FFmpeg; what a machine
without a card answers."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import av
import pytest
from support import clips

from gpu_worker_client.protocol import ErrorCode, RenderParams, TaskError
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.render import hardware
from gpu_worker_processors.render.failures import hardware_problem
from gpu_worker_processors.render.hardware import STAND_INS, stand_in
from gpu_worker_processors.render.processor import PROCESSOR
from gpu_worker_processors.sandbox import landlock

needs_sandbox = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)
needs_no_card = pytest.mark.skipif(hardware.has_gpu(), reason="there is a card here")

CODECS = {"h264_nvenc": {"h264"}, "hevc_nvenc": {"hevc"}, "av1_nvenc": {"av1", "libdav1d"}}
ROWS = [
    pytest.param("h264_nvenc", {}, {"preset": "medium", "pix_fmt": "yuv420p"}, id="defaults"),
    pytest.param("h264_nvenc", {"preset": "p1"}, {"preset": "superfast"}, id="fastest"),
    pytest.param("hevc_nvenc", {"preset": "p7"}, {"preset": "veryslow"}, id="best"),
    pytest.param("av1_nvenc", {"preset": "p7"}, {"preset": "4"}, id="best of AV1"),
    pytest.param("h264_nvenc", {"preset": "llhq"}, {"preset": "fast"}, id="an old preset"),
    pytest.param(
        "h264_nvenc", {"rc": "vbr", "cq": "23", "b:v": "0"}, {"crf": "23"}, id="constant quality"
    ),
    pytest.param(
        "av1_nvenc",
        {"rc": "vbr", "cq": "30", "b:v": "0"},
        {"crf": "30"},
        id="constant quality of AV1",
    ),
    pytest.param(
        "h264_nvenc",
        {"cq": "23", "b:v": "5M"},
        {"crf": "23", "maxrate": "5M", "bufsize": "10000000"},
        id="quality under a ceiling",
    ),
    pytest.param("h264_nvenc", {"b:v": "5M"}, {"b:v": "5M"}, id="bit rate"),
    pytest.param(
        "h264_nvenc",
        {"rc": "vbr", "b:v": "5M", "maxrate": "8M"},
        {"b:v": "5M", "maxrate": "8M", "bufsize": "16000000"},
        id="bit rate with a peak",
    ),
    pytest.param(
        "av1_nvenc", {"b:v": "500k", "maxrate": "1M"}, {"b:v": "500k"}, id="bit rate of AV1"
    ),
    pytest.param(
        "hevc_nvenc",
        {"rc": "cbr", "b:v": "2M"},
        {"b:v": "2M", "minrate": "2M", "maxrate": "2M", "bufsize": "2M"},
        id="constant bit rate",
    ),
    pytest.param(
        "h264_nvenc", {"rc": "constqp", "qp": "20"}, {"qp": "20"}, id="constant quantiser"
    ),
    pytest.param(
        "hevc_nvenc", {"rc": "constqp", "qp": "20"}, {"qp": "20"}, id="constant quantiser of HEVC"
    ),
    pytest.param(
        "av1_nvenc", {"rc": "constqp", "qp": "60"}, {"qp": "60"}, id="constant quantiser of AV1"
    ),
    pytest.param("h264_nvenc", {"tune": "lossless"}, {"qp": "0"}, id="lossless"),
    pytest.param(
        "hevc_nvenc", {"tune": "lossless"}, {"x265-params": "lossless=1"}, id="lossless HEVC"
    ),
    pytest.param("h264_nvenc", {"tune": "ull"}, {"tune": "zerolatency"}, id="low latency"),
    pytest.param("h264_nvenc", {"tune": "hq"}, {}, id="tuned for quality, as software is anyway"),
    pytest.param("h264_nvenc", {"profile:v": "high"}, {"profile:v": "high"}, id="profile"),
    pytest.param("hevc_nvenc", {"pix_fmt": "p010le"}, {"pix_fmt": "yuv420p10le"}, id="ten bits"),
    pytest.param("h264_nvenc", {"pix_fmt": "nv12"}, {"pix_fmt": "yuv420p"}, id="half planar"),
    pytest.param(
        "h264_nvenc",
        {"g": "48", "bf": "2", "level": "4.1"},
        {"g": "48", "bf": "2", "level": "4.1"},
        id="as they are",
    ),
    pytest.param(
        "hevc_nvenc",
        {"tier": "high", "level": "5.1", "spatial-aq": "1", "b_ref_mode": "middle"},
        {},
        id="left out",
    ),
]


@pytest.mark.parametrize(("encoder", "options", "expected"), ROWS)
def test_the_stand_in(
    encoder: str, options: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    software, mapped = stand_in(encoder, options)
    assert software == STAND_INS[encoder]
    assert expected.items() <= mapped.items()
    asked = (
        {name for name in expected if name != "preset"}
        | {"preset"}
        | ({"pix_fmt"} if software == "libx264" else set())
    )
    assert set(mapped) == asked, "nothing that was not asked for"


def job(tmp_path: Path, *words: str, require_hardware: bool = False) -> LocalJob:
    command = ["-f", "lavfi", "-i", "testsrc2=size=128x96:duration=0.4", *words]
    params = RenderParams(command_args=command, require_hardware=require_hardware)
    return LocalJob(id="t", params=params, work_dir=tmp_path, output_path=tmp_path / "output.mp4")


@needs_sandbox
@needs_no_card
@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "options"), [pytest.param(*row.values[:2], id=row.id) for row in ROWS]
)
def test_ffmpeg_takes_what_the_stand_in_gets(
    tmp_path: Path, encoder: str, options: Mapping[str, str]
) -> None:
    fast = dict(options) if "preset" in options else {**options, "preset": "p1"}
    words = [word for name, value in fast.items() for word in (f"-{name}", value)]
    result = PROCESSOR.run(job(tmp_path, "-c:v", encoder, *words, "out.mp4"))
    assert result.stats.encoder_used == STAND_INS[encoder]
    assert (
        result.stats.fallback_reason
        == f"{encoder}: there is no NVIDIA GPU in this system or container"
    )
    assert (
        result.worker is not None and result.worker.fallback_reason == result.stats.fallback_reason
    )
    with av.open(str(tmp_path / "output.mp4")) as output:
        assert output.streams.video[0].codec_context.name in CODECS[encoder]


@needs_sandbox
@needs_no_card
@pytest.mark.parametrize("words", [("-c:v", "h264_nvenc"), ("-c:v", "libx264")])
def test_required_hardware_is_not_replaced(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(TaskError) as caught:
        PROCESSOR.run(job(tmp_path, *words, "out.mp4", require_hardware=True))
    assert caught.value.code is ErrorCode.hardware_encoder_unavailable
    assert not (tmp_path / "output.mp4").exists()


@needs_sandbox
@needs_no_card
def test_a_command_for_a_card_runs_in_software_without_one(tmp_path: Path) -> None:
    words = ["-vsync", "0", "-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-i", "a.mp4"]
    words += ["-vf", "scale_cuda=32:24:format=yuv420p", "-c:v", "h264_nvenc", "out.mp4"]
    clip = clips.make(tmp_path / "a.mp4")
    params = RenderParams(command_args=words)
    result = PROCESSOR.run(
        dataclasses.replace(job(tmp_path), params=params, inputs={"a.mp4": clip})
    )
    assert result.stats.encoder_used == "libx264"
    assert result.stats.fallback_reason is not None
    assert "decoding and filters on a GPU" in result.stats.fallback_reason
    with av.open(str(tmp_path / "output.mp4")) as output:
        frame = next(output.decode(output.streams.video[0]))
        assert (frame.width, frame.height) == (32, 24)


@needs_no_card
def test_filters_on_a_card_are_not_replaced_where_hardware_is_required(tmp_path: Path) -> None:
    words = ("-vf", "hwupload_cuda,scale_cuda=64:48", "out.mp4")
    with pytest.raises(TaskError, match="filters on a GPU") as caught:
        PROCESSOR.run(job(tmp_path, *words, require_hardware=True))
    assert caught.value.code is ErrorCode.hardware_encoder_unavailable


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("[h264_nvenc @ 0x1] Cannot load libcuda.so.1", "the NVIDIA driver has no encoder here"),
        (
            (
                "[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: unsupported device (2): (no"
                " details)\n[h264_nvenc @ 0x1] No capable devices found"
            ),
            "this GPU has no encoder for it",
        ),
        (
            "[h264_nvenc @ 0x1] OpenEncodeSessionEx failed: out of memory (10)",
            "all its sessions are in use",
        ),
        ("[h264_nvenc @ 0x1] 10 bit encode not supported", "this GPU cannot encode this format"),
        (
            (
                "[h264_nvenc @ 0x1] InitializeEncoder failed: invalid param (8): Frame Dimension"
                " exceeds"
            ),
            "of this size",
        ),
        ("[h264 @ 0x1] Invalid NAL unit size", None),
        ("[libx264 @ 0x1] width not divisible by 2", None),
    ],
)
def test_why_the_card_refused(log: str, reason: str | None) -> None:
    found = hardware_problem(log, "h264_nvenc")
    assert (found is None) == (reason is None)
    assert reason is None or (found is not None and reason in found)


@pytest.mark.gpu
@needs_sandbox
def test_a_card_encodes_or_says_why_not(tmp_path: Path) -> None:
    """On a card with NVENC the encoder is used; on one without (A100, H100, H200) its refusal is
    understood."""
    result = PROCESSOR.run(job(tmp_path, "-c:v", "h264_nvenc", "-b:v", "1M", "out.mp4"))
    if result.stats.encoder_used == "h264_nvenc":
        assert result.stats.fallback_reason is None
    else:
        assert result.stats.encoder_used == "libx264"
        assert (
            result.stats.fallback_reason is not None
            and "status" not in result.stats.fallback_reason
        )
    assert result.stats.sandbox == "full"


@needs_sandbox
@needs_no_card
def test_each_output_has_its_own_stand_in(tmp_path: Path) -> None:
    clip = clips.make(tmp_path / "in.mp4")
    words = "-i in.mp4 -c:v h264_nvenc -cq 25 big.mp4 -c:v hevc_nvenc -s 32x24 small.mp4"
    job = LocalJob(
        id="t",
        params=RenderParams(command_args=words.split()),
        work_dir=tmp_path,
        inputs={"in.mp4": clip},
        output_path=tmp_path / "out.zip",
    )
    result = PROCESSOR.run(job)
    assert result.stats.fallback_reason
    with zipfile.ZipFile(tmp_path / "out.zip") as files:
        files.extractall(tmp_path / "made")
    found = {}
    for path in (tmp_path / "made").iterdir():
        with av.open(str(path)) as container:
            found[path.name] = container.streams.video[0].codec_context.name
    assert found == {"big.mp4": "h264", "small.mp4": "hevc"}
