"""Faces: the detector's file format, the geometry of cutting out and putting back, following over
frames, GFPGAN's own network.

The official weights are not needed: geometry is tested with the identity in GFPGAN's place on real
photographs whose landmarks were marked by hand, YuNet's path with a file of the same form, GFPGAN
with random weights in the official key layout.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from support.onnx_faces import FACE_CELLS, LANDMARKS, STRIDE, face_detector
from support.reference_nets import reference
from support.tiny_weights import WeightsFolder, compact
from torch import Tensor
from torch.nn import functional

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models import faces as faces_module
from gpu_worker_processors.models.detect.yunet import Face, YuNet
from gpu_worker_processors.models.face_tracks import FaceTracks
from gpu_worker_processors.models.faces import TEMPLATE, FaceEnhancer, load_restorer
from gpu_worker_processors.models.warp import enlarged, invert, sample, similarity
from gpu_worker_processors.models.weights import FACE_DETECTOR, FACE_RESTORER, WeightStore

CPU = torch.device("cpu")
NO_STORE = WeightStore(None)
ASTRONAUT = np.array(
    [[204.0, 101.4], [246.2, 103.2], [224.0, 127.0], [204.4, 141.0], [243.6, 141.6]]
)
"""Landmarks of skimage's astronaut (512x512), marked by hand to about 2 px."""


def face(landmarks: NDArray[np.float64], score: float = 0.9) -> Face:
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    pad = (high - low) * 0.5
    return Face((*(low - pad), *(high + pad)), landmarks, score)


class Scripted:
    """Answers prepared detections, one list per frame."""

    def __init__(self, *frames: list[Face]) -> None:
        self._frames = list(frames)

    def detect(self, rgb: NDArray[np.uint8]) -> list[Face]:
        return self._frames.pop(0)


def photograph() -> Tensor:
    return torch.from_numpy(skimage.data.astronaut().copy()).permute(2, 0, 1).float() / 255


def upscaled(rgb: Tensor, factor: int) -> Tensor:
    size = [edge * factor for edge in rgb.shape[1:]]
    return functional.interpolate(rgb[None], size=size, mode="bicubic", align_corners=False)[
        0
    ].clamp(0, 1)


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float(((a - b) ** 2).mean()) + 1e-12)


# Detector
# ------------------------------------------------------------------------------------------


def green_detector(tmp_path: Path) -> YuNet:
    folder = WeightsFolder(tmp_path)
    folder.put_bytes(FACE_DETECTOR, f"{FACE_DETECTOR}.onnx", face_detector(), arch="yunet")
    return YuNet.load(folder.store())


@pytest.mark.parametrize(
    ("width", "height", "shrink"), [(320, 256, 1), (100, 75, 1), (1280, 960, 2)]
)
def test_detections_come_back_in_pixels_of_the_full_frame(
    tmp_path: Path, width: int, height: int, shrink: int
) -> None:
    cell = STRIDE * shrink
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[2 * cell : 3 * cell, 3 * cell : 4 * cell, 1] = 255
    (found,) = green_detector(tmp_path).detect(rgb)
    half = FACE_CELLS / 2
    assert found.box == pytest.approx(
        ((3.5 - half) * cell, (2.5 - half) * cell, (3.5 + half) * cell, (2.5 + half) * cell),
        abs=0.5,
    )
    expected = [((3 + x) * cell, (2 + y) * cell) for x, y in LANDMARKS]
    assert found.landmarks.ravel() == pytest.approx(np.array(expected).ravel(), abs=0.5 * shrink)
    assert found.score > 0.99


def test_no_face_is_an_empty_list_and_red_is_not_green(tmp_path: Path) -> None:
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[16:32, 16:32, 0] = 255
    assert green_detector(tmp_path).detect(rgb) == []


def test_a_file_that_is_no_detector_is_rejected(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put_bytes(FACE_DETECTOR, f"{FACE_DETECTOR}.onnx", b"no onnx at all", arch="yunet")
    with pytest.raises(TaskError) as caught:
        YuNet.load(folder.store())
    assert caught.value.code is ErrorCode.weights_rejected


def test_yunet_finds_the_astronaut(weights_dir: Path) -> None:
    store = WeightStore(weights_dir)
    if not store.present(FACE_DETECTOR):
        pytest.skip(
            f"{FACE_DETECTOR} is not in WEIGHTS_DIR: gpu-worker weights pull {FACE_DETECTOR}"
        )
    (found,) = YuNet.load(store).detect(skimage.data.astronaut())
    assert np.abs(found.landmarks - ASTRONAUT).max() < 8


# Geometry
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
def test_a_known_rotation_scale_and_shift_is_recovered(degrees: float) -> None:
    angle = math.radians(degrees)
    linear = 3.2 * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrix = np.hstack([linear, [[40.5], [-7.25]]])
    points = TEMPLATE @ linear.T + matrix[:, 2]
    assert similarity(TEMPLATE, points) == pytest.approx(matrix)
    assert invert(matrix) == pytest.approx(similarity(points, TEMPLATE))


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    assert np.linalg.det(similarity(TEMPLATE * [-1, 1], TEMPLATE)[:, :2]) > 0


def test_samples_of_a_plane_are_where_the_matrix_says() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    plane = torch.stack([x, y]) / 100
    matrix = np.array([[0.5, 0.2, 20.0], [-0.2, 0.5, 25.0]])
    for border in ("border", "zeros"):
        got = sample(plane, matrix, 3, 2, 10, 8, border)
        ys, xs = np.mgrid[2:10, 3:13]
        expected = np.stack([0.5 * xs + 0.2 * ys + 20, -0.2 * xs + 0.5 * ys + 25]) / 100
        assert got.numpy() == pytest.approx(expected, abs=1e-3), (
            "a tenth of a pixel: torch's bicubic bends a plane a little"
        )
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert torch.allclose(sample(plane, identity, 0, 0, 80, 60), plane, atol=1e-5)


def test_shrinking_by_a_lot_averages_and_keeps_its_place() -> None:
    x = torch.arange(400.0).expand(1, 400, 400) / 400
    matrix = np.array(
        [[4.0, 0, 1.5], [0, 4.0, 1.5]]
    )  # pixel i of the window covers pixels 4i .. 4i+3
    got = sample(x, matrix, 0, 0, 100, 100)[0, 50, 10:90]
    assert got.numpy() == pytest.approx((np.arange(10, 90) * 4 + 1.5) / 400, abs=1e-3)
    checkered = (torch.arange(400).view(-1, 1) + torch.arange(400)) % 2 * torch.ones(1, 400, 400)
    assert sample(checkered, matrix, 0, 0, 100, 100)[0, 5:95, 5:95].std() < 0.01


def test_enlarged_pixels_are_the_same_places() -> None:
    matrix = np.array([[2.0, 0.3, 5.0], [-0.3, 2.0, 1.0]])
    point = np.array([11.0, 7.0])
    four_times = (point + 0.5) * 4 - 0.5
    assert enlarged(matrix, 4, 4) @ [*four_times, 1] == pytest.approx(matrix @ [*point, 1])


@pytest.mark.parametrize(("factor", "quarter_turns"), [(2, 0), (4, 0), (2, 1)])
def test_a_face_put_back_unchanged_lies_where_it_was(factor: int, quarter_turns: int) -> None:
    rgb = torch.rot90(photograph(), quarter_turns, (1, 2)).contiguous()
    marks = (
        ASTRONAUT
        if quarter_turns == 0
        else np.stack([ASTRONAUT[:, 1], 511 - ASTRONAUT[:, 0]], axis=1)
    )
    large = upscaled(rgb, factor)
    enhancer = FaceEnhancer(NO_STORE, CPU, detector=Scripted([face(marks)]), net=lambda crop: crop)
    out, count = enhancer.enhance(rgb, large)
    assert count == 1 and out.shape == large.shape
    low, high = (marks.min(axis=0) * factor).astype(int), (marks.max(axis=0) * factor).astype(int)
    inside = slice(None), slice(low[1], high[1]), slice(low[0], high[0])
    assert not torch.equal(out[inside], large[inside]), "something was put back"
    assert psnr(out[inside], large[inside]) > 38
    shifted = torch.roll(out, factor, 2)
    assert psnr(shifted[inside], large[inside]) < 34, (
        "the test can tell a shift of one pixel of the original"
    )
    far = slice(400 * factor, None)
    if quarter_turns == 0:
        assert torch.equal(out[:, far], large[:, far]), "what is no face is untouched"
    assert torch.equal(large, upscaled(rgb, factor)), "the input is left alone"


def test_the_border_of_a_restored_face_is_soft() -> None:
    rgb = torch.full((3, 256, 256), 0.5)
    marks = (TEMPLATE - 256) / 4 + 128
    enhancer = FaceEnhancer(
        NO_STORE, CPU, detector=Scripted([face(marks)]), net=lambda crop: torch.ones_like(crop)
    )
    out, _ = enhancer.enhance(rgb, upscaled(rgb, 2))
    assert out[:, 256, 256].min() > 0.99
    steps = torch.cat([out.diff(dim=1).abs().flatten(), out.diff(dim=2).abs().flatten()])
    assert steps.max() < 0.5 * math.pi / 2 / 32 * 1.2, (
        "0.5 of brightness over a feather of 32 px: never a visible edge"
    )


def test_a_face_at_the_frame_border_or_of_no_size_is_no_failure() -> None:
    rgb = photograph()
    outside = ASTRONAUT - [230, 120]
    dot = np.full((5, 2), 100.0)
    enhancer = FaceEnhancer(
        NO_STORE, CPU, detector=Scripted([face(outside), face(dot)]), net=lambda crop: crop
    )
    out, count = enhancer.enhance(rgb, upscaled(rgb, 2))
    assert count == 1 and bool(torch.isfinite(out).all())


def test_frames_without_faces_come_back_as_they_are() -> None:
    rgb = photograph()
    large = upscaled(rgb, 2)
    out, count = FaceEnhancer(NO_STORE, CPU, detector=Scripted([]), net=lambda crop: crop).enhance(
        rgb, large
    )
    assert count == 0 and out is large


def test_nan_from_the_restorer_is_an_error_not_a_hole() -> None:
    rgb = photograph()
    net = lambda crop: crop * math.nan  # noqa: E731
    enhancer = FaceEnhancer(NO_STORE, CPU, detector=Scripted([face(ASTRONAUT)]), net=net)
    with pytest.raises(TaskError) as caught:
        enhancer.enhance(rgb, upscaled(rgb, 2))
    assert caught.value.code is ErrorCode.nan_output


# Over time
# ------------------------------------------------------------------------------------------


def test_trembling_landmarks_become_calm_and_moving_ones_do_not_lag() -> None:
    random = np.random.default_rng(0)
    tracks = FaceTracks()
    seen, drawn = [], []
    for _ in range(200):
        marks = ASTRONAUT + random.normal(0, 1.0, (5, 2))
        seen.append(marks)
        drawn.append(tracks.update([face(marks)])[0].landmarks.copy())
    assert np.diff(drawn, axis=0).std() < 0.5 * np.diff(seen, axis=0).std()
    assert np.abs(np.mean(drawn, axis=0) - ASTRONAUT).max() < 0.5
    for step in range(1, 20):
        moved = ASTRONAUT + [8.0 * step, 0]
        (followed,) = tracks.update([face(moved)])
    assert np.abs(followed.landmarks - moved).max() < 2


def test_a_face_missed_for_one_frame_stays_and_a_lost_one_fades() -> None:
    tracks = FaceTracks()
    assert [f.strength for f in tracks.update([face(ASTRONAUT)])] == [1.0], (
        "at the start of a shot it is there at once"
    )
    assert [f.strength for f in tracks.update([])] == [0.75]
    assert [f.strength for f in tracks.update([face(ASTRONAUT)])] == [1.0]
    strengths = [[f.strength for f in tracks.update([])] for _ in range(5)]
    assert strengths == [[0.75], [0.5], [0.25], [], []]
    assert [f.strength for f in tracks.update([face(ASTRONAUT)])] == [0.25], "later it fades in"
    tracks.reset()
    assert [f.strength for f in tracks.update([face(ASTRONAUT)])] == [1.0]


def test_two_faces_keep_apart_when_their_order_changes() -> None:
    tracks = FaceTracks()
    left, right = face(ASTRONAUT), face(ASTRONAUT + [200, 0])
    tracks.update([left, right])
    drawn = tracks.update([right, left])
    assert [f.landmarks[0, 0] for f in drawn] == pytest.approx(
        [ASTRONAUT[0, 0], ASTRONAUT[0, 0] + 200]
    )


def test_a_cut_forgets_the_old_shot() -> None:
    rgb = photograph()
    enhancer = FaceEnhancer(
        NO_STORE, CPU, detector=Scripted([face(ASTRONAUT)], [], []), net=lambda crop: crop
    )
    assert enhancer.enhance(rgb, upscaled(rgb, 2))[1] == 1
    assert enhancer.enhance(rgb, upscaled(rgb, 2))[1] == 1
    enhancer.reset()
    assert enhancer.enhance(rgb, upscaled(rgb, 2))[1] == 0


# GFPGAN
# ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gfpgan_of_the_official_layout_computes_what_the_original_does(tmp_path: Path) -> None:
    original = (
        reference()
        .GFPGANv1Clean(
            out_size=512,
            num_style_feat=512,
            channel_multiplier=2,
            decoder_load_path=None,
            fix_decoder=False,
            num_mlp=8,
            input_is_latent=True,
            different_w=True,
            narrow=1,
            sft_half=True,
        )
        .eval()
    )
    folder = WeightsFolder(tmp_path)
    folder.put(FACE_RESTORER, original.state_dict(), arch="gfpgan", scale=1)
    faces_module._warm.clear()
    restore = load_restorer(folder.store(), CPU)
    crop = functional.interpolate(
        photograph()[None, :, 60:230, 140:310], size=(512, 512), mode="bicubic"
    ).clamp(0, 1)
    with torch.no_grad():
        expected = (original(crop * 2 - 1, return_rgb=False, randomize_noise=False)[0] + 1) / 2
        got = restore(crop)
    assert psnr(got.clamp(0, 1), expected.clamp(0, 1)) > 35, "bfloat16 where the CPU computes it"
    assert torch.equal(restore(crop), got), (
        "no noise drawn anew: the same face twice is the same picture"
    )
    faces_module._warm.clear()


def test_the_wrong_network_in_gfpgans_place_is_rejected(tmp_path: Path) -> None:
    folder = WeightsFolder(tmp_path)
    folder.put(FACE_RESTORER, compact(), arch="gfpgan", scale=1)
    with pytest.raises(TaskError) as caught:
        load_restorer(folder.store(), CPU)
    assert caught.value.details["reason"] == "state_dict_mismatch"
