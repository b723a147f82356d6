"""What lies over, under and around the clips of a film: overlays, text, crop windows, music,
loudness, colours, chapters, proxies, sheets of thumbnails, and what is refused."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from support import clips
from support.clips import Clip
from support.crop_kit import marker, marker_positions
from support.timeline_kit import (
    Array,
    Tape,
    bits,
    cells,
    ffmpeg,
    lumas,
    render,
    rendered_timeline,
    still,
)

from gpu_worker_client.protocol.timeline import Timeline
from gpu_worker_processors.render.fonts import default_file
from gpu_worker_processors.render.timeline import inspect_inputs, planned_sheet

SHAPE = Fraction(16, 9)
BLANK: dict[str, Any] = {
    "clips": [{"input": "blank.png", "end": 1}],
    "output": {"fps": 25, "crf": 0},
}


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return Tape(1).record(tmp_path)


def test_a_picture_lies_over_its_frames_and_no_other(tmp_path: Path) -> None:
    inputs = {
        "blank.png": still(tmp_path / "blank.png"),
        "logo.png": still(tmp_path / "logo.png", 255, (40, 20)),
    }
    overlay = {"input": "logo.png", "x": 100, "y": 60, "start": 0.2, "end": 0.6}
    render({**BLANK, "overlays": [overlay]}, inputs, tmp_path / "film.mp4")
    shown = list(lumas(tmp_path / "film.mp4"))
    for frame, luma in enumerate(shown):
        white = luma > 125
        if not 5 <= frame < 15:
            assert not white.any(), frame
            continue
        rows, columns = np.nonzero(white)
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (100, 139, 60, 79)
    assert len(shown) == 25


@pytest.mark.parametrize("fps", [24000 / 1001, 60, 240])
def test_a_text_is_on_its_frames_and_no_other(fps: float, tmp_path: Path) -> None:
    inputs = {"blank.png": still(tmp_path / "blank.png")}
    overlay = {"text": "Hi", "x": 9, "y": 9, "color": "#ff0000", "start": 0.1, "end": 0.2}
    timeline = {
        "clips": [{"input": "blank.png", "end": 0.3}],
        "overlays": [overlay],
        "output": {"fps": round(fps, 3), "crf": 0},
    }
    rendered_timeline(timeline, inputs, tmp_path / "film.mp4")
    peaks = [luma.max() for luma in lumas(tmp_path / "film.mp4")]
    shown = [frame for frame, peak in enumerate(peaks) if peak > 40]
    assert shown == list(range(round(0.1 * fps), round(0.2 * fps)))
    red = 16 + 219 * 0.2126  # BT.709
    assert peaks[shown[0]] == pytest.approx(red, abs=2)


@pytest.mark.parametrize(("file_alpha", "opacity"), [(128, 1.0), (255, 0.5)])
def test_transparency_of_the_picture_and_of_the_overlay(
    tmp_path: Path, file_alpha: int, opacity: float
) -> None:
    logo = still(tmp_path / "logo.png", 255, (40, 20), file_alpha)
    overlay = {"input": "logo.png", "x": 0, "y": 0, "width": 80, "opacity": opacity}
    inputs = {"blank.png": still(tmp_path / "blank.png"), "logo.png": logo}
    render({**BLANK, "overlays": [overlay]}, inputs, tmp_path / "film.mp4")
    first = next(lumas(tmp_path / "film.mp4"))
    assert abs(first[10:30, 10:70].mean() - (16 + 0.5 * 219)) < 3
    assert first[45:].max() < 20


def test_a_video_over_the_film_plays_from_its_own_beginning(tmp_path: Path, tape: Path) -> None:
    inputs = {"blank.png": still(tmp_path / "blank.png"), "tape1.mp4": tape}
    timeline = {
        **BLANK,
        "overlays": [{"input": "tape1.mp4", "x": 0, "y": 0, "width": 192, "start": 0.4}],
    }
    render(timeline, inputs, tmp_path / "film.mp4")
    for frame, luma in enumerate(lumas(tmp_path / "film.mp4")):
        wanted = bits(1, frame - 10) if frame >= 10 else np.zeros(16)
        assert np.abs(cells(luma, SHAPE) - wanted).max() < 0.2, frame


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "it's 100%: [a],b;c=d\\e \\: 'x'",
        "%{pts} %{metadata:x} $HOME `id` {input}",
        "/etc/passwd",
        "two\nlines",
        " :leading and trailing: ",
        "Ελλάδα, Київ",
    ],
)
def test_a_text_is_drawn_letter_for_letter(tmp_path: Path, text: str) -> None:
    """The reference is drawtext reading the same text from a file, where nothing has to be quoted.
    It rasters a little otherwise and sets lines nearer."""
    inputs = {"blank.png": still(tmp_path / "blank.png", size=(640, 108))}
    timeline = {**BLANK, "clips": [{"input": "blank.png", "end": 0.04}]}
    overlay = {"text": text, "x": 10, "y": 12, "font_size": 20, "color": "#ffffff"}
    result = rendered_timeline({**timeline, "overlays": [overlay]}, inputs, tmp_path / "film.mp4")
    assert result.warnings == []
    render(timeline, inputs, tmp_path / "bare.mp4")
    (tmp_path / "text").write_text(text, encoding="utf-8")
    font = default_file()
    assert font is not None
    (tmp_path / "font.ttf").write_bytes(font.read_bytes())  # its own name has brackets
    drawn = (
        f"drawtext=fontfile={tmp_path / 'font.ttf'}:textfile={tmp_path / 'text'}"
        ":expansion=none:x=10:y=12:fontsize=20:fontcolor=white"
    )
    ffmpeg(
        "-i", str(tmp_path / "bare.mp4"), "-vf", drawn, "-crf", "0", str(tmp_path / "reference.mp4")
    )
    ours, theirs = (
        lines_of(next(lumas(tmp_path / name))) for name in ("film.mp4", "reference.mp4")
    )
    assert len(ours) == len(theirs) > 0
    for (left, line), (reference_left, reference) in zip(ours, theirs, strict=True):
        assert abs(left - reference_left) <= 1
        assert np.abs(np.subtract(line.shape, reference.shape)).max() <= 2
        height, width = np.minimum(line.shape, reference.shape)
        pair = [cv2.GaussianBlur(one[:height, :width], (7, 7), 0) for one in (line, reference)]
        assert np.corrcoef(pair[0].ravel(), y=pair[1].ravel())[0, 1] > 0.75


def lines_of(luma: Array) -> list[tuple[int, Array]]:
    """Each line of a text: its left edge, and its frame cropped to what is drawn."""
    rows = np.flatnonzero((luma > 90).any(axis=1))
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 3) + 1)
    lines = [luma[group[0] : group[-1] + 1] for group in groups if group.size]
    columns = [np.flatnonzero((line > 90).any(axis=0)) for line in lines]
    return [
        (int(found[0]), line[:, found[0] : found[-1] + 1])
        for line, found in zip(lines, columns, strict=True)
    ]


def test_a_window_follows_its_keyframes_between_pixels(tmp_path: Path) -> None:
    """A spot that moves and a window that moves and grows with it: in the film the spot stands
    still."""

    def place(index: int) -> tuple[float, float]:
        return 60.3 + 1.7 * index, 50.2 + 0.6 * index

    path = clips.make(tmp_path / "spot.mp4", Clip(width=256, height=160, frames=50), marker(place))
    keyframes = []
    for frame in (0, 49):
        x, y = place(frame)
        width = 96 + frame  # the spot stays at 3/8 and 1/2 of the window
        keyframes.append(
            {"time": frame / 25, "x": x - 3 / 8 * width, "y": y - width / 2 * 5 / 8, "width": width}
        )
        keyframes[-1]["height"] = width * 5 / 8
    timeline = {
        "clips": [{"input": "spot.mp4", "start": 0.2, "end": 1.8, "keyframes": keyframes}],
        "output": {"width": 256, "height": 160, "crf": 4},
    }
    render(timeline, {"spot.mp4": path}, tmp_path / "film.mp4")
    places = marker_positions(tmp_path / "film.mp4")
    assert len(places) == 40
    assert (
        np.abs(places - [256 * 3 / 8, 80]).max() < 0.6
    )  # of an output pixel: under 0.25 of a source pixel


def test_cover_fills_the_film_and_cuts_the_sides(tmp_path: Path, tape: Path) -> None:
    timeline = {
        "clips": [{"input": "tape1.mp4", "end": 0.4}],
        "output": {"width": 72, "height": 72, "fit": "cover", "crf": 10},
    }
    render(timeline, {"tape1.mp4": tape}, tmp_path / "film.mp4")
    for frame, luma in enumerate(lumas(tmp_path / "film.mp4")):
        middle = bits(1, frame).reshape(4, 4)[
            :, 1:3
        ]  # the outer columns lie outside but for 4 pixels
        rows = [[luma[row * 18 + 9, x] for x in (20, 52)] for row in range(4)]
        assert np.abs((np.array(rows) - 16) / 219 - middle).max() < 0.2


MATRICES = {"bt601": (6, 1, 1, 1), "bt709": (1, 1, 1, 1), "full range": (6, 1, 1, 2)}


@pytest.mark.parametrize("name", MATRICES)
def test_colours_are_converted_and_said(tmp_path: Path, name: str) -> None:
    color = MATRICES[name]
    source = clips.make(tmp_path / "red.mkv", Clip(frames=5), clips.flat((200, 40, 30), every=5))
    tagged = tmp_path / "tagged.mkv"
    matrix = "bt709" if color[0] == 1 else "smpte170m"
    span = "full" if color[3] == 2 else "limited"
    params = f"setparams=colorspace={matrix}:color_primaries=bt709:color_trc=bt709"
    ffmpeg(
        "-i",
        str(source),
        "-vf",
        f"scale=in_color_matrix=bt601:out_color_matrix={matrix}:out_range={span},{params}",
        "-crf",
        "0",
        str(tagged),
    )
    render(
        {"clips": [{"input": "red.mkv"}], "output": {"crf": 0}},
        {"red.mkv": tagged},
        tmp_path / "film.mp4",
    )
    with av.open(str(tmp_path / "film.mp4")) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
        tables = [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        ]
    red, green, blue = (value / 255 for value in (200, 40, 30))
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    wanted = [16 + 219 * y, 128 + 224 * (blue - y) / 1.8556, 128 + 224 * (red - y) / 1.5748]
    assert np.abs(np.array([table.mean() for table in tables]) - wanted).max() < 3


@pytest.mark.slow
def test_hdr_is_brought_down_to_the_film(tmp_path: Path) -> None:
    """Code values of PQ: 100 cd/m2 is 0.508, so a gray of that is a bright one in SDR; 1 cd/m2 is
    0.15 and dark."""
    lumas_of = []
    for value in (0.508, 0.15):
        gray = round(value * 255)
        source = clips.make(
            tmp_path / f"hdr{gray}.mkv",
            Clip(
                frames=3,
                pix_fmt="yuv420p10le",
                codec="libx265",
                options=(("crf", "1"),),
                color=(9, 9, 16, 1),
            ),
            clips.flat((gray, gray, gray), every=9),
        )
        render({"clips": [{"input": "h.mkv"}]}, {"h.mkv": source}, tmp_path / "film.mp4")
        lumas_of.append(next(lumas(tmp_path / "film.mp4")).mean())
    assert 150 < lumas_of[0] < 235
    assert 16 < lumas_of[1] < 60


def test_chapters_stand_where_the_clips_meet(tmp_path: Path, tape: Path) -> None:
    timeline = {
        "clips": [
            {"input": "tape1.mp4", "end": 1, "title": "Début; #1 = \\ \n"},
            {"input": "tape1.mp4", "start": 1, "end": 3},
            {"input": "tape1.mp4", "end": 0.6, "transition": {"kind": "cut"}},
        ],
        "transition": {"kind": "dissolve", "seconds": 0.4},
        "chapters": True,
    }
    render(timeline, {"tape1.mp4": tape}, tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        chapters = [
            (
                one["start"] * float(one["time_base"]),
                one["end"] * float(one["time_base"]),
                one["metadata"]["title"],
            )
            for one in container.chapters()
        ]
    assert [title for *_, title in chapters] == ["Début; #1 = \\ \n", "Clip 2", "Clip 3"]
    assert np.allclose(
        [times[:2] for times in chapters], [(0, 0.8), (0.8, 2.6), (2.6, 3.2)], atol=0.002
    )


@pytest.mark.slow
def test_a_proxy_is_small_and_easy_to_jump_about_in(tmp_path: Path) -> None:
    source = clips.make(
        tmp_path / "large.mp4",
        Clip(width=1920, height=1080, frames=20),
        clips.flat((9, 9, 9), every=99),
    )
    render(
        {"clips": [{"input": "a.mp4"}], "output": {"proxy": True}},
        {"a.mp4": source},
        tmp_path / "film.mp4",
    )
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (1280, 720, 20)
        keys = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.is_keyframe and packet.size
        ]
    assert keys[0] == 0
    assert max(np.diff([*keys, 0.8])) <= 0.5


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_sheet_shows_the_middle_of_each_stretch_and_its_text_says_where(
    tmp_path: Path, tape: Path, suffix: str
) -> None:
    timeline = {
        "clips": [{"input": "tape1.mp4"}],
        "output": {"width": 128, "height": 72},
        "thumbnails": {"every_seconds": 0.8, "width": 128, "columns": 3},
    }
    sheet = tmp_path / f"sheet{suffix}"
    rendering = render(timeline, {"tape1.mp4": tape}, sheet)
    assert rendering.expected.frames == 1
    picture = cv2.imread(str(sheet), cv2.IMREAD_GRAYSCALE)
    assert picture is not None and picture.shape == (144, 384)
    wanted = Timeline.model_validate(timeline, strict=False)
    plan = planned_sheet(wanted, inspect_inputs(wanted, {"tape1.mp4": tape}))
    assert plan is not None
    text = plan.vtt("sheet.jpg")
    found = re.findall(r"(\S+) --> (\S+)\nsheet.jpg#xywh=(\d+),(\d+),(\d+),(\d+)\n", text)
    assert text.startswith("WEBVTT\n\n")
    times = [("00:00:00.000", "00:00:00.800"), ("00:00:00.800", "00:00:01.600")]
    assert [cue[:2] for cue in found] == [
        *times,
        ("00:00:01.600", "00:00:02.400"),
        ("00:00:02.400", "00:00:03.000"),
    ]
    for number, (*_, x, y, width, height) in enumerate(found):
        part = picture[int(y) :, int(x) :][: int(height), : int(width)].astype(np.float64)
        middle = (number + 0.5) * 0.8 * 25  # the frame on screen then
        code = cells(part * 219 / 255 + 16, SHAPE)
        assert np.abs(code - bits(1, int(middle))).max() < 0.25, number
