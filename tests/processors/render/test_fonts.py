"""Text inside the sandbox: burnt subtitles, drawn texts and overlays have the letters that plain
FFmpeg draws with the same fonts, and a letter that no font has is named."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from support import clips
from support.render_kit import decoded, font_folders, fontconfig, plain, rendered
from support.timeline_kit import lumas, rendered_timeline, still

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.render.fonts import DEFAULT_FONT, default_file, shipped, text_font
from gpu_worker_processors.sandbox import landlock

pytestmark = pytest.mark.skipif(
    landlock.abi() == 0, reason="this kernel has no Landlock, and render requires it"
)

SERIF = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
"""A font that the worker has not: its licence lets anyone ship it."""
SCRIPTS = {
    "Latin": ("Crème brûlée, ćevapčići", "Straße, Łódź, İzmir ağı"),
    "Greek": ("Καλημέρα κόσμε", "Ευχαριστώ πολύ"),
    "Cyrillic": ("Доброе утро, Київ", "Спасибо большое"),
    "Chinese": ("你好世界", "谢谢大家"),
    "Japanese": ("日本語テキスト", "カタカナと漢字"),
    "Korean": ("안녕하세요", "감사합니다"),
    "Arabic": ("مرحبا بالعالم", "شكرا جزيلا"),
    "Hebrew": ("שלום עולם", "תודה רבה"),
    "Devanagari": ("नमस्ते दुनिया", "धन्यवाद मित्र"),
    "Thai": ("สวัสดีชาวโลก", "ขอบคุณมาก"),
    "Tamil": ("வணக்கம்", "நன்றி"),
    "emoji": ("😀⚽🔥", "🎉👍🏀"),
    "mixed": ("Goal! ⚽ 日本 مرحبا", "Goal! 🔥 中国 שלום"),
}
"""Two texts of each."""
UNKNOWN = "\N{CUNEIFORM SIGN A}"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clips.make(tmp_path / "clip.mp4", clips.Clip(width=640, height=96, frames=3))


def subtitles(path: Path, *lines: str) -> Path:
    text = "\n".join(lines)
    path.write_text(f"1\n00:00:00,000 --> 00:00:09,000\n{text}\n", encoding="utf-8")
    return path


def same(tmp_path: Path, graph: str, clip: Path, *folders: Path, **inputs: Path) -> list[str]:
    """Compares both and answers the warnings.

    Args:
        folders: of the fonts that plain FFmpeg gets besides those of the worker.
    """
    words = ("-vf", graph, "-c:v", "ffv1", "out.mkv")
    result = rendered(tmp_path, *words, a=clip, **inputs)
    config = fontconfig(tmp_path / "plain.conf", *font_folders(), *folders)
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    plain("-i", "a.mp4", *words[:-1], "plain.mkv", cwd=tmp_path, env={"FONTCONFIG_FILE": config})
    plain("-i", "a.mp4", "-c:v", "ffv1", "bare.mkv", cwd=tmp_path)
    assert decoded(tmp_path / "output.mkv") == decoded(tmp_path / "plain.mkv")
    assert decoded(tmp_path / "output.mkv") != decoded(tmp_path / "bare.mkv")
    return [one.message for one in result.warnings]


def test_burnt_subtitles_are_those_of_plain_ffmpeg(tmp_path: Path, clip: Path) -> None:
    texts = [first for first, _ in SCRIPTS.values()]
    words = subtitles(tmp_path / "words.srt", *texts)
    assert same(tmp_path, "subtitles=words.srt:force_style='FontSize=6'", clip, words=words) == []


@pytest.mark.parametrize("font", ["", ":font=Noto Sans CJK JP"])
def test_drawtext_needs_no_font_file(font: str, tmp_path: Path, clip: Path) -> None:
    assert same(tmp_path, f"drawtext=text=Hello{font}:fontsize=30:x=9:y=9", clip) == []


@pytest.mark.parametrize(
    "graph",
    [
        "subtitles=words.srt:force_style='FontName=DejaVu Serif'",
        "drawtext=text=Hello:font=DejaVu Serif:fontsize=30",
    ],
    ids=["subtitles", "drawtext"],
)
def test_a_font_among_the_inputs_is_found_by_its_name(
    graph: str, tmp_path: Path, clip: Path
) -> None:
    words = subtitles(tmp_path / "words.srt", "Hello")
    folder = tmp_path / "serif"
    folder.mkdir()
    (folder / SERIF.name).write_bytes(SERIF.read_bytes())
    assert same(tmp_path, graph, clip, folder, words=words, serif=SERIF) == []
    (tmp_path / "job").mkdir()
    rendered(tmp_path / "job", "-vf", graph, "-c:v", "ffv1", "out.mkv", a=clip, words=words)
    assert decoded(tmp_path / "job" / "output.mkv") != decoded(tmp_path / "plain.mkv")


def test_a_font_that_is_attached_is_used(tmp_path: Path, clip: Path) -> None:
    words = subtitles(tmp_path / "words.srt", "Hello")
    plain("-i", str(words), "words.ass", cwd=tmp_path)
    script = tmp_path / "words.ass"
    script.write_text(script.read_text().replace("Arial", "DejaVu Serif"))
    attach = ("-attach", str(SERIF), "-metadata:s:t", "mimetype=application/x-truetype-font")
    for name, more in (("with", attach), ("without", ())):
        plain("-i", str(clip), "-i", str(script), "-c", "copy", *more, f"{name}.mkv", cwd=tmp_path)
    film, graph = tmp_path / "film.mkv", "subtitles=film.mkv"
    (tmp_path / "with.mkv").rename(film)
    assert same(tmp_path, graph, clip, film=film) == []
    first = decoded(tmp_path / "output.mkv")
    (tmp_path / "without.mkv").rename(film)
    rendered(tmp_path, "-vf", graph, "-c:v", "ffv1", "out.mkv", a=clip, film=film)
    assert decoded(tmp_path / "output.mkv") != first


def drawn(text: str, tmp_path: Path, **overlay: object) -> tuple[NDArray[np.float64], list[str]]:
    """The first frame with a text at (10, 12), 20 pixels high, and the warnings."""
    inputs = {"blank.png": still(tmp_path / "blank.png", size=(640, 108)), "serif.ttf": SERIF}
    timeline = {
        "clips": [{"input": "blank.png", "end": 0.04}],
        "overlays": [{"text": text, "x": 10, "y": 12, "font_size": 20, **overlay}],
        "output": {"crf": 0},
    }
    result = rendered_timeline(timeline, inputs, tmp_path / "out.mp4")
    return next(lumas(tmp_path / "out.mp4")), [one.message for one in result.warnings]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_text_over_the_video_has_letters_of_its_own(script: str, tmp_path: Path) -> None:
    """Boxes would be alike."""
    first, second = (drawn(text, tmp_path) for text in SCRIPTS[script])
    assert first[1] == second[1] == []
    assert min(first[0].max(), second[0].max()) > 150
    assert np.abs(first[0] - second[0]).max() > 100


def test_a_text_over_the_video_takes_a_font_of_the_inputs(tmp_path: Path) -> None:
    serif, sans = drawn("Hello", tmp_path, font="serif.ttf")[0], drawn("Hello", tmp_path)[0]
    assert np.abs(serif - sans).max() > 100
    with pytest.raises(TaskError, match=r"overlays\.0\.font: is no TrueType") as caught:
        drawn("Hello", tmp_path, font="blank.png")
    assert caught.value.code is ErrorCode.invalid_task


def test_letters_that_no_font_has_are_named(tmp_path: Path, clip: Path) -> None:
    words = subtitles(tmp_path / "words.srt", f"Hello {UNKNOWN}")
    named = f"{UNKNOWN} (U+12000)"
    for graph, letters in (
        ("subtitles=words.srt", named),
        (f"drawtext=text=Hello {UNKNOWN}", named),
        ("drawtext=textfile=words.srt", named),
        (
            "drawtext=font=Noto Sans:text='a %{localtime\\:日}'",
            "give drawtext font=Noto Sans CJK SC",
        ),
        ("drawtext=text='日 😀'", "font=Noto Emoji for 😀 (U+1F600)"),
        ("drawtext=fontfile=serif.ttf:text='日'", "日 (U+65E5)"),
    ):
        result = rendered(*(tmp_path, "-vf", graph, "out.mp4"), a=clip, words=words, serif=SERIF)
        assert [one.code for one in result.warnings] == ["missing_glyphs"], graph
        assert letters in result.warnings[0].message
    assert named in drawn(f"Hello {UNKNOWN}", tmp_path)[1][0]


@pytest.mark.parametrize("option", ["text='进球 ゴール 골 2-1'", "textfile=words.txt"])
def test_drawtext_without_a_font_takes_one_that_has_its_letters(
    option: str, tmp_path: Path, clip: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("进球 ゴール 골 2-1", "utf-8")
    result = rendered(
        tmp_path,
        "-vf",
        f"drawtext={option}:fontsize=30",
        "-c:v",
        "ffv1",
        "o.mkv",
        a=clip,
        words=words,
    )
    assert [one.code for one in result.warnings] == ["font_chosen"]
    assert "Noto Sans CJK SC" in result.warnings[0].message
    chosen = decoded(tmp_path / "output.mkv")
    graph = f"drawtext={option}:fontsize=30:font=Noto Sans CJK SC"
    assert same(tmp_path, graph, clip, words=words) == []
    assert decoded(tmp_path / "output.mkv") == chosen


def test_a_damaged_font_is_named(tmp_path: Path, clip: Path) -> None:
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(SERIF.read_bytes()[:400])
    for graph in ("drawtext=fontfile=broken.ttf:text=a", "drawtext=text=a:fontfile=broken.ttf"):
        with pytest.raises(TaskError, match="font cannot be read") as caught:
            rendered(tmp_path, "-vf", graph, "out.mp4", a=clip, broken=broken)
        assert caught.value.code is ErrorCode.unsupported_media


@pytest.mark.parametrize("last", ["Пока", "Bye"])
def test_subtitles_of_another_encoding_are_named(last: str, tmp_path: Path, clip: Path) -> None:
    """Of the last line and of one before it. They are drawn once the command says what they are."""
    words = subtitles(tmp_path / "words.srt", "Привет")
    text = words.read_text("utf-8") + f"\n2\n00:00:09,000 --> 00:00:10,000\n{last}\n"
    words.write_bytes(text.encode("cp1251"))
    with pytest.raises(TaskError, match="charenc") as caught:
        rendered(tmp_path, "-vf", "subtitles=words.srt", "out.mp4", a=clip, words=words)
    assert caught.value.code is ErrorCode.invalid_task
    assert same(tmp_path, "subtitles=words.srt:charenc=CP1251", clip, words=words) == []


def test_the_shipped_fonts_are_there() -> None:
    """And their size is that of the file."""
    assert len(shipped()) == 2
    path = default_file()
    assert path is not None
    assert text_font(path).line_height == pytest.approx(DEFAULT_FONT.line_height)
    assert TTFont(path)["name"].getBestFamilyName() == DEFAULT_FONT.name
