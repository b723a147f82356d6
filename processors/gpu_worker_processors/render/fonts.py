"""The fonts that text is drawn with: those that come with the worker, and the font files among the
task's inputs.

FFmpeg finds them by fontconfig, whose configuration is written here for each run. The system's own
fonts stay outside the sandbox, so a text is the same on every machine.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from gpu_worker_client.protocol import ErrorCode, TaskError

FAMILY = "Noto Sans"
"""What a text is drawn with that names no font, or one that is not here: Latin, Greek, Cyrillic.
Letters that it lacks come from the other shipped families."""
SIGNATURES = (b"\x00\x01\x00\x00", b"OTTO", b"ttcf", b"true", b"wOFF")
"""First bytes of TrueType, OpenType and WOFF files."""
_PACKAGES = ("manimgx_fonts", "noto_cjk_sans_otc")
"""Noto Sans for twenty scripts and Noto Emoji; Noto Sans CJK. Files only: nothing is imported."""
_DEFAULT_FILE = "NotoSans[wght].ttf"
_SIMPLIFIED = "Noto Sans CJK SC"
"""Of the faces that differ by a country's forms of the same characters, the most read one."""
_CONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
{folders}
<match target="pattern">
<edit name="family" mode="append_last" binding="weak"><string>{family}</string></edit>
</match>
</fontconfig>
"""


@dataclass(frozen=True)
class FontSetup:
    """What a program needs to find the fonts."""

    config: Path
    folders: tuple[Path, ...]

    @property
    def variables(self) -> dict[str, str]:
        return {"FONTCONFIG_FILE": str(self.config)}


def is_font(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(SIGNATURES)


def set_up(work_dir: Path, inputs: Iterable[Path]) -> FontSetup:
    """Lays the inputs that are fonts into a folder of their own and writes fontconfig's file.

    Args:
        work_dir: the job's; what is written there stays until the job's end.
    """
    folder = work_dir / "fonts"
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(path for path in inputs if is_font(path)):
        shutil.copyfile(path, folder / f"{number}{path.suffix}")
    folders = (folder, *shipped())
    listed = "\n".join(f"<dir>{escape(str(one))}</dir>" for one in folders)
    config = folder / "fonts.conf"
    config.write_text(_CONFIG.format(folders=listed, family=FAMILY), encoding="utf-8")
    return FontSetup(config, folders)


@lru_cache(maxsize=1)
def shipped() -> tuple[Path, ...]:
    """Folders of the fonts that come with the worker; none where they are not installed."""
    specs = (importlib.util.find_spec(package) for package in _PACKAGES)
    return tuple(Path(spec.origin).parent for spec in specs if spec is not None and spec.origin)


@dataclass(frozen=True)
class TextFont:
    """A font as libass knows it."""

    name: str
    """Full name, which fontconfig finds it by."""
    line_height: float
    """Of its em: libass scales a font so that this, not the em, is the size asked for."""


DEFAULT_FONT = TextFont(FAMILY, 1.519)
"""usWinAscent 1124 and usWinDescent 395 of 1000 units, in the file's OS/2 table."""


def text_font(path: Path) -> TextFont:
    """
    Raises:
        TaskError: `unsupported_media` for a file that is no font, or a broken one.
    """
    with _opened(path) as font:
        name = font["name"].getBestFullName()
        if not name:
            raise _unreadable()
        os2, head, hhea = font.get("OS/2"), font["head"], font["hhea"]
        height = os2.usWinAscent + os2.usWinDescent if os2 else 0
        return TextFont(name, (height or hhea.ascent - hhea.descent) / head.unitsPerEm)


def letters(path: Path) -> frozenset[int]:
    """Code points that a font draws.

    Raises:
        TaskError: as `text_font`.
    """
    with _opened(path) as font:
        return frozenset(font.getBestCmap() or ())


def shipped_families() -> Iterator[tuple[str, frozenset[int]]]:
    """Name and code points of each family that comes with the worker: the default one first, then
    Chinese, Japanese and Korean."""
    files = (file for folder in shipped() for file in sorted(folder.glob("*.tt[fc]")))
    for file in sorted(files, key=lambda file: (file.name != _DEFAULT_FILE, file.suffix != ".ttc")):
        yield from _families(file)


@lru_cache
def _families(file: Path) -> tuple[tuple[str, frozenset[int]], ...]:
    """Of a file of ours: one, or the faces of a collection, which draw the same letters."""
    if file.suffix != ".ttc":
        return ((_name(file), letters(file)),)
    with file.open("rb") as stream:
        count = struct.unpack(">8xI", stream.read(12))[0]
    known = letters(file)
    names = sorted((_name(file, number) for number in range(count)), key=_SIMPLIFIED.__ne__)
    return tuple((name, known) for name in names)


def _name(file: Path, number: int = 0) -> str:
    with _opened(file, number) as font:
        return font["name"].getBestFamilyName() or ""


def default_file() -> Path | None:
    """The file of `FAMILY`; None where it is not installed."""
    files = (folder / _DEFAULT_FILE for folder in shipped())
    return next((file for file in files if file.is_file()), None)


@contextmanager
def _opened(path: Path, number: int = 0) -> Generator[Any]:
    """A font's tables, read when they are asked for.

    Args:
        number: of a collection's face.
    """
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=number, lazy=True) as font:
            yield font
    except (TTLibError, LookupError, ValueError, AssertionError, TypeError, struct.error) as error:
        raise _unreadable() from error


def _unreadable() -> TaskError:
    return TaskError(ErrorCode.unsupported_media, "the font cannot be read: it is damaged")
