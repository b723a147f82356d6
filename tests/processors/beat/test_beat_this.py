"""The engine `beat_this` around a network of the same shape: spectrogram, pieces, peaks, downbeats,
weights by manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from support import music, onnx_beats

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.beat import BeatParams, BeatResult
from gpu_worker_processors.base import LocalJob, ProcessorSettings
from gpu_worker_processors.beat import beat_this
from gpu_worker_processors.beat.processor import PROCESSOR
from gpu_worker_processors.beat.waveform_file import Spool

MANIFEST = """
[[weights]]
name = "beat_this_final"
file = "beats.onnx"
sha256 = "{digest}"
"""


def spooled(sound: music.Samples, tmp_path: Path) -> Spool:
    return Spool.write(tmp_path / "s.f32", music.RATE, [sound])


def weights_folder(tmp_path: Path, content: bytes) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "beats.onnx").write_bytes(content)
    (folder / "manifest.local.toml").write_text(
        MANIFEST.format(digest=hashlib.sha256(content).hexdigest())
    )
    return folder


def run(sound: music.Samples, tmp_path: Path, content: bytes) -> BeatResult:
    source = music.save(tmp_path / "s.wav", sound)
    settings = ProcessorSettings(weights_folder(tmp_path, content))
    job = LocalJob("t", BeatParams(engine="beat_this"), tmp_path, source, settings=settings)
    PROCESSOR.prepare(job)
    return PROCESSOR.run(job)


@pytest.mark.slow
def test_the_spectrogram_is_the_published_one(tmp_path: Path) -> None:
    """torchaudio's MelSpectrogram(1024, hop 441, 30 to 11000 Hz, 128 Slaney mels, frame_length,
    power 1) and log1p(1000 x)."""
    librosa = pytest.importorskip("librosa", reason="the oracle of the development environment")
    sound = np.random.default_rng(3).normal(size=3 * music.RATE).astype(np.float32) * 0.1
    stft = (
        np.abs(
            librosa.stft(
                sound, n_fft=1024, hop_length=441, window="hann", center=True, pad_mode="reflect"
            )
        )
        / 32
    )
    mel = librosa.filters.mel(
        sr=music.RATE, n_fft=1024, n_mels=128, fmin=30, fmax=11_000, norm=None
    )
    expected = np.log1p(1000 * (mel @ stft)).T
    np.testing.assert_allclose(
        beat_this.log_mel(spooled(sound, tmp_path), 0, len(expected)), expected, atol=1e-3
    )


def test_frames_outside_the_sound_are_zeros(tmp_path: Path) -> None:
    spool = spooled(music.clicks([0.0, 0.9], 1.0), tmp_path)
    frames = beat_this.log_mel(spool, -6, 63)
    assert not frames[:6].any() and not frames[57:].any()
    assert frames[6:57].any()
    np.testing.assert_array_equal(frames[6:57], beat_this.log_mel(spool, 0, 51))


@pytest.mark.parametrize("total", [1, 20, 1487, 1488, 1489, 1494, 1500, 3000, 10_007])
def test_pieces_cover_every_frame_and_are_no_longer_than_the_network_takes(total: int) -> None:
    pieces = beat_this.pieces(total)
    assert all(0 < count <= 1500 for _, count in pieces)
    used = [range(start + 6, start + count - 6) for start, count in pieces]
    assert set().union(*used) >= set(range(total))
    if total > 1488:
        assert all(count == 1500 for _, count in pieces)


@pytest.mark.parametrize("seconds", [1.0, 29.8, 31.0, 75.3])
def test_pieces_leave_no_seam(seconds: float, tmp_path: Path) -> None:
    """A network that looks at one frame alone gives over pieces what it gives over the whole."""
    sound = (
        np.random.default_rng(1).normal(size=round(seconds * music.RATE)).astype(np.float32) * 0.1
    )
    spool = spooled(sound, tmp_path)
    total = 1 + len(sound) // 441

    def network(frames: music.Samples) -> tuple[music.Samples, music.Samples]:
        return frames.mean(axis=1), frames.max(axis=1)

    beat, down = beat_this.logits(spool, network, lambda done, total: None)
    whole = beat_this.log_mel(spool, 0, total)
    np.testing.assert_allclose(beat, whole.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(down, whole.max(axis=1), atol=1e-5)


def test_peaks() -> None:
    values = np.full(40, -5, np.float32)
    values[[5, 8, 20, 21, 30, 39]] = [
        2,
        3,
        1,
        1,
        -0.5,
        4,
    ]  # 8 hides 5, 20 and 21 are one, 30 is below even odds
    assert beat_this.peaks(values).tolist() == [8, 20.5, 39]
    assert beat_this.peaks(np.full(10, -1, np.float32)).tolist() == []


def test_downbeats_are_beats() -> None:
    beat, down = np.full((2, 200), -9, np.float32)
    beat[[50, 75, 100, 125]] = 3
    down[[52, 124]] = 1
    times, sure, first = beat_this.beats_and_downbeats(beat, down)
    assert times == [1.0, 1.5, 2.0, 2.5]
    assert first == [1.0, 2.5]
    assert sure == pytest.approx([1 / (1 + np.exp(-3))] * 4)


def bars(seconds: float) -> tuple[music.Samples, np.ndarray]:
    """120 bpm in four: a dull click on every beat, a bright one on top at the start of each bar."""
    times = music.steady(120, 0.5, seconds - 0.2)
    sound = np.zeros(round(seconds * music.RATE), np.float32)
    fade = np.hanning(882).astype(np.float32)
    music.put(sound, times - 0.02, np.sin(np.arange(882) * 0.1).astype(np.float32) * fade, 0.6)
    bright = np.diff(np.random.default_rng(2).normal(size=883)).astype(np.float32)
    music.put(sound, times[::4] - 0.02, bright * fade, 0.2)
    return sound, times


def test_beats_and_downbeats_through_the_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `beat_this`")
    sound, times = bars(40.0)
    result = run(sound, tmp_path, onnx_beats.beat_network())
    np.testing.assert_allclose(result.beat_times, times, atol=0.03)  # frames of 20 ms
    assert result.downbeats is not None
    np.testing.assert_allclose(result.downbeats, times[::4], atol=0.03)
    assert set(result.downbeats) <= set(result.beat_times)
    assert result.tempo == pytest.approx(120, rel=0.01)
    assert all(0.5 < c <= 1 for c in result.confidence)


def test_silence_has_no_downbeat(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `beat_this`")
    result = run(np.zeros(music.RATE, np.float32), tmp_path, onnx_beats.beat_network())
    assert (result.tempo, result.beat_times, result.downbeats) == (0.0, [], [])


@pytest.mark.parametrize(
    "content", [b"no network", onnx_beats.beat_network(bands=80)], ids=["no onnx", "other shape"]
)
def test_another_file_is_rejected(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `beat_this`")
    with pytest.raises(TaskError) as caught:
        run(np.zeros(music.RATE, np.float32), tmp_path, content)
    assert caught.value.code is ErrorCode.weights_rejected


def test_without_weights_it_says_so(tmp_path: Path) -> None:
    job = LocalJob(
        "t", BeatParams(engine="beat_this"), tmp_path, settings=ProcessorSettings(tmp_path)
    )
    with pytest.raises(TaskError) as caught:
        PROCESSOR.prepare(job)
    assert caught.value.code is ErrorCode.weights_missing
    assert PROCESSOR.required_weights(BeatParams(engine="beat_this", model="small")) == (
        "beat_this_small",
    )
    assert PROCESSOR.required_weights(BeatParams()) == ()


def test_without_the_runtime_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(beat_this, "import_module", missing)
    folder = weights_folder(tmp_path, onnx_beats.beat_network(bands=64))
    job = LocalJob(
        "t", BeatParams(engine="beat_this"), tmp_path, settings=ProcessorSettings(folder)
    )
    with pytest.raises(TaskError, match=r"gpu-worker-processors\[beat_this\]") as caught:
        PROCESSOR.prepare(job)
    assert caught.value.code is ErrorCode.unsupported_task


def test_an_answer_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    spool = spooled(music.clicks([0.5], 1.0), tmp_path)
    nan = np.full(63, np.nan, np.float32)
    with pytest.raises(TaskError) as caught:
        beat_this.logits(spool, lambda frames: (nan, nan), lambda done, total: None)
    assert caught.value.code is ErrorCode.nan_output
