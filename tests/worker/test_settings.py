"""Settings: every variable read once, wrong ones refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_worker.settings import ConfigError, Settings
from gpu_worker_processors.base import ProcessorSettings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.allow_local_files is False
    assert settings.allowed_hosts == ()
    assert settings.sandbox == "best_effort"


def test_every_field_can_be_set() -> None:
    settings = Settings.from_env(
        {
            "WEIGHTS_DIR": "/data/weights",
            "GPU_WORKER_ALLOWED_HOSTS": "R2.cloudflarestorage.com, cdn.example.org",
            "GPU_WORKER_EXEMPT_HOSTS": "127.0.0.1:9000",
            "GPU_WORKER_ALLOW_LOCAL_FILES": "1",
            "GPU_WORKER_MAX_PIXELS": "1000",
            "GPU_WORKER_DRAIN_SECONDS": "2.5",
            "GPU_WORKER_PRICES": '{"NVIDIA L4": 0.0002}',
        }
    )
    assert settings.weights_dir is not None and settings.weights_dir.name == "weights"
    assert settings.allowed_hosts == ("r2.cloudflarestorage.com", "cdn.example.org")
    assert settings.exempt_hosts == frozenset({"127.0.0.1:9000"})
    assert (settings.allow_local_files, settings.max_pixels, settings.drain_seconds) == (
        True,
        1000,
        2.5,
    )
    assert settings.prices == {"NVIDIA L4": 0.0002}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPU_WORKER_ALLOW_LOCAL_FILES", "maybe"),
        ("GPU_WORKER_MAX_PIXELS", "-1"),
        ("GPU_WORKER_MAX_PIXELS", "1e6"),
        ("GPU_WORKER_DRAIN_SECONDS", "nan"),
        ("GPU_WORKER_DRAIN_SECONDS", "soon"),
        ("GPU_WORKER_SANDBOX", "yes"),
        ("GPU_WORKER_PRICES", "[1]"),
        ("GPU_WORKER_PRICES", "{"),
        ("GPU_WORKER_MAX_PIXLES", "5"),  # a misspelled name
    ],
)
def test_a_wrong_variable_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Settings.from_env({name: value})
    assert value not in str(caught.value) or value in "5[1{yes"


def test_a_misspelled_variable_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean GPU_WORKER_MAX_PIXELS"):
        Settings.from_env({"GPU_WORKER_MAX_PIXLES": "5"})


def test_processors_get_their_settings_and_no_secret() -> None:
    settings = Settings.from_env(
        {
            "WEIGHTS_DIR": "/w",
            "GPU_WORKER_DEVICE": "cpu",
            "GPU_WORKER_CUDA_GRAPHS": "true",
            "GPU_WORKER_RENDER_SANDBOX": "off",
            "GPU_WORKER_MANIFEST": "/m.toml",
            "RUNPOD_AI_API_KEY": "k",
        }
    )
    assert settings.processors == ProcessorSettings(Path("/w"), "cpu", True, "off", Path("/m.toml"))


def test_paths_are_whole_since_the_engine_works_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env(
        {
            "WEIGHTS_DIR": "weights",
            "GPU_WORKER_MANIFEST": "m.toml",
            "GPU_WORKER_WORK_ROOT": "work",
        }
    )
    assert settings.processors.weights_dir == tmp_path / "weights"
    assert settings.processors.manifest == tmp_path / "m.toml"
    assert settings.work_root == tmp_path / "work"


BUCKET = {
    "R2_ACCOUNT_ID": "0123abcd",
    "R2_BUCKET_NAME": "media",
    "R2_ACCESS_KEY_ID": "CANARYid",
    "R2_SECRET_ACCESS_KEY": "CANARYsecret",
}


def test_the_workers_bucket_is_named_as_the_clients_and_shows_no_key() -> None:
    assert Settings.from_env({}).bucket is None
    settings = Settings.from_env(BUCKET)
    assert settings.bucket is not None and settings.bucket.bucket == "media"
    assert "CANARY" not in repr(settings)


@pytest.mark.parametrize("missing", BUCKET)
def test_a_half_named_bucket_is_refused(missing: str) -> None:
    env = {name: value for name, value in BUCKET.items() if name != missing}
    with pytest.raises(ConfigError, match=f"worker's own bucket: .*{missing}") as caught:
        Settings.from_env(env)
    assert "CANARY" not in str(caught.value)
