"""Texts that FFmpeg draws in one font each, as `drawtext` does: which letters the font lacks, and
which family that comes with the worker has them. FFmpeg draws boxes for them and says nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_worker_client.protocol import ResultWarning
from gpu_worker_processors.render.fonts import FAMILY, is_font, letters, shipped_families

_NAMED_LETTERS = 8
"""In one warning."""


@dataclass(frozen=True)
class DrawnText:
    """A text and the one font that draws it."""

    text: str
    family: str = FAMILY
    font: Path | None = None
    """File among the inputs, instead of the family."""
    is_chosen: bool = False
    """Whether the worker chose the family, as the command names no font."""

    @property
    def missing(self) -> set[str]:
        """Its letters that the font does not draw; none where the family is not installed."""
        if self.font is not None:
            return _missing(self.text, letters(self.font))
        return next(
            (
                _missing(self.text, known)
                for name, known in shipped_families()
                if name == self.family
            ),
            set[str](),
        )


def in_any_font(text: str) -> DrawnText:
    """A text that names no font: in the default one, else in the first family that draws all of
    it."""
    family = _family_of(text) or FAMILY
    return DrawnText(text, family, is_chosen=family != FAMILY)


def in_family(text: str, name: str, inputs: Iterable[Path]) -> DrawnText | None:
    """A text in a family by its name: the default one where none has that name; None where it may
    be a font among the inputs."""
    names = (family for family, _ in shipped_families() if family.lower() == name.lower())
    family = next(names, None)
    if family is None and any(map(is_font, inputs)):
        return None
    return DrawnText(text, family or FAMILY)


def glyph_warnings(texts: Iterable[DrawnText], undrawn: Iterable[str]) -> Iterator[ResultWarning]:
    """
    Args:
        undrawn: letters of other texts, for which every font was tried.
    """
    lost = set(undrawn)
    for one in texts:
        if one.is_chosen:
            message = (
                f"drawtext names no font, and {FAMILY} lacks {_named(DrawnText(one.text).missing)}:"
                f" the text is drawn in {one.family}"
            )
            yield ResultWarning(code="font_chosen", message=message)
        missing = one.missing
        families = list(_families_of(missing))
        found = {letter for _, drawn in families for letter in drawn}
        lost |= missing - found
        if found:
            font = one.family if one.font is None else "the font of drawtext"
            message = (
                f"{font} lacks {_named(found)}: boxes stand for them; {_advice(one, families)}"
            )
            yield ResultWarning(code="missing_glyphs", message=message)
    if lost:
        message = (
            f"no font here draws {_named(lost)}: boxes stand for them, or nothing; send a font that"
            " has them among the inputs"
        )
        yield ResultWarning(code="missing_glyphs", message=message)


def _advice(one: DrawnText, families: Collection[tuple[str, set[str]]]) -> str:
    whole = _family_of(one.text)
    if whole is not None:
        return f"give drawtext font={whole}{' instead of fontfile' if one.font else ''}"
    parts = (f"font={family} for {_named(drawn)}" for family, drawn in families)
    return f"drawtext draws a text in one font, so use one drawtext more with {', '.join(parts)}"


def _family_of(text: str) -> str | None:
    """The first shipped family that draws all of a text, the default one before all."""
    return next((name for name, known in shipped_families() if not _missing(text, known)), None)


def _families_of(missing: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Shipped families that draw some letters, with those of them that no family before drew."""
    for name, known in shipped_families() if missing else ():
        rest = _missing(missing, known)
        if rest != missing:
            yield name, missing - rest
        missing = rest
        if not missing:
            return


def _missing(text: Iterable[str], known: Iterable[int]) -> set[str]:
    points = frozenset(known)
    return {letter for letter in text if letter.isprintable() and ord(letter) not in points}


def _named(letters: Collection[str]) -> str:
    named = [f"{letter} (U+{ord(letter):04X})" for letter in sorted(letters)[:_NAMED_LETTERS]]
    more = f" and {len(letters) - len(named)} more" if len(letters) > len(named) else ""
    return f"{', '.join(named)}{more}"
