r"""Makes text of an endpoint, a worker or a bucket fit to be seen by a person: what a terminal
would obey is written out, as `\x1b` or `\u202e`. An escape sequence can clear the screen, rename
the window or hide what was printed before it."""

from __future__ import annotations

import re

# C0, DEL and C1 (ECMA-48); the line and paragraph separators; the bidirectional controls (Unicode
# Standard Annex 9), which show text in another order than it has; lone surrogates, which no UTF-8
# stream takes.
_OBEYED = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def shown(text: str, *, lines: bool = False) -> str:
    """`text` with every control character written out; what was shown once stays as it is.

    Args:
        text: anybody's.
        lines: leave line feeds and tabs, for a text that may have more than one line.
    """
    kept = "\n\t" if lines else ""
    return _OBEYED.sub(lambda found: found[0] if found[0] in kept else _written(found[0]), text)


def _written(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
