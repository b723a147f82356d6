"""NVENC: whether it really encodes here, and what to take instead where it does not.

A listed encoder may lack its driver or its chip (A100, H100 and H200 have none), so each is tried
with one real frame. The stand-in encodes the same codec in software, with rate control, preset and
the rest put into its own terms.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.base import Policy
from gpu_worker_processors.render.base import Rendering
from gpu_worker_processors.render.failures import hardware_problem
from gpu_worker_processors.sandbox import program
from gpu_worker_processors.sandbox.program import Confinement

STAND_INS = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265", "av1_nvenc": "libsvtav1"}
"""Hardware encoder -> the software encoder of the same codec."""

_PROBE_SECONDS = 60.0
"""A CUDA context on a machine with many cards takes ten seconds and more."""
_SIDE_PX = 256
"""Above the smallest frame that any NVENC takes. NVIDIA Video Codec SDK, NV_ENC_CAPS_WIDTH_MIN."""

_X264_PRESETS = {
    "p1": "superfast",
    "p2": "veryfast",
    "p3": "faster",
    "p4": "medium",
    "p5": "slow",
    "p6": "slower",
    "p7": "veryslow",
    "fast": "fast",
    "slow": "slow",
    "hp": "veryfast",
    "hq": "slow",
    "bd": "slow",
    "ll": "veryfast",
    "llhq": "fast",
    "llhp": "superfast",
    "losslesshp": "superfast",
}
"""p1 to p7 run from fastest to best; the names are those before Video Codec SDK 10. What is not
here is "medium"."""
_SVT_PRESETS = {
    "superfast": "12",
    "veryfast": "11",
    "faster": "10",
    "fast": "9",
    "medium": "8",
    "slow": "6",
    "slower": "5",
    "veryslow": "4",
}
"""x264's names -> SVT-AV1's numbers, 0 best and 13 fastest."""
_PROFILES = {
    "libx264": {
        "baseline": "baseline",
        "main": "main",
        "high": "high",
        "high10": "high10",
        "high444p": "high444",
    },
    "libx265": {"main": "main", "main10": "main10"},
    "libsvtav1": dict[str, str](),
}
_PIXEL_FORMATS = {
    "nv12": "yuv420p",
    "p010le": "yuv420p10le",
    "p016le": "yuv420p10le",
    "yuv444p16le": "yuv444p10le",
    "bgr0": "yuv420p",
    "rgb0": "yuv420p",
    "bgra": "yuv420p",
    "rgba": "yuv420p",
}
"""Formats that NVENC takes and no other hardware encoder; from RGB it makes 4:2:0."""
_TAKEN_OVER = ("g", "bf", "refs", "keyint_min", "forced-idr")
_LOW_LATENCY = ("ll", "ull")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")


def has_gpu() -> bool:
    """Whether the driver put a card's device node here."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


@lru_cache(maxsize=16)
def unavailable(ffmpeg: Path, encoder: str, policy: Policy) -> str | None:
    """Why a hardware encoder does not work here, None when it encoded a frame; asked once in a
    process.

    Raises:
        TaskError: `sandbox_unavailable`.
    """
    if not has_gpu():
        return "there is no NVIDIA GPU in this system or container"
    source = f"color=black:size={_SIDE_PX}x{_SIDE_PX}:duration=0.1"
    words = (
        "-nostdin",
        "-v",
        "warning",
        "-f",
        "lavfi",
        "-i",
        source,
        "-frames:v",
        "1",
        "-c:v",
        encoder,
        "-f",
        "null",
        "-",
    )
    with tempfile.TemporaryDirectory() as folder:
        confinement = Confinement(Path(folder), gpu=True, policy=policy)
        child = program.start(
            ffmpeg,
            words,
            confinement,
            os.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, log = child.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            program.stop(child)
            child.communicate()
            return f"it did not encode one frame in {_PROBE_SECONDS:g} s"
    if child.returncode == 0:
        return None
    return (
        hardware_problem(log.decode("utf-8", "replace"), encoder)
        or f"it failed on a test frame (status {child.returncode})"
    )


def stand_in(encoder: str, options: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The software encoder for a hardware one, and its options.

    Args:
        encoder: of `STAND_INS`.
        options: the hardware encoder's, as `Rendering.video_options` has them.
    """
    software = STAND_INS[encoder]
    mapped = {name: options[name] for name in _TAKEN_OVER if name in options}
    mapped |= _preset(software, options) | _rate(software, options) | _tune(software, options)
    profile = _PROFILES[software].get(options.get("profile:v", ""))
    if profile is not None:
        mapped["profile:v"] = profile
    if software == "libx264":
        for name in ("level", "rc-lookahead"):
            if options.get(name, "auto") != "auto":
                mapped[name] = options[name]
    asked = options.get("pix_fmt")
    if asked is not None:
        mapped["pix_fmt"] = _PIXEL_FORMATS.get(asked, asked)
    elif software == "libx264":
        mapped[
            "pix_fmt"
        ] = (  # h264_nvenc makes 8 bit of everything; libx264 would write what few players show
            "yuv420p"
        )
    return software, mapped


def _preset(software: str, options: Mapping[str, str]) -> dict[str, str]:
    preset = _X264_PRESETS.get(options.get("preset", ""), "medium")
    return {"preset": _SVT_PRESETS[preset] if software == "libsvtav1" else preset}


def _rate(software: str, options: Mapping[str, str]) -> dict[str, str]:
    """Quality where quality was asked for, bits where bits were."""
    bits, cap = options.get("b:v", "0"), options.get("maxrate")
    if options.get("tune") == "lossless" or options.get("preset", "").startswith("lossless"):
        return {
            "libx264": {"qp": "0"},
            "libx265": {"x265-params": "lossless=1"},
            "libsvtav1": {"crf": "1"},
        }[software]
    if options.get("rc") == "constqp" or ("qp" in options and "rc" not in options):
        return {"qp": options.get("qp", "23")}
    if float(options.get("cq", "0") or 0) > 0:
        cap = cap or (
            bits if _bits(bits) else None
        )  # with a quality NVENC takes the bit rate for the ceiling
        return {"crf": options["cq"], **_ceiling(cap, options)}
    if not _bits(bits):
        return _ceiling(cap, options)
    if software == "libsvtav1":
        return {"b:v": bits}  # it knows a ceiling for a quality only
    if options.get("rc", "").startswith("cbr"):
        return {
            "b:v": bits,
            "minrate": bits,
            "maxrate": bits,
            "bufsize": options.get("bufsize", bits),
        }
    return {"b:v": bits, **_ceiling(cap, options)}


def _ceiling(cap: str | None, options: Mapping[str, str]) -> dict[str, str]:
    """A peak rate counts only together with a buffer; NVENC's own is two seconds long."""
    if cap is None or not _bits(cap):
        return {}
    return {"maxrate": cap, "bufsize": options.get("bufsize") or str(2 * _bits(cap))}


def _bits(text: str) -> int:
    """Bits per second of "5M", "800k" or "5000000"; 0 when it is no size."""
    found = _SIZE.fullmatch(text)
    if found is None:
        return 0
    return round(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}[found[2].lower()])


def _tune(software: str, options: Mapping[str, str]) -> dict[str, str]:
    if options.get("tune") in _LOW_LATENCY and software != "libsvtav1":
        return {"tune": "zerolatency"}
    return {}


@dataclass(frozen=True)
class Choice:
    """What will really run."""

    rendering: Rendering
    fallback_reason: str | None = None
    """Why its encoder is not the one that was asked for."""

    @property
    def gpu(self) -> bool:
        """Whether the run needs the card."""
        return self.rendering.uses_gpu or bool(hardware_encoders(self.rendering))


def hardware_encoders(rendering: Rendering) -> tuple[str, ...]:
    """Those of the card that its outputs ask for, in order."""
    encoders = (part.video_encoder for part in rendering.parts)
    return tuple(dict.fromkeys(name for name in encoders if name in STAND_INS))


def choose(rendering: Rendering, ffmpeg: Path, policy: Policy, *, require_hardware: bool) -> Choice:
    """The rendering as it is where what it needs of a card is here; else the same in software.

    Raises:
        TaskError: `hardware_encoder_unavailable` when the hardware is required and is not there;
            `sandbox_unavailable`.
    """
    if rendering.uses_gpu and not has_gpu():
        reason = "decoding and filters on a GPU: there is no NVIDIA GPU in this system or container"
        if require_hardware:
            raise TaskError(
                ErrorCode.hardware_encoder_unavailable,
                f"{reason}; leave out require_hardware to run in software",
            )
        chosen = choose(rendering.in_software(), ffmpeg, policy, require_hardware=False)
        why = [reason, *filter(None, [chosen.fallback_reason])]
        return dataclasses.replace(chosen, fallback_reason="; ".join(why))
    encoders = hardware_encoders(rendering)
    if not encoders and require_hardware:
        message = (
            f"require_hardware, and the video encoder is {rendering.video_encoder or 'none'};"
            f" allowed: {', '.join(STAND_INS)}"
        )
        raise TaskError(ErrorCode.hardware_encoder_unavailable, message)
    for encoder in encoders:
        reason = unavailable(ffmpeg, encoder, policy)
        if reason is not None:
            return fall_back(rendering, encoder, reason, require_hardware=require_hardware)
    return Choice(rendering)


def fall_back(rendering: Rendering, encoder: str, reason: str, *, require_hardware: bool) -> Choice:
    """The same in software.

    Args:
        encoder: the one that does not work.

    Raises:
        TaskError: `hardware_encoder_unavailable` when the hardware is required.
    """
    why = f"{encoder}: {reason}"
    if require_hardware:
        raise TaskError(
            ErrorCode.hardware_encoder_unavailable,
            f"{why}; leave out require_hardware to encode in software",
        )
    rest = rendering.in_software()  # frames on the card are for its own encoder only
    return Choice(rest.with_parts([_with_stand_in(part) for part in rest.parts]), why)


def _with_stand_in(part: Rendering) -> Rendering:
    encoder = part.video_encoder
    if encoder not in STAND_INS:
        return part
    return part.with_encoder(*stand_in(encoder, part.video_options))
