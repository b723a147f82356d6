"""The image without Docker: the Dockerfile line by line, its context, the Hub's files, and its
install steps run for real."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from support.dockerfile import Instruction, ignored, read, rules
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCKERFILE = read(ROOT / "Dockerfile")
IGNORE = rules(ROOT / ".dockerignore")
FINAL = DOCKERFILE[-1].stage


def of(word: str, stage: str | None = None) -> list[Instruction]:
    return [i for i in DOCKERFILE if i.word == word and stage in (None, i.stage)]


def tracked(source: str) -> list[str]:
    """Files of the repository under a COPY source."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", source],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return listed.stdout.split()


def test_every_base_is_pinned() -> None:
    defaults = dict(i.text.split("=", 1) for i in of("ARG") if i.stage == "")
    stages = {i.stage for i in of("FROM")}
    for line in of("FROM"):
        image = line.text.split(" AS ")[0]
        if image in stages:
            continue
        resolved = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], image)
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", resolved), (
            f"{resolved}: a base without a version"
        )
        assert "latest" not in resolved


def test_the_base_has_the_torch_that_the_pins_name() -> None:
    pinned = re.search(r"^torch==(\S+)", (ROOT / "requirements/worker.txt").read_text(), re.M)
    base = next(i.text for i in of("ARG") if i.text.startswith("BASE_TAG="))
    assert pinned and f"={pinned[1]}-cuda12." in base


def test_the_last_user_is_not_root() -> None:
    users = of("USER", FINAL)
    assert users and users[-1].text not in ("root", "0")
    assert not [
        i for i in DOCKERFILE[DOCKERFILE.index(users[-1]) :] if i.word in ("RUN", "COPY", "ADD")
    ]


def test_the_command_is_the_handler_in_exec_form() -> None:
    command = json.loads(of("CMD", FINAL)[-1].text)
    assert command == ["python", "-u", "gpu-worker/handler.py"]
    assert (ROOT / command[-1]).is_file()


@pytest.mark.parametrize(
    "setting",
    [
        "RUNPOD_LOG_LEVEL=INFO",
        "PYTHONUNBUFFERED=1",
        "WEIGHTS_DIR=/weights",
        "NVIDIA_DRIVER_CAPABILITIES=video,compute,utility",
    ],
)
def test_the_environment_is_set(setting: str) -> None:
    assert setting in " ".join(i.text for i in of("ENV", FINAL)).split()


def test_no_secret_and_no_laptop_switch() -> None:
    for line in of("ENV") + of("ARG"):
        assert not re.search(
            r"(?i)\b\w*(secret|token|password|api_?key|credential)\w*\s*=", line.text
        ), line.text
        assert "ALLOW_LOCAL_FILES" not in line.text and "EXEMPT_HOSTS" not in line.text
    assert not of("ADD"), "ADD fetches and unpacks; COPY does neither"


def test_every_variable_of_ours_is_one_that_the_worker_reads() -> None:
    from gpu_worker.settings import Settings

    pairs = [pair for i in of("ENV", FINAL) for pair in i.text.split()]
    Settings.from_env(dict(pair.split("=", 1) for pair in pairs))


def test_copied_files_exist_and_are_in_the_context() -> None:
    for line in of("COPY"):
        if line.text.startswith("--from="):
            continue
        for source in line.text.split()[:-1]:
            assert (ROOT / source).exists(), f"COPY {source}: no such file"
            files = tracked(source)
            assert files, f"COPY {source}: nothing of it is in the repository"
            missing = [f for f in files if ignored(f, IGNORE)]
            assert not missing, f".dockerignore leaves out {missing[:3]}"


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "client/.env.local",
        "gpu-worker/key.pem",
        "weights/net.pth",
        "tests/conftest.py",
        "demo-output/a.mp4",
    ]
    + ["client/gpu_worker_client/__pycache__/a.pyc", "requirements/reference.txt"],
)
def test_the_context_holds_nothing_else(path: str) -> None:
    assert ignored(path, IGNORE)


def test_baked_weights_are_in_the_manifest() -> None:
    manifest = tomllib.loads((ROOT / "weights/manifest.toml").read_text())
    known = {entry["name"] for entry in manifest["weights"]}
    names = (
        next(i.text for i in of("ARG", "weights") if i.text.startswith("WEIGHTS="))
        .split("=", 1)[1]
        .strip('"')
        .split()
    )
    assert names and set(names) <= known


def test_no_second_torch() -> None:
    pins = (ROOT / "requirements/worker.txt").read_text()
    script = ROOT / "requirements/without_base.py"
    kept = subprocess.run(
        [sys.executable, script, "requirements/worker.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(re.findall(r"^([a-z0-9-]+)==", kept.stdout, re.M))
    gone = set(re.findall(r"^([a-z0-9-]+)==", pins, re.M)) - names
    assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= gone
    assert {"spandrel", "av", "runpod", "nvidia-ml-py", "ultralytics"} <= names
    assert all(name.startswith(("torch", "triton", "nvidia-", "cuda-")) for name in gone)
    assert len(re.findall(r"--hash=", kept.stdout)) > len(names), "the pins lost their hashes"


def test_hub_files() -> None:
    hub = json.loads((ROOT / ".runpod/hub.json").read_text())
    assert {"title", "description", "type", "category", "config"} <= set(hub)
    assert hub["config"]["runsOn"] == "GPU" and hub["config"]["containerDiskInGb"] >= 20
    for variable in hub["config"]["env"]:
        assert {"key", "input"} <= set(variable) and {"name", "type", "description"} <= set(
            variable["input"]
        )
    tests = json.loads((ROOT / ".runpod/tests.json").read_text())
    assert [t["input"] for t in tests["tests"]] == [{"task": "selftest"}]
    assert all(t["timeout"] > 0 and t["name"] for t in tests["tests"])
    assert (
        tests["config"]["gpuTypeId"]
        and tests["config"]["allowedCudaVersions"] == hub["config"]["allowedCudaVersions"]
    )


def test_hub_variables_are_ones_that_the_worker_reads() -> None:
    from gpu_worker.settings import Settings

    hub = json.loads((ROOT / ".runpod/hub.json").read_text())
    Settings.from_env({v["key"]: str(v["input"].get("default", "")) for v in hub["config"]["env"]})


def test_the_hub_finds_a_handler() -> None:
    """The Hub wants handler.py in the root or in .runpod; importing ours starts nothing."""
    assert runpy.run_path(str(ROOT / ".runpod/handler.py"))
    assert "runpod.serverless.start" in (ROOT / "gpu-worker/handler.py").read_text()


@pytest.mark.slow
def test_the_install_steps_work_in_a_clean_environment(tmp_path: Path) -> None:
    """The image's two install steps from the same files. This environment's torch stands in for the
    base's."""
    environment = tmp_path / "venv"
    base = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    context = tmp_path / "context"
    for line in of("COPY"):
        if not line.text.startswith("--from="):
            for source in line.text.split()[:-1]:
                for file in tracked(source):
                    (context / file).parent.mkdir(parents=True, exist_ok=True)
                    (context / file).write_bytes((ROOT / file).read_bytes())
    for verb in ("deps", "packages"):
        subprocess.run(
            ["sh", "requirements/install_image.sh", verb, environment],
            cwd=context,
            env=base,
            check=True,
        )
    site = next(environment.glob("lib/python*/site-packages"))
    assert not (site / "torch").exists() and not list(site.glob("nvidia_c*")), "a second torch"
    torch_home = subprocess.run(
        [
            sys.executable,
            "-c",
            "import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (site / "zz_base.pth").write_text(torch_home + "\n")
    clean = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "GPU_WORKER_WORK_ROOT": str(tmp_path / "w"),
    }
    # The sandbox opens the interpreter's own folders; this borrowed torch lies elsewhere, which the
    # image's does not.
    clean["GPU_WORKER_SANDBOX"] = "off"
    check = (
        "import torch, torchvision, av, spandrel, runpod, gpu_worker.app,"
        " gpu_worker_processors.registry"
    )
    subprocess.run(["python", "-c", check], cwd=tmp_path, env=clean, check=True)
    command = ["gpu-worker", "run", "-"]
    answer = subprocess.run(
        command,
        input='{"task": "selftest"}',
        env=clean,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert json.loads(answer.stdout)["status"] == "completed"
