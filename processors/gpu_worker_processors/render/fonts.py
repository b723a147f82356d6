"""The fonts that text is drawn with: those that come with the worker, and the font files among the
task's inputs.

FFmpeg finds them by fontconfig, whose configuration is written here for each run. The system's own
fonts stay outside the sandbox, so a text is the same on every machine.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from gpu_worker_client.protocol import ErrorCode, ResultWarning, TaskError

FAMILY = "Noto Sans"
"""What a text is drawn with that names no font, or one that is not here: Latin, Greek, Cyrillic.
Letters that it lacks come from the other shipped families."""
SIGNATURES = (b"\x00\x01\x00\x00", b"OTTO", b"ttcf", b"true", b"wOFF")
"""First bytes of TrueType, OpenType and WOFF files."""
_PACKAGES = ("manimgx_fonts", "noto_cjk_sans_otc")
"""Noto Sans for twenty scripts and Noto Emoji; Noto Sans CJK. Files only: nothing is imported."""
_NAMED_LETTERS = 8
"""In one warning."""
_DEFAULT_FILE = "NotoSans[wght].ttf"
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


def missing(text: str, path: Path) -> set[str]:
    """The characters of a text that a font does not draw.

    Raises:
        TaskError: as `text_font`.
    """
    known = letters(path)
    return {letter for letter in text if letter.isprintable() and ord(letter) not in known}


def default_file() -> Path | None:
    """The file of `FAMILY`; None where it is not installed."""
    files = (folder / _DEFAULT_FILE for folder in shipped())
    return next((file for file in files if file.is_file()), None)


def missing_glyphs(letters: Collection[str]) -> list[ResultWarning]:
    """One warning that names the letters, none without any."""
    if not letters:
        return []
    named = [f"{letter} (U+{ord(letter):04X})" for letter in sorted(letters)[:_NAMED_LETTERS]]
    more = f" and {len(letters) - len(named)} more" if len(letters) > len(named) else ""
    return [
        ResultWarning(
            code="missing_glyphs",
            message=f"no font here draws {', '.join(named)}{more}: boxes stand for them, or"
            " nothing; send a font that has them among the inputs",
        )
    ]


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """A font's tables, read when they are asked for."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            yield font
    except (TTLibError, LookupError, ValueError, AssertionError, TypeError, struct.error) as error:
        raise _unreadable() from error


def _unreadable() -> TaskError:
    return TaskError(ErrorCode.unsupported_media, "the font cannot be read: it is damaged")
