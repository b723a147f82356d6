"""Hostile inputs through the whole way of a job: gate, fetch, engine, delivery. Each ends typed,
delivers nothing, leaves no directory behind, and the next job on the same engine is fine."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from support import clips

from gpu_worker.app import Worker
from gpu_worker.devserver.faults.plan import Fault
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.devserver.store.gate import R2Gate
from gpu_worker.settings import Settings
from gpu_worker_client.protocol import ErrorBody
from gpu_worker_processors.engine.host import Engine

Build = Callable[[Path], Path]
SECRET = "X-Amz-Signature"


@dataclass
class House:
    """One worker with its engine and the gate it talks to."""

    gate: R2Gate
    settings: Settings
    worker: Worker

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        return asyncio.run(self.worker.handle({"id": "job", "input": task}))

    def refusal(self, task: dict[str, Any]) -> ErrorBody:
        """The typed error of a task that must fail, after the checks that hold for every
        failure."""
        answer = self.run(task)
        assert set(answer) <= {"error", "refresh_worker"}, answer
        assert SECRET not in json.dumps(answer)
        assert self.gate.read("out.mp4") is None, "something was delivered"
        assert list(self.settings.work_root.glob("job-*")) == []
        body = ErrorBody.from_wire(answer["error"])
        assert body is not None and body.message
        return body

    def assert_the_next_job_is_fine(self) -> None:
        answer = self.run(
            {"task": "detect_scenes", "input_url": self.gate.presign("GET", "good.mp4")}
        )
        assert answer.get("status") == "completed", answer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("house")
    with LocalPlatform(data_dir=root / "platform") as platform:
        settings = Settings(
            work_root=root / "work",
            exempt_hosts=frozenset({platform.gate.base_url.removeprefix("http://")}),
            weights_dir=Path(os.environ["WEIGHTS_DIR"]) if os.environ.get("WEIGHTS_DIR") else None,
            max_pixels=4_000_000,
        )
        engine = Engine(settings, os.environ)
        platform.gate.put("good.mp4", clips.make(root / "good.mp4"))
        worker = Worker(settings, engine)
        yield House(platform.gate, settings, worker)
        engine.close()


@pytest.fixture(autouse=True)
def clean(house: House) -> Iterator[None]:
    yield
    house.gate.faults.clear()


def ffmpeg(*args: str | Path) -> None:
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)],
        check=True,
        timeout=60,
    )


def good(folder: Path, **changes: Any) -> Path:
    return clips.make(folder / "clip.mp4", clips.Clip(**changes))


def faststart(folder: Path) -> Path:
    ffmpeg(
        "-i", good(folder, frames=30), "-c", "copy", "-movflags", "+faststart", folder / "fast.mp4"
    )
    return folder / "fast.mp4"


def content(data: bytes) -> Build:
    def build(folder: Path) -> Path:
        path = folder / "made.mp4"
        path.write_bytes(data)
        return path

    return build


def without_moov(folder: Path) -> Path:
    """An ordinary mp4 has its index at the end; a recorder that loses power never writes it."""
    path = good(folder)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"moov") - 4])
    return path


def half_of_it(folder: Path) -> Path:
    path = faststart(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def flipped(folder: Path) -> Path:
    path = faststart(folder)
    data, dice = bytearray(path.read_bytes()), random.Random(7)
    body = data.index(b"mdat") + 8
    for _ in range(200):
        data[dice.randrange(body, len(data))] ^= 0xFF
    path.write_bytes(data)
    return path


def sound_only(folder: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", folder / "sound.mp4")
    return folder / "sound.mp4"


def cover_only(folder: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", folder / "cover.png")
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=d=1",
        "-i",
        folder / "cover.png",
        "-map",
        "0",
        "-map",
        "1",
        "-c:a",
        "aac",
        "-c:v",
        "png",
        "-disposition:v:0",
        "attached_pic",
        folder / "song.mp4",
    )
    return folder / "song.mp4"


def huge_picture(folder: Path) -> Path:
    path = folder / "huge.png"
    cv2.imwrite(str(path), np.zeros((8000, 8000), np.uint8))
    return path


def playlist(folder: Path) -> Path:
    return content(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")(folder)


BAD_MEDIA: dict[str, tuple[Build, str]] = {
    "M01 empty": (content(b""), "not_media"),
    "M02 error page": (
        content(b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'),
        "not_media",
    ),
    "M02 html": (content(b"<!DOCTYPE html><html><body>403</body></html>"), "not_media"),
    "M03 no moov": (without_moov, "corrupt_media"),
    "M04 half of it": (half_of_it, "corrupt_media"),
    "M06 flipped bytes": (flipped, "corrupt_media"),
    "M07 sound only": (sound_only, "no_video_stream"),
    "M09 cover only": (cover_only, "no_video_stream"),
    "M11 too many pixels": (
        lambda folder: good(folder, width=2304, height=1744, frames=1),
        "media_limit",
    ),
    "M24 a still picture": (huge_picture, "unsupported_media"),
    "M21 playlist": (playlist, "not_media"),
    "M23 zip": (content(b"PK\x03\x04" + bytes(100)), "not_media"),
    "noise": (content(random.Random(1).randbytes(50_000)), "not_media"),
}


def task_for(house: House, name: str, url: str) -> dict[str, Any]:
    task: dict[str, Any] = {"task": name, "input_url": url}
    if name == "upscale":
        params = {"model": "realesr-animevideov3"}
        task |= {"output_url": house.gate.presign("PUT", "out.mp4"), "params": params}
    if name in ("track", "auto_crop"):
        task |= {"output_url": house.gate.presign("PUT", "out.mp4")}
    return task


TASKS = ("upscale", "track", "auto_crop")


def is_quick(number: int, row: str, task: str) -> bool:
    """Opening a file is one for all tasks, so each row has two of them. What breaks while frames
    are read has all."""
    is_read = row in ("M04 half of it", "M06 flipped bytes")
    return is_read or task in ("detect_scenes", TASKS[number % len(TASKS)])


@pytest.mark.parametrize(
    ("row", "name"),
    [
        pytest.param(row, task, marks=() if is_quick(number, row, task) else pytest.mark.slow)
        for number, row in enumerate(BAD_MEDIA)
        for task in ("detect_scenes", *TASKS)
    ],
)
def test_bad_media(house: House, tmp_path: Path, weights_dir: Path, row: str, name: str) -> None:
    build, codes = BAD_MEDIA[row]
    house.gate.put("bad.mp4", build(tmp_path))
    error = house.refusal(task_for(house, name, house.gate.presign("GET", "bad.mp4")))
    assert error.code in codes.split(), error
    assert error.retryable is False
    house.assert_the_next_job_is_fine()


FINE_MEDIA: dict[str, clips.Clip] = {
    "M10 2x2": clips.Clip(width=2, height=2, frames=5),
    "M12 odd size": clips.Clip(width=53, height=47, frames=5, pix_fmt="yuv444p"),
    "M14 variable rate": clips.Clip(frames=5, pts=[0, 3000, 9000, 9001, 90000]),
    "M15 turned, SAR": clips.Clip(width=64, height=48, frames=5, rotation=90, sar=Fraction(4, 3)),
}


COUNTED = {"upscale": "frames_processed", "track": "total_frames", "auto_crop": "frames_processed"}
FINE = [
    pytest.param(clip, task, counted, id=f"{row} {task}")
    for row, clip in FINE_MEDIA.items()
    for task, counted in COUNTED.items()
    if (row, task) != ("M10 2x2", "auto_crop")  # no window has room in it
]


@pytest.mark.parametrize(("clip", "name", "frames"), FINE)
def test_odd_media_comes_out_frame_for_frame(
    house: House, tmp_path: Path, weights_dir: Path, clip: clips.Clip, name: str, frames: str
) -> None:
    house.gate.put("odd.mp4", clips.make(tmp_path / "odd.mp4", clip))
    key = f"{tmp_path.name}.mp4"
    task = task_for(house, name, house.gate.presign("GET", "odd.mp4"))
    answer = house.run(task | {"output_url": house.gate.presign("PUT", key)})
    assert answer.get("status") == "completed", answer
    assert answer["stats"][frames] == 5
    stored = house.gate.path(key)
    with av.open(str(stored)) as output:
        assert sum(1 for _ in output.decode(output.streams.video[0])) == 5


def test_m10_a_picture_without_room_for_a_window(
    house: House, tmp_path: Path, weights_dir: Path
) -> None:
    house.gate.put("tiny.mp4", clips.make(tmp_path / "tiny.mp4", FINE_MEDIA["M10 2x2"]))
    error = house.refusal(task_for(house, "auto_crop", house.gate.presign("GET", "tiny.mp4")))
    assert error.code == "invalid_task"
    assert "16 pixels" in error.message


STORE_FAULTS: dict[str, tuple[Fault, str]] = {
    "S01 expired": (Fault.expire(method="GET", path="good.mp4", times=None), "url_expired"),
    "S04 gone": (
        Fault.status(404, code="NoSuchKey", method="GET", path="good.mp4", times=None),
        "input_not_found",
    ),
    "403": (
        Fault.status(403, code="AccessDenied", method="GET", path="good.mp4", times=None),
        "url_denied",
    ),
    "U12 redirect": (
        Fault.redirect("http://169.254.169.254/", method="GET", path="good.mp4", times=None),
        "redirect_not_allowed",
    ),
    "S12 gzip": (Fault.gzip(method="GET", path="good.mp4", times=None), "unsupported_media"),
    "PUT denied": (
        Fault.status(403, code="SignatureDoesNotMatch", method="PUT", path="out.mp4", times=None),
        "url_denied",
    ),
}


@pytest.mark.parametrize("row", STORE_FAULTS.values(), ids=STORE_FAULTS)
def test_store_faults(house: House, weights_dir: Path, row: tuple[Fault, str]) -> None:
    fault, codes = row
    house.gate.faults.add(fault)
    error = house.refusal(task_for(house, "upscale", house.gate.presign("GET", "good.mp4")))
    assert error.code in codes.split(), error
    assert fault.hits > 0
    house.gate.faults.clear()
    house.assert_the_next_job_is_fine()


URLS: dict[str, tuple[str, str]] = {
    "U01 http": ("http://example.com/x.mp4", "url_not_allowed"),
    "U02 file": ("file:///etc/passwd", "url_not_allowed"),
    "U02 concat": ("concat:/etc/passwd", "url_not_allowed"),
    "U03 loopback": ("https://127.0.0.1/x.mp4", "address_not_allowed"),
    "U05 metadata": ("https://169.254.169.254/latest/meta-data", "address_not_allowed"),
    "U07 mapped": ("https://[::ffff:127.0.0.1]/x", "address_not_allowed"),
    "U08 6to4": ("https://[2002:a9fe:a9fe::]/x", "address_not_allowed"),
    "U14 backslash": ("https://127.0.0.1\\@example.com/", "url_not_allowed"),
    "U15 userinfo": ("https://r2.host@example.com/x", "url_not_allowed"),
    "U16 newline": ("https://example.com/\r\nHost: x", "url_not_allowed"),
    "U18 long": ("https://example.com/" + "a" * 9000, "invalid_task"),
}


@pytest.mark.parametrize("row", URLS.values(), ids=URLS)
def test_urls(house: House, row: tuple[str, str]) -> None:
    url, code = row
    assert house.refusal(task_for(house, "detect_scenes", url)).code == code


def test_an_output_url_signed_for_get_is_refused_before_the_work(house: House) -> None:
    task = task_for(house, "upscale", house.gate.presign("GET", "good.mp4"))
    error = house.refusal(task | {"output_url": house.gate.presign("GET", "out.mp4")})
    assert (error.code, error.stage) == ("url_denied", "fetch")
    assert error.message.startswith("output_url: ") and "sign it for PUT" in error.message


def test_w_a_model_without_weights_names_the_command(house: House) -> None:
    task = task_for(house, "upscale", house.gate.presign("GET", "good.mp4"))
    error = house.refusal(task | {"params": {"model": "RealESRGAN_x4plus"}})
    assert error.code == "weights_missing"
    assert "gpu-worker weights pull RealESRGAN_x4plus" in error.message
    house.assert_the_next_job_is_fine()
