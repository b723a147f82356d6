"""One word per thing: a clean folder gets no word of the glossary back, and the scanner sees each
way in which one could."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT

CLEAN = (
    "client/gpu_worker_client",
    "processors/gpu_worker_processors",
    "gpu-worker",
    "benchmarks",
    "docs",
    "examples",
    "tests/support",
)
"""Folders of `glossary.FOLDERS`, or inside one, without a use."""

SAMPLE = '''"""Where a film lies, and `film` as a name."""
from json import loads as looks
class Wire:
    book: int
    """Kept here."""
def told(place, *, picture=None):
    """Staged elsewhere; a placeholder is replaced."""
    with open("a") as sound:
        sound.further = begin = placeholder = replaced = "a film in a string"
    try:
        for _jail, misfitLane in []:
            pass
    except OSError as others:
        pass
'''


@pytest.fixture(scope="module")
def glossary() -> ModuleType:
    spec = importlib.util.spec_from_file_location("glossary", Path(__file__).parent / "glossary.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["glossary"] = module
    spec.loader.exec_module(module)
    return module


def test_a_clean_folder_stays_clean(glossary: ModuleType) -> None:
    for folder in CLEAN:
        assert any(Path(folder).is_relative_to(scanned) for scanned in glossary.FOLDERS), folder
        assert (ROOT / folder).is_dir(), folder
    found = [
        str(use)
        for use in glossary.uses()
        if any(use.path.is_relative_to(folder) for folder in CLEAN)
    ]
    assert not found, "\n".join(found)


def test_every_scanned_folder_is_there(glossary: ModuleType) -> None:
    for folder in glossary.FOLDERS:
        assert any((ROOT / folder).rglob("*.py")), folder


def test_the_scanner_sees_identifiers_modules_and_docstrings(
    glossary: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "passing_frames.py").write_text(SAMPLE, encoding="utf-8")
    found = sorted((use.line, use.word) for use in glossary.uses(tmp_path))
    assert found == [
        (1, "film"),
        (1, "passing"),
        (2, "looks"),
        (3, "wire"),
        (4, "book"),
        (5, "kept"),
        (6, "picture"),
        (6, "place"),
        (6, "told"),
        (7, "elsewhere"),
        (7, "staged"),
        (8, "sound"),
        (9, "begin"),
        (9, "further"),
        (11, "jail"),
        (11, "lane"),
        (11, "misfit"),
        (13, "others"),
    ]
