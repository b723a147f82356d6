"""Tasks on files as objects that are made, executed, and asked how it went. They never raise for a
job that failed.

    job = SceneDetectionJob(input_path="video.mp4", threshold=30.0)
    result = job.execute()
    if result.success:
        print(result.output_path, result.metadata["stats"]["total_scenes"])

All take `JobOptions` as keywords, and all but `FFmpegRenderJob` the parameters of their task. What
a job makes goes to `output_path`; without one it stands beside the input under the input's whole
name and an ending, `video.mp4.scenes.json` for example.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from typing_extensions import Unpack

from gpu_worker_client.commands import Compilable, create_nvenc_command
from gpu_worker_client.commands import command_args as words_of
from gpu_worker_client.errors import ConfigError
from gpu_worker_client.filejobs.job import FileJob, JobOptions
from gpu_worker_client.files.work import FileWork, is_url, render_work
from gpu_worker_client.protocol import BeatResult, TaskResult, save_analysis


def _output(given: str | Path | None, input_path: str | Path, ending: str) -> str | Path:
    """Where an output goes. The input's whole name is in it, so that the outputs of `a.mp4` and
    `a.mov` are two files."""
    if given is not None:
        return given
    if is_url(input_path):
        raise ConfigError("the input is a URL: say with output_path where the output goes")
    path = Path(input_path)
    return path.with_name(f"{path.name}.{ending}")


class SceneDetectionJob(FileJob):
    """Where one shot ends and the next begins. Writes `VIDEO.mp4.scenes.json`: `scenes` with frames
    and times, `stats`."""

    def __init__(
        self,
        input_path: str | Path,
        threshold: float = 30.0,
        *,
        output_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        params = {"threshold": float(threshold)}
        work = FileWork("detect_scenes", params, {"input_url": input_path})
        super().__init__(work, keywords, _output(output_path, input_path, "scenes.json"))


class BeatAnalysisJob(FileJob):
    """Beats, tempo and loudness of a video or audio file. Writes `MUSIC.wav.beats.json`, the whole
    result.

    Args:
        analysis_path: where to write `analysis.json` as well: `tempo`, `beat_times`, `energy`,
            `duration`, `sample_rate` only.
        clicks_path: where to write the audio with a click on every beat.
    """

    def __init__(
        self,
        input_path: str | Path,
        *,
        output_path: str | Path | None = None,
        analysis_path: str | Path | None = None,
        clicks_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        self._analysis = None if analysis_path is None else Path(analysis_path)
        work = FileWork("beat", {}, {"input_url": input_path}, output=clicks_path)
        super().__init__(work, keywords, _output(output_path, input_path, "beats.json"))

    def save(self, result: TaskResult) -> None:
        super().save(result)
        if self._analysis is not None:
            save_analysis(cast(BeatResult, result), self._analysis)

    def leaves(self) -> list[Path]:
        return super().leaves() + ([] if self._analysis is None else [self._analysis])


class FFmpegRenderJob(FileJob):
    """An FFmpeg command on files, in which they go by their names.

    Args:
        input_paths: the files that the command names.
        command_args: what follows `ffmpeg`, a word each, or a stream of `ffmpeg-python`; the last
            word is the output's name.
        output_filename: where the output goes; its name is the command's last word.
        require_hardware: fail where the hardware encoder that is asked for is not there.

    Raises:
        TypeError: the command is no list of words.
        ConfigError: two inputs have one name, or the command does not end with the output's.
    """

    takes_params = False

    def __init__(
        self,
        input_paths: Sequence[str | Path],
        command_args: Sequence[str] | Compilable,
        output_filename: str | Path,
        *,
        require_hardware: bool = False,
        **options: Unpack[JobOptions],
    ) -> None:
        words = words_of(command_args)
        work = render_work(words, input_paths, output_filename, require_hardware)
        if words[-1:] != [Path(output_filename).name]:
            raise ConfigError(
                f"the command's last word must be the output's name, {Path(output_filename).name}"
            )
        super().__init__(work, options)

    create_nvenc_command = staticmethod(create_nvenc_command)


class UpscaleJob(FileJob):
    """A video enlarged, .mp4, .mov or .mkv: `VIDEO.mp4.upscaled.mp4`."""

    def __init__(
        self, input_path: str | Path, output_path: str | Path | None = None, **keywords: Any
    ) -> None:
        output = _output(output_path, input_path, "upscaled.mp4")
        super().__init__(
            FileWork("upscale", {}, {"input_url": input_path}, output=output), keywords
        )


class TrackJob(FileJob):
    """People, balls and other things followed. Writes `VIDEO.mp4.tracks.json`.

    Args:
        video_path: where to write the video with boxes drawn into it.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        video_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        work = FileWork("track", {}, {"input_url": input_path}, output=video_path)
        super().__init__(work, keywords, _output(output_path, input_path, "tracks.json"))


class AutoCropJob(FileJob):
    """A video in another aspect ratio, .mp4, .mov or .mkv: `VIDEO.mp4.cropped.mp4`.

    Args:
        tracks_path: a `TrackJob`'s JSON, so that nothing is detected twice.
    """

    def __init__(
        self,
        input_path: str | Path,
        output_path: str | Path | None = None,
        *,
        tracks_path: str | Path | None = None,
        **keywords: Any,
    ) -> None:
        output = _output(output_path, input_path, "cropped.mp4")
        reads = {"input_url": input_path, "tracks_url": tracks_path}
        super().__init__(FileWork("auto_crop", {}, reads, output=output), keywords)
