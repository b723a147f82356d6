"""Detectors against their references: ultralytics' own predict, onnxruntime and plain NumPy, the
published boxes of PETS2009.

A detection counts as found when the reference's box has a partner of its class at IoU 0.9 or more,
each partner used once, with both scores at 0.5 or more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import clips

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.media.probe import VideoInfo, probe, require_video
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.detections import Detections
from gpu_worker_processors.track.detectors import (
    known_models,
    load_detector,
    required_weights,
    ultralytics_net,
)
from gpu_worker_processors.track.detectors.letterbox import FrameScaler, Letterbox
from gpu_worker_processors.track.detectors.ultralytics_yolo import YoloDetector, forget_all

CPU = torch.device("cpu")
CONFIDENT = 0.5
CLIPS = {"basketball_720p24.mp4": 3, "towncentre_pedestrians_1080p.mp4": 1, "MOT17-02-FRCNN": 1}
"""What is in the folder `tracking`, and every how many frames one is looked at."""


def video_of(frame: av.VideoFrame, **changes: Any) -> VideoInfo:
    """What `probe` would say of a stream of such frames."""
    info = VideoInfo(
        index=0,
        codec="",
        width=frame.width,
        height=frame.height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=0,
        mirrored=False,
        sar=Fraction(1),
        time_base=Fraction(1, 25),
        fps=Fraction(25),
        frame_count=None,
        duration_seconds=None,
        pix_fmt=frame.format.name,
        bit_depth=8,
        colorspace=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        color_range=int(frame.color_range),
        interlaced=False,
    )
    return replace(info, **changes)


def decoded(path: Path, step: int = 1) -> list[av.VideoFrame]:
    if path.is_dir():
        return [decoded(image)[0] for image in sorted(path.glob("img1/*.jpg"))]
    with av.open(str(path)) as container:
        return [frame for index, frame in enumerate(container.decode(video=0)) if index % step == 0]


def ious(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """(n, m) overlaps of boxes (n, 4) and (m, 4)."""
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    inner = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b)]
    return inner / (areas[0][:, None] + areas[1][None] - inner + 1e-9)


@dataclass
class Parity:
    """Counts over frames."""

    expected: int = 0
    missed: int = 0
    extra: int = 0

    def add(
        self, boxes: NDArray[Any], classes: NDArray[Any], ours: Detections, least: float = 0.9
    ) -> None:
        sure = ours.where(ours.scores >= CONFIDENT)
        match = ious(boxes, sure.boxes) * (classes[:, None] == sure.classes[None]) >= least
        pairs = 0
        while match.any():
            row, column = np.argwhere(match)[0]
            match[row, :] = match[:, column] = False
            pairs += 1
        self.expected += len(boxes)
        self.missed += len(boxes) - pairs
        self.extra += len(sure) - pairs

    @property
    def found(self) -> float:
        return 1 - self.missed / self.expected

    @property
    def surplus(self) -> float:
        return self.extra / self.expected


@pytest.fixture
def store(weights_dir: Path) -> WeightStore:
    return WeightStore(weights_dir)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    forget_all()


def yolo(
    store: WeightStore, dtype: torch.dtype | None = None, classes: tuple[str, ...] = ()
) -> YoloDetector:
    made = load_detector(
        "yolov8n", classes=classes, iou_threshold=0.7, store=store, device=CPU, dtype=dtype
    )
    assert isinstance(made, YoloDetector)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.995), (torch.bfloat16, 0.98)])
def test_the_boxes_are_those_of_plain_predict(
    media: Path, store: WeightStore, dtype: torch.dtype, least: float
) -> None:
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001
        pytest.skip("this processor has no convolution in bf16")
    detector = yolo(store, dtype)
    from ultralytics import YOLO

    reference = YOLO(str(store.resolve("yolov8n").path))
    for name, step in CLIPS.items():
        frames = decoded(media / "tracking" / name, step)
        scale = detector.scaler(video_of(frames[0]))
        count = Parity()
        for frame, ours in zip(frames, detector([scale(frame) for frame in frames]), strict=True):
            bgr = frame.to_ndarray(format="bgr24")
            boxes = reference.predict(bgr, conf=CONFIDENT, iou=0.7, device="cpu", verbose=False)[
                0
            ].boxes
            count.add(boxes.xyxy.numpy(), boxes.cls.numpy().astype(int), ours)
        print(f"{name} {dtype}: {count}, found {count.found:.4f}, extra {count.surplus:.4f}")
        assert count.expected >= 20
        assert count.found >= least
        assert count.surplus <= 0.02


def test_a_picture_is_what_ultralytics_makes_of_the_same_video(media: Path) -> None:
    pytest.importorskip("ultralytics")
    from ultralytics.data.augment import LetterBox

    for name in ("basketball_720p24.mp4", "towncentre_pedestrians_1080p.mp4"):
        path = media / "tracking" / name
        frame = decoded(path, 1000)[0]
        box = Letterbox.rectangle(frame.width, frame.height)
        assert (box.image_width, box.image_height) == (640, 384)
        bgr = cv2.VideoCapture(str(path)).read()[1]
        expected = LetterBox(640, auto=True)(image=bgr)[..., ::-1]
        assert np.array_equal(FrameScaler(video_of(frame), box)(frame), expected)


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1920, 1080), (721, 1283), (3000, 1), (7680, 4320), (99, 33)]
)
def test_the_letterbox_is_ultralytics_own(width: int, height: int) -> None:
    pytest.importorskip("ultralytics")
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
    box = Letterbox.rectangle(width, height)
    picture = FrameScaler(video_of(frame), box)(frame)
    assert np.array_equal(
        picture, LetterBox(640, auto=True)(image=np.full((height, width, 3), 200, np.uint8))
    )
    boxes = np.array([[0, 0, box.image_width, box.image_height], [50.5, 20, 100, 40]], np.float32)
    expected = scale_boxes(picture.shape[:2], boxes.copy(), (height, width))
    assert np.allclose(box.to_source(boxes), expected, atol=1e-3 * max(width, height) / 640)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_clip_stands_upright_in_the_picture(tmp_path: Path, rotation: int) -> None:
    path = clips.make(
        tmp_path / "a.mp4",
        clips.Clip(width=160, height=96, frames=1, rotation=rotation),
        clips.corners,
    )
    video = require_video(probe(path))
    picture = FrameScaler(video, Letterbox.rectangle(video.width, video.height))(decoded(path)[0])
    assert picture.shape == ((640, 384, 3) if rotation in (90, 270) else (384, 640, 3))
    # Quarters of `corners` clockwise from the top left; the display matrix turns counter-clockwise.
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
    height, width = picture.shape[:2]
    seen = [picture[y * height // 4, x * width // 4] for x, y in ((1, 1), (3, 1), (3, 3), (1, 3))]
    nearest = [int(np.abs(colors - color.astype(int)).sum(1).argmin()) for color in seen]
    assert nearest == [(quarter + rotation // 90) % 4 for quarter in range(4)]


@pytest.mark.slow
def test_a_result_depends_on_its_own_picture_alone(media: Path, store: WeightStore) -> None:
    frames = decoded(media / "tracking" / "towncentre_pedestrians_1080p.mp4", 14)[:6]
    detector = yolo(store)
    scale = detector.scaler(video_of(frames[0]))
    pictures = [scale(frame) for frame in frames]
    together = detector(pictures)
    assert detector.batch == 4
    for index, picture in enumerate(pictures):
        (alone,) = detector([picture])
        assert len(alone) > 5
        for ours, expected in zip(
            vars(alone).values(), vars(together[index]).values(), strict=True
        ):
            # Equal but for the order of sums: a neighbour's picture would change whole boxes.
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=0.05)
    for batch in (1, 2):
        detector.batch = batch
        for ours, expected in zip(detector(pictures), together, strict=True):
            close = ours.where(ours.scores > 0.3)
            assert ious(close.boxes, expected.boxes).max(1).min() > 0.95
    assert detector([]) == []


def test_only_wanted_classes_come_out_weak_ones_too(media: Path, store: WeightStore) -> None:
    frame = decoded(media / "tracking" / "basketball_720p24.mp4", 1000)[0]
    everything, some = yolo(store), yolo(store, classes=("sports ball", "person", "person"))
    assert some.class_names == ("sports ball", "person")
    results: list[Detections] = []
    for detector in (everything, some):
        results += detector([detector.scaler(video_of(frame))(frame)])
    names = [everything.class_names[number] for number in results[0].classes]
    wanted = np.array([name in some.class_names for name in names])
    assert np.array_equal(results[1].boxes, results[0].boxes[wanted])
    assert [some.class_names[number] for number in results[1].classes] == [
        n for n in names if n in some.class_names
    ]
    assert 0.1 <= results[0].scores.min() < 0.3
    assert np.all(np.diff(results[0].scores) <= 0)


def test_numbers_that_are_not_finite_are_computed_again_in_float32(
    media: Path, store: WeightStore
) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001
        pytest.skip("this processor has no convolution in bf16")
    frame = decoded(media / "tracking" / "basketball_720p24.mp4", 1000)[0]
    exact, broken = yolo(store, torch.float32), yolo(store, torch.bfloat16)
    picture = exact.scaler(video_of(frame))(frame)
    broken.scaler(video_of(frame))
    head: Any = broken._network._head  # noqa: SLF001
    head.cv3[0][-1]._convolution.bias.data.fill_(float("nan"))  # noqa: SLF001
    assert np.array_equal(broken([picture])[0].boxes, exact([picture])[0].boxes)
    assert broken.full_precision_batches == 1
    broken._full_precision_network = broken._network  # noqa: SLF001
    with pytest.raises(TaskError) as caught:
        broken([picture])
    assert caught.value.code is ErrorCode.nan_output


def test_memory_that_runs_out_halves_the_batch(
    media: Path, store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = decoded(media / "tracking" / "basketball_720p24.mp4", 60)
    detector = yolo(store)
    pictures = [detector.scaler(video_of(frames[0]))(frame) for frame in frames]
    network, limit = detector._network, 1  # noqa: SLF001
    call = type(network).__call__

    def small(self: Any, batch: torch.Tensor) -> Any:
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, batch)

    monkeypatch.setattr(type(network), "__call__", small)
    assert len(detector(pictures)) == len(frames)
    assert detector.batch == 1
    limit = 0
    with pytest.raises(TaskError) as caught:
        detector(pictures)
    assert caught.value.code is ErrorCode.resource_exhausted


@pytest.mark.parametrize(
    ("config", "end_to_end"),
    [
        ("yolo26n.yaml", False),
        ("yolo26n.yaml", True),
        ("yolov10n.yaml", True),
        ("yolo11n.yaml", False),
    ],
)
def test_every_head_decodes_as_in_ultralytics(config: str, end_to_end: bool) -> None:
    tasks = ultralytics_net.import_ultralytics("tasks", config)
    from ultralytics.utils.nms import non_max_suppression

    torch.manual_seed(3)
    model = tasks.DetectionModel(config, verbose=False).eval()
    model.end2end = end_to_end
    head = model.model[-1]
    for branch in (*head.cv3, *getattr(head, "one2one_cv3", ())):
        # As initialised, every place of the picture scores alike: the features of YOLO26 differ by
        # a millionth.
        branch[-1].weight.data.normal_(0, 3e6 if "26" in config else 30)
        branch[-1].bias.data.fill_(-1)
    picture = np.random.default_rng(1).integers(0, 255, (384, 640, 3), np.uint8)
    with torch.no_grad():
        raw = model(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)
    expected = non_max_suppression(raw, 0.1, 0.5, end2end=head.end2end)[0].numpy()
    network = ultralytics_net.YoloNetwork(model, CPU, torch.float32)
    assert network.end_to_end == end_to_end
    detector = YoloDetector(network, (), 0.5, full_precision=lambda: network)
    detector.scaler(video_of(av.VideoFrame(640, 384, "yuv420p")))
    (ours,) = detector([picture])
    assert len(expected) > 10
    assert abs(len(ours) - len(expected)) <= 0.05 * len(expected), (
        "random boxes overlap in many ties"
    )
    top = min(20, len(ours))
    clipped = np.clip(expected[:top, :4], 0, [640, 384, 640, 384])
    assert np.allclose(ours.scores[:top], expected[:top, 4], atol=1e-3)
    overlap = ious(clipped, ours.boxes) * (expected[:top, 5:6] == ours.classes[None])
    assert np.mean(overlap.max(1) > 0.99) >= 0.9


@pytest.mark.parametrize("model", ["yolov8n", "yolox_nano", "hog"])
def test_a_class_that_is_none_names_the_nearest(store: WeightStore, model: str) -> None:
    with pytest.raises(TaskError) as caught:
        load_detector(
            model, classes=["person", "persn"], iou_threshold=0.5, store=store, device=CPU
        )
    assert caught.value.code is ErrorCode.invalid_task
    assert "classes.1" in caught.value.message
    assert "'person'" in caught.value.message


def test_an_unknown_model_is_refused_and_the_known_are_named(store: WeightStore) -> None:
    for name in ("yolov9z", "realesr-animevideov3"):
        with pytest.raises(TaskError, match="yolov8n.*hog") as caught:
            load_detector(name, classes=["person"], iou_threshold=0.5, store=store, device=CPU)
        assert caught.value.code is ErrorCode.invalid_task
    assert {"yolov8n", "yolov8x", "yolo11m", "yolo26x", "yolox_nano", "hog"} <= set(
        known_models(store)
    )
    assert (required_weights("hog"), required_weights("yolov8n")) == ((), ("yolov8n",))


def test_the_network_stays_warm(store: WeightStore) -> None:
    assert yolo(store)._network is yolo(store)._network  # noqa: SLF001


def in_subprocess(code: str) -> str:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("YOLO_", "ULTRALYTICS_"))
    }
    run = [sys.executable, "-c", code]
    return subprocess.run(
        run, check=True, capture_output=True, text=True, timeout=120, env=clean
    ).stdout


LOAD = """
from pathlib import Path
import torch
from gpu_worker_processors.models.weights import WeightStore
from gpu_worker_processors.track.detectors import load_detector
def load():
    return load_detector("yolov8n", classes=["person"], iou_threshold=0.5,
                         store=WeightStore(Path({folder!r})),
                         device=torch.device("cpu"))
"""


@pytest.mark.slow
def test_a_missing_extra_is_said_with_the_line_that_installs_it(weights_dir: Path) -> None:
    code = "import sys\nsys.modules['ultralytics'] = None\n" + LOAD.format(folder=str(weights_dir))
    code += (
        "try:\n    load()\nexcept Exception as error:\n    print(error.code.value, error.message)\n"
    )
    out = in_subprocess(code)
    assert out.startswith("unsupported_task")
    assert 'pip install "gpu-worker-processors[yolo]"' in out


@pytest.mark.slow
def test_importing_ultralytics_leaves_the_process_as_it_was(weights_dir: Path) -> None:
    code = (
        "import os, cv2, numpy, warnings\nos.environ.pop('OMP_NUM_THREADS',"
        " None)\ncv2.setNumThreads(2)\n"
    )
    code += (
        "def state():\n    return (dict(os.environ), cv2.getNumThreads(), cv2.imread,"
        " numpy.get_printoptions())\n"
    )
    code += LOAD.format(folder=str(weights_dir))
    code += "before = state()\nload()\nafter = state()\nprint(before[1:] == after[1:])\n"
    code += "print(sorted(set(after[0].items()) ^ set(before[0].items())))\n"
    same, changed = in_subprocess(code).splitlines()
    assert same == "True"
    assert "YOLO_OFFLINE" in changed
    assert "OMP_NUM_THREADS" not in changed
    assert "YOLO_CONFIG_DIR" not in changed


IN_A_WORKTREE = """
import sys
from pathlib import Path
from gpu_worker_processors.sandbox.level import SandboxSpec, apply
checkout, work = map(Path, sys.argv[1:])
sys.path.insert(0, str(checkout / "site"))
apply(SandboxSpec("best_effort", work, readable=(checkout / "site",)))
from gpu_worker_processors.track.detectors.ultralytics_net import import_ultralytics
print(import_ultralytics("tasks", "yolov8n").__file__)
"""


@pytest.mark.slow
def test_a_detector_loads_in_the_sandbox_where_it_is_installed_below_a_git_worktree(
    tmp_path: Path,
) -> None:
    """A worktree's `.git` is a file, which ultralytics reads when it is imported, and which the
    sandbox closes."""
    checkout, work = (tmp_path / "checkout").resolve(), tmp_path / "work"
    work.mkdir()
    installed = find_spec("ultralytics")
    assert installed is not None and installed.origin is not None
    package = shutil.copytree(Path(installed.origin).parent, checkout / "site" / "ultralytics")
    (checkout / ".git").write_text(f"gitdir: {tmp_path}/elsewhere/.git/worktrees/checkout\n")
    run = [sys.executable, "-c", IN_A_WORKTREE, str(checkout), str(work)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == [str(package / "nn" / "tasks.py")], done.stderr
