"""Why a word of a command is refused, and where that becomes an answer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from gpu_worker_client.protocol import ErrorCode, TaskError

_SLIP = 0.8
"""Likeness of a name to what it was meant to be (difflib's ratio): a letter too many, missing or
swapped. "scael" and "scale" have 0.8."""
_DIGITS = re.compile(r"[0-9]+")
_SUBSTITUTES = {
    used: name
    for name, all_used in {
        "aac": "libfdk_aac libfaac libvo_aacenc aac_at aac_mf",
        "libmp3lame": "libshine mp3_mf lame",
        "mp2": "libtwolame mp2fixed",
        "libopus": "opus",
        "libvorbis": "vorbis",
        "libx264": "x264 avc libopenh264 h264_qsv h264_vaapi h264_videotoolbox h264_amf h264_mf"
        " h264_v4l2m2m h264_omx libx264rgb",
        "libx265": "x265 h265 libkvazaar hevc_qsv hevc_vaapi hevc_videotoolbox hevc_amf hevc_mf",
        "h264_nvenc": "nvenc nvenc_h264",
        "hevc_nvenc": "h265_nvenc nvenc_hevc nvenc_h265",
        "libsvtav1": "av1 librav1e av1_qsv av1_vaapi av1_amf svt-av1 svtav1",
        "libvpx-vp9": "vp9_qsv vp9_vaapi libvpx_vp9",
        "mpeg4": "libxvid xvid divx msmpeg4v2 msmpeg4",
        "mpeg2video": "mpeg1video mpeg2_qsv mpeg2_vaapi",
        "prores_ks": "prores_aw prores_videotoolbox",
        "libwebp": "webp",
        "mov_text": "tx3g",
        "bwdif": "kerndeint mcdeint nnedi deinterlace estdif w3fdif yadif",
        "scale_cuda": "scale_npp scale_vaapi scale_qsv",
        "subtitles": "subtitle sub burn",
        "fps_mode": "vsync",
        "matroska": "mkv",
        "mpegts": "ts",
        "rubberband": "pitch asetrate",
    }.items()
    for used in all_used.split()
}
"""A name that people use -> the allowed one that does the same."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,39}")


class Denied(Exception):
    """A word, or a part of one, that is not in the tables.

    Args:
        reason: a clause that says what is not allowed, and what is; never the caller's text but for
            what has the form of a name.
        name: what was written, when it should have been one of `allowed`.
        allowed: names among which a substitute is sought.
    """

    def __init__(self, reason: str, name: str = "", allowed: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nearest = nearest(name, allowed)

    def within(self, context: str) -> Denied:
        """The same with where it was found in front: "in the filter scale"."""
        outer = Denied(f"{context}: {self.reason}")
        outer.nearest = self.nearest
        return outer


def no_input(name: str, names: Iterable[str]) -> Denied:
    """A file that is read beside the streams and is none of the task's inputs. Another one is
    suggested where it may be of the same kind."""
    suffix = name.rpartition(".")[2].lower()
    alike = [known for known in names if known.rpartition(".")[2].lower() == suffix]
    file = name.rpartition("/")[2] or name
    return Denied(
        f"{shown(file)} must be the name of one of the task's inputs: send the file among them",
        file,
        alike,
    )


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that does the same, or the one that `name` is a slip of; None without one.
    Names that are only spelt alike do other things: "deshake" is no "decimate"."""
    by_lower = {known.lower(): known for known in allowed}
    substitute = _SUBSTITUTES.get(name.lower(), "")
    if substitute in by_lower:
        return by_lower[substitute]
    is_file = "." in name
    cutoff = 0 if is_file else _SLIP
    close = difflib.get_close_matches(name[:64].lower(), by_lower, n=3, cutoff=cutoff)
    meant = (known for known in close if is_file or not _is_another_number(name.lower(), known))
    return next((by_lower[known] for known in meant), None)


def _is_another_number(name: str, known: str) -> bool:
    """h264 is no slip of h265; h246 is one of h264."""
    given, other = _DIGITS.findall(name), _DIGITS.findall(known)
    swapped = [*map(sorted, given)] == [*map(sorted, other)]
    return not swapped and [*map(len, given)] == [*map(len, other)]


def shown(name: str) -> str:
    """A name as it may stand in a message; text that has not the form of one is not echoed."""
    return f'"{name}"' if _NAME.fullmatch(name) else "of that name"


@contextmanager
def at_token(index: int) -> Generator[None]:
    """Turns a `Denied` inside into the task's error.

    Args:
        index: 0-based position of the word in `command_args`.

    Raises:
        TaskError: `ffmpeg_arg_denied` with `token_index`, `reason` and `nearest` in its details.
    """
    try:
        yield
    except Denied as denied:
        hint = f'; use "{denied.nearest}"' if denied.nearest else ""
        raise TaskError(
            ErrorCode.ffmpeg_arg_denied,
            f"command_args[{index}]: {denied.reason}{hint}",
            token_index=index,
            reason=denied.reason,
            nearest=denied.nearest,
        ) from None
