"""Every task, submitted by the SDK over HTTP, run by the unmodified runpod loop, files through the
R2 gate, result typed."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import pytest
import requests
from support import clips, music
from support.e2e_stage import Stage

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker_client import Client
from gpu_worker_client.protocol import (
    TASKS,
    AutoCropParams,
    AutoCropResult,
    AutoCropTask,
    BeatResult,
    BeatTask,
    DetectScenesParams,
    DetectScenesResult,
    DetectScenesTask,
    FileTask,
    InputTask,
    SelftestResult,
    SelftestTask,
    TrackParams,
    TrackResult,
    TrackTask,
    UpscaleParams,
    UpscaleResult,
    UpscaleTask,
)
from gpu_worker_processors.samples import CLIP_NAME, clip, sample_of

DARK, BRIGHT, BLUE = (20, 20, 20), (230, 230, 230), (30, 30, 200)
DEADLINE_SECONDS = 120.0


@pytest.mark.parametrize(
    "name",
    [
        # The others have a test of their own below.
        pytest.param(name, marks=() if name == "render" else pytest.mark.slow)
        for name in TASKS
        if name != "selftest"
    ],
)
def test_every_tasks_sample(running: Stage, tmp_path: Path, name: str) -> None:
    """What a self-test gives the processor, as a task with URLs."""
    sample, kind = sample_of(name), TASKS[name].request
    source = tmp_path / CLIP_NAME
    source.write_bytes((sample.source or clip)())
    url = running.upload(f"in/{name}", source)
    given = {"input_url": url} if issubclass(kind, InputTask) else {"inputs": {CLIP_NAME: url}}
    if sample.makes_a_file or issubclass(kind, FileTask):
        given["output_url"] = running.platform.gate.presign("PUT", f"out/{name}.mp4")
    task = {"task": name, "params": sample.variants[-1], **given}
    assert sample.judge(running.client.run(task, timeout=DEADLINE_SECONDS)) is None


@pytest.mark.slow
def test_selftest(running: Stage) -> None:
    result = running.client.run(SelftestTask(), timeout=DEADLINE_SECONDS)
    assert isinstance(result, SelftestResult)
    assert result.status == "completed"
    assert {"detect_scenes", "track", "auto_crop", "beat"} <= {
        name for name, check in result.processors.items() if check.ok
    }
    assert result.worker is not None and result.worker.device
    assert running.job_directories() == []


def test_detect_scenes(running: Stage, tmp_path: Path) -> None:
    clip = clips.make(
        tmp_path / "cuts.mp4", clips.Clip(frames=90), clips.flat(DARK, BRIGHT, BLUE, every=30)
    )
    url = running.upload("in/cuts.mp4", clip)
    task = DetectScenesTask(input_url=url, params=DetectScenesParams(min_scene_length=0.5))
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, DetectScenesResult)
    assert [(s.start_frame, s.end_frame) for s in result.scenes] == [(0, 29), (30, 59), (60, 89)]
    assert [s.start_time for s in result.scenes] == pytest.approx([0, 1.2, 2.4], abs=1e-3)
    assert result.timings is not None and result.timings.process_sec > 0
    assert running.job_directories() == []


def test_beat(running: Stage, tmp_path: Path) -> None:
    times = music.steady(110, 0.4, 9.8)
    url = running.upload(
        "in/song.mp3", music.save(tmp_path / "song.mp3", music.clicks(times, 10.0))
    )
    put = running.platform.gate.presign("PUT", "out/mix.flac")
    result = running.client.run(BeatTask(input_url=url, output_url=put), timeout=DEADLINE_SECONDS)
    assert isinstance(result, BeatResult)
    assert result.tempo == pytest.approx(110, rel=0.005)
    assert result.beat_times == pytest.approx(list(times), abs=0.015)
    assert len(result.energy.rms) == 100
    with av.open(str(running.platform.gate.path("out/mix.flac"))) as output:
        assert sum(frame.samples for frame in output.decode(audio=0)) / 48_000 == pytest.approx(
            10.0, abs=0.1
        )
    assert running.job_directories() == []


@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mkv", marks=pytest.mark.slow)])
def test_upscale(running: Stage, tmp_path: Path, weights_dir: Path, suffix: str) -> None:
    spec = clips.Clip(width=64, height=48, frames=12, audio_seconds=0.48)
    url = running.upload(f"in/small{suffix}", clips.make(tmp_path / f"small{suffix}", spec))
    put = running.platform.gate.presign("PUT", f"out/big{suffix}")
    task = UpscaleTask(
        input_url=url, output_url=put, params=UpscaleParams(model="realesr-animevideov3")
    )
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, UpscaleResult)
    assert result.output_url is not None and "?" not in result.output_url
    assert result.stats.output_resolution == "256x192"
    assert result.stats.frames_processed == 12
    stored = running.platform.gate.path(f"out/big{suffix}")
    with av.open(str(stored)) as output:
        frames = [(f.pts, f.width, f.height) for f in output.decode(output.streams.video[0])]
        assert len(output.streams.audio) == 1
    assert len(frames) == 12
    assert {(w, h) for _, w, h in frames} == {(256, 192)}
    assert running.job_directories() == []


def basketball(media: Path, path: Path, frames: int = 12) -> Path:
    """The start of a real clip with two players, its packets as they are."""
    with (
        av.open(str(media / "tracking" / "basketball_720p24.mp4")) as source,
        av.open(str(path), "w") as output,
    ):
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in itertools.islice(source.demux(video=0), frames):
            packet.stream = stream
            output.mux(packet)
    return path


def test_track(running: Stage, tmp_path: Path, media: Path, weights_dir: Path) -> None:
    url = running.upload("in/game.mp4", basketball(media, tmp_path / "game.mp4"))
    task = TrackTask(
        input_url=url,
        output_url=running.platform.gate.presign("PUT", "out/game.mp4"),
        params=TrackParams(classes=["person"], return_state=True),
    )
    result = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert isinstance(result, TrackResult)
    assert [(track.track_id, track.class_name, track.shot) for track in result.tracks] == [
        (1, "person", 0),
        (2, "person", 0),
    ]
    assert [len(track.frames) for track in result.tracks] == [result.stats.total_frames] * 2
    assert result.tracks_columnar is None
    assert result.state_out is not None and result.state_out["frames"] == result.stats.total_frames
    assert result.worker is not None and result.worker.encoder
    with av.open(str(running.platform.gate.path("out/game.mp4"))) as output:
        assert sum(1 for _ in output.decode(output.streams.video[0])) == result.stats.total_frames
    assert running.job_directories() == []


def test_auto_crop_with_the_tracks_of_a_former_job(
    running: Stage, tmp_path: Path, media: Path, weights_dir: Path
) -> None:
    gate = running.platform.gate
    url = running.upload("in/game.mp4", basketball(media, tmp_path / "game.mp4"))
    tracks = running.client.run(
        TrackTask(input_url=url, result_url=gate.presign("PUT", "out/tracks.json.gz")),
        timeout=DEADLINE_SECONDS,
    )
    assert isinstance(tracks, TrackResult)
    params = AutoCropParams(subject=2)
    again = running.client.run(
        AutoCropTask(
            input_url=url,
            tracks_url=gate.presign("GET", "out/tracks.json.gz"),
            output_url=gate.presign("PUT", "out/crop.mp4"),
            params=params,
        ),
        timeout=DEADLINE_SECONDS,
    )
    assert isinstance(again, AutoCropResult)
    assert (again.subject.track_id, again.stats.in_view) == (2, 1.0)
    dry = running.client.run(
        AutoCropTask(input_url=url, params=params.model_copy(update={"dry_run": True})),
        timeout=DEADLINE_SECONDS,
    )
    assert isinstance(dry, AutoCropResult) and dry.output_url is None
    assert dry.crop_keyframes == again.crop_keyframes, (
        "what was detected anew is what was brought along"
    )
    with av.open(str(gate.path("out/crop.mp4"))) as output:
        frames = list(output.decode(output.streams.video[0]))
    assert len(frames) == again.stats.frames_processed == tracks.stats.total_frames
    assert {(frame.width, frame.height) for frame in frames} == {(404, 720)}
    assert running.job_directories() == []


@pytest.mark.slow
def test_large_tracks_arrive_as_columns_and_read_the_same(
    running: Stage,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    media: Path,
    weights_dir: Path,
) -> None:
    root = tmp_path_factory.mktemp("columns")
    clip = basketball(media, tmp_path / "game.mp4")
    inline = running.client.run(
        TrackTask(input_url=running.upload("in/same.mp4", clip)), timeout=DEADLINE_SECONDS
    )
    with LocalPlatform(data_dir=root) as platform:
        platform.start_worker(
            {"GPU_WORKER_INLINE_RESULT_BYTES": "500", "GPU_WORKER_WORK_ROOT": str(root / "work")}
        )
        platform.gate.put("in.mp4", clip)
        client = Client(platform.endpoint_id, platform.api_key, platform.base_url)
        job = client.submit(TrackTask(input_url=platform.gate.presign("GET", "in.mp4")))
        status = job.wait(timeout=DEADLINE_SECONDS)
        assert status.output is not None, status
        assert status.output["tracks_columnar"] and not status.output.get("tracks")
        result = job.result()
        assert isinstance(result, TrackResult)
        assert result.tracks == inline.tracks


def test_the_whole_result_is_put_at_result_url_and_reused_by_key(
    running: Stage, tmp_path: Path
) -> None:
    clip = clips.make(
        tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30)
    )
    gate = running.platform.gate
    task = DetectScenesTask(
        input_url=running.upload("in/again.mp4", clip),
        result_url=gate.presign("PUT", "results/again.json"),
        result_get_url=gate.presign("GET", "results/again.json"),
        idempotency_key="again-1",
    )
    first = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert first.deduplicated is False
    stored = DetectScenesResult.model_validate_json(gate.read("results/again.json") or b"")
    assert stored.scenes == first.scenes
    second = running.client.run(task, timeout=DEADLINE_SECONDS)
    assert second.deduplicated is True
    assert second.scenes == first.scenes


def test_a_large_result_goes_to_the_workers_own_bucket(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    root = tmp_path_factory.mktemp("bucket")
    clip = clips.make(
        tmp_path / "cuts.mp4", clips.Clip(frames=60), clips.flat(DARK, BRIGHT, every=30)
    )
    with LocalPlatform(data_dir=root) as platform:
        gate = platform.gate
        env = {
            "GPU_WORKER_INLINE_RESULT_BYTES": "100",
            "GPU_WORKER_WORK_ROOT": str(root / "work"),
            "R2_ENDPOINT_URL": gate.base_url,
            "R2_BUCKET_NAME": gate.bucket,
            "R2_ACCESS_KEY_ID": gate.credentials.access_key,
            "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
        }
        platform.start_worker(env)
        gate.put("in.mp4", clip)
        client = Client(platform.endpoint_id, platform.api_key, platform.base_url)
        job = client.submit(DetectScenesTask(input_url=gate.presign("GET", "in.mp4")))
        status = job.wait(timeout=DEADLINE_SECONDS)
        assert status.output is not None, status
        assert (status.output["scenes_count"], "scenes" in status.output) == (2, False)
        stored = requests.get(status.output["result_url"], timeout=10)
        assert stored.status_code == 200
        assert len(DetectScenesResult.model_validate_json(stored.content).scenes) == 2
        assert len(job.result().scenes) == 2, "the SDK reads it from there"
