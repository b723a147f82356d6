"""From a timeline to the command line that renders it: one run of FFmpeg, one filter graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.base import INDEXED
from gpu_worker_client.protocol.timeline import Timeline, TimelineOutput
from gpu_worker_processors.base import Limits
from gpu_worker_processors.media.encoders import CANDIDATES, check_container, choose_encoder
from gpu_worker_processors.render.base import Expectation
from gpu_worker_processors.render.fonts import DEFAULT_FONT, TextFont
from gpu_worker_processors.render.timeline.audio import (
    clip_audio,
    finished,
    join_audio,
    with_music,
)
from gpu_worker_processors.render.timeline.graph import Graph, filter_text
from gpu_worker_processors.render.timeline.overlays import overlaid, written
from gpu_worker_processors.render.timeline.plan import SAMPLE_RATE, VideoPlan, exact, plan_video
from gpu_worker_processors.render.timeline.rendering import TimelineInput, TimelineRendering
from gpu_worker_processors.render.timeline.sources import TimelineSource, refused
from gpu_worker_processors.render.timeline.thumbnails import Sheet, plan_sheet
from gpu_worker_processors.render.timeline.video import FORMAT, clip_video, join_video

SOFTWARE_ENCODERS = frozenset(
    one.name for group in CANDIDATES.values() for one in group if not one.hardware
)
MAX_GRAPH_BYTES = 127 * 1024
"""One word of a command line; Linux ends at 128 KiB (MAX_ARG_STRLEN)."""
_CRF, _PROXY_CRF = 18, 28
_PROXY_KEY_FRAME_SECONDS = Fraction(1, 2)
_TAGS = (
    "-colorspace",
    "bt709",
    "-color_primaries",
    "bt709",
    "-color_trc",
    "bt709",
    "-color_range",
    "tv",
)
_AUDIO = ("-c:a", "aac", "-b:a", "192k", "-ar", str(SAMPLE_RATE))
_SHEETS = {
    ".jpg": ("mjpeg", {"q:v": "3", "pix_fmt": "yuvj420p"}),
    ".jpeg": ("mjpeg", {"q:v": "3", "pix_fmt": "yuvj420p"}),
    ".png": ("png", {"pix_fmt": "rgb24"}),
}
"""Suffix of a sheet of thumbnails -> encoder and its options."""


def compile_timeline(
    timeline: Timeline,
    sources: Mapping[str, TimelineSource],
    output: Path,
    *,
    fonts: Mapping[str, TextFont] = {},  # noqa: B006 - only read
    gain_db: float | None = None,
    encoders: Collection[str] = SOFTWARE_ENCODERS,
    limits: Limits = Limits(),  # noqa: B008 - frozen dataclass
) -> TimelineRendering:
    """Plans a timeline and writes its command line. Reads no file.

    Args:
        sources: what `inspect_inputs` found, by the inputs' names.
        output: the file to write; its suffix chooses the container.
        fonts: what `inspect_fonts` found, by the inputs' names.
        gain_db: what brings the audio to `loudness_lufs`; None leaves its level.
        encoders: names of those that work on this machine; a hardware one is preferred.

    Raises:
        TaskError: `invalid_task` naming the field that does not fit, `unsupported_media` for a
            suffix, `media_limit` for a size that the codec does not hold.
    """
    plan = plan_video(timeline, sources)
    build = _Build(timeline, sources, fonts, plan)
    video = build.video()
    if timeline.thumbnails is not None:
        return build.sheet(video, plan_sheet(timeline.thumbnails, plan), output, limits)
    return build.rendering(video, output, encoders, limits, gain_db)


def compile_measurement(
    timeline: Timeline,
    sources: Mapping[str, TimelineSource],
    output: Path,
    gain_db: float,
    limits: Limits = Limits(),  # noqa: B008 - frozen dataclass
) -> TimelineRendering | None:
    """What measures the audio's loudness with that gain; None for a silent video.

    Raises:
        TaskError: as `compile_timeline`.
    """
    return _Build(timeline, sources, {}, plan_video(timeline, sources)).measurement(
        output, gain_db, limits
    )


def planned_sheet(timeline: Timeline, sources: Mapping[str, TimelineSource]) -> Sheet | None:
    """The plan of the thumbnails, for the text that goes with them; None where a video is made."""
    return (
        None
        if timeline.thumbnails is None
        else plan_sheet(timeline.thumbnails, plan_video(timeline, sources))
    )


class _Build:
    """Inputs and graph as they grow."""

    def __init__(
        self,
        timeline: Timeline,
        sources: Mapping[str, TimelineSource],
        fonts: Mapping[str, TextFont],
        plan: VideoPlan,
    ) -> None:
        self._timeline = timeline
        self._sources = sources
        self._plan = plan
        self._graph = Graph()
        self._inputs = [TimelineInput(placed.source, placed.start) for placed in plan.clips]
        self._fonts = fonts

    def video(self) -> str:
        """Adds all frames; returns the pad of the video."""
        plan, graph = self._plan, self._graph
        fit = self._timeline.output.fit
        pads = [
            clip_video(graph, f"{n}:{placed.video.stream}", placed, plan, fit)
            for n, placed in enumerate(plan.clips)
        ]
        pad = join_video(graph, pads, plan)
        for number, overlay in enumerate(self._timeline.overlays):
            if overlay.input is None:
                font = self._fonts[overlay.font] if overlay.font else DEFAULT_FONT
                pad = written(graph, pad, overlay, number, font, plan)
                continue
            source = self._sources[overlay.input]
            stream = source.video.stream if source.video else 0
            pad = overlaid(
                graph,
                pad,
                f"{self._added(source, with_alpha=True)}:{stream}",
                overlay,
                number,
                source,
                plan,
            )
        return pad

    def measurement(self, output: Path, gain_db: float, limits: Limits) -> TimelineRendering | None:
        audio = self.audio(gain_db)
        if audio is None:
            return None
        pad = self._graph.chain([audio], [filter_text("ebur128", framelog="quiet")])
        return TimelineRendering(
            inputs=tuple(self._inputs),
            graph=self._text(),
            maps=(pad,),
            output_path=output,
            muxer=("-f", "null"),
            video_encoder="",
            video_options={},
            expected=Expectation(seconds=float(self._plan.seconds)),
            limits=limits,
            measures=True,
        )

    def audio(self, gain_db: float | None) -> str | None:
        """Adds all audio; returns its pad, None for a silent video."""
        plan, graph, music = self._plan, self._graph, self._timeline.music
        if music is None and all(placed.source.audio is None for placed in plan.clips):
            return None
        streams = [placed.source.audio for placed in plan.clips]
        pads = [None if stream is None else f"{n}:{stream}" for n, stream in enumerate(streams)]
        pad = join_audio(
            graph,
            [
                clip_audio(graph, one, placed, plan)
                for one, placed in zip(pads, plan.clips, strict=True)
            ],
            plan,
        )
        if music is not None:
            source = self._sources[music.input]
            if source.audio is None:
                raise refused("music.input", "holds no audio")
            start = exact(music.start)
            if source.seconds is not None and start >= source.seconds:
                raise refused(
                    "music.start",
                    f"lies after the end of the input, which has {float(source.seconds):.3f}"
                    " seconds",
                )
            pad = with_music(
                graph, pad, f"{self._added(source, start)}:{source.audio}", music, source, plan
            )
        return finished(graph, pad, gain_db, plan)

    def rendering(
        self,
        video: str,
        output: Path,
        encoders: Collection[str],
        limits: Limits,
        gain_db: float | None,
    ) -> TimelineRendering:
        wanted, plan = self._timeline.output, self._plan
        muxer = check_container(output.suffix, wanted.codec)
        crf = wanted.crf if wanted.crf is not None else _PROXY_CRF if wanted.proxy else _CRF
        encoder = choose_encoder(wanted.codec, plan.width, plan.height, encoders, crf=crf)
        options = {_CANONICAL.get(name, name): value for name, value in encoder.options.items()}
        options |= {"pix_fmt": encoder.pix_fmt} | (_quick(encoder.name) if wanted.proxy else {})
        video = self._graph.chain([video], [_tagged(encoder.pix_fmt)])
        audio = self.audio(gain_db)
        return TimelineRendering(
            inputs=tuple(self._inputs),
            graph=self._text(),
            maps=(video,) if audio is None else (video, audio),
            output_path=output,
            muxer=("-f", muxer, *(("-movflags", "+faststart") if muxer in INDEXED else ())),
            video_encoder=encoder.name,
            video_options=options,
            expected=Expectation(
                video=True, audio=audio is not None, seconds=float(plan.seconds), frames=plan.frames
            ),
            coding=(
                *_TAGS,
                *_key_frames(wanted, plan),
                *_tag(wanted.codec, muxer),
                *(_AUDIO if audio is not None else ()),
            ),
            chapters=tuple(plan.chapters()) if self._timeline.chapters else (),
            limits=limits,
        )

    def sheet(self, video: str, sheet: Sheet, output: Path, limits: Limits) -> TimelineRendering:
        if output.suffix.lower() not in _SHEETS:
            raise TaskError(
                ErrorCode.unsupported_media,
                f"output_url: a sheet of thumbnails is an image; allowed: {', '.join(_SHEETS)}",
                allowed=list(_SHEETS),
            )
        encoder, options = _SHEETS[output.suffix.lower()]
        pad = self._graph.chain(
            [video], [*sheet.filters, filter_text("format", options["pix_fmt"])]
        )
        return TimelineRendering(
            inputs=tuple(self._inputs),
            graph=self._text(),
            maps=(pad,),
            output_path=output,
            muxer=("-f", "image2", "-update", "1"),
            video_encoder=encoder,
            video_options=options,
            expected=Expectation(video=True, audio=False, frames=1),
            coding=("-frames:v", "1"),
            limits=limits,
        )

    def _added(
        self,
        source: TimelineSource,
        start: Fraction = Fraction(0),  # noqa: B008 - immutable
        *,
        with_alpha: bool = False,
    ) -> int:
        self._inputs.append(TimelineInput(source, start, with_alpha))
        return len(self._inputs) - 1

    def _text(self) -> str:
        text = self._graph.text
        if len(text.encode()) > MAX_GRAPH_BYTES:
            raise refused(
                "clips",
                "this many clips, keyframes and overlays do not fit into one video; render it in"
                " parts",
            )
        return text


_CANONICAL = {"b": "b:v"}
"""PyAV's name of an encoder's option -> the command line's."""


def _quick(encoder: str) -> dict[str, str]:
    """Presets that encode a proxy faster than the usual ones."""
    if encoder.endswith("_nvenc"):
        return {"preset": "p1"}
    return {"preset": "ultrafast", "tune": "fastdecode"}


def _tagged(pix_fmt: str) -> str:
    tags = filter_text(
        "setparams", range="tv", color_primaries="bt709", color_trc="bt709", colorspace="bt709"
    )
    return tags if pix_fmt == FORMAT else f"format={pix_fmt},{tags}"


def _key_frames(wanted: TimelineOutput, plan: VideoPlan) -> tuple[str, ...]:
    if not wanted.proxy:
        return ()
    frames = str(max(1, round(plan.fps * _PROXY_KEY_FRAME_SECONDS)))
    return ("-g", frames, "-keyint_min", frames)


def _tag(codec: str, muxer: str) -> tuple[str, ...]:
    """What Apple's players ask for; FFmpeg's own choice is hev1."""
    return ("-tag:v", "hvc1") if codec == "hevc" and muxer != "matroska" else ()
