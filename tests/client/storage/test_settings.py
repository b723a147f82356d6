"""Which bucket a `Storage` is, by the environment or by hand; nothing is imported before it is
used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpu_worker_client import ConfigError, GpuWorkerError, Storage, StorageError
from gpu_worker_client.storage.s3 import REFUSALS

SECRET = "CANARYsecret0123456789"

ENV = {
    "R2_ACCOUNT_ID": "0123abcd",
    "R2_BUCKET_NAME": "media",
    "R2_ACCESS_KEY_ID": "id",
    "R2_SECRET_ACCESS_KEY": SECRET,
}


def test_the_environment_names_a_bucket() -> None:
    assert (
        repr(Storage.from_env(ENV))
        == "Storage('https://0123abcd.r2.cloudflarestorage.com', bucket='media')"
    )
    elsewhere = Storage.from_env({**ENV, "R2_ENDPOINT_URL": "https://s3.example.com/"})
    assert elsewhere.endpoint_url == "https://s3.example.com"


@pytest.mark.parametrize("missing", ENV)
def test_what_is_missing_in_the_environment_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing) as caught:
        Storage.from_env({name: value for name, value in ENV.items() if name != missing})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://r2.example.com",
        "ftp://h",
        "https://",
        "https://u:p@h",
        "https://h/bucket",
        "https://h?x=1",
        "h",
        "https://[::",
    ],
)
def test_an_endpoint_that_cannot_work(url: str) -> None:
    with pytest.raises(ConfigError, match="endpoint_url"):
        Storage(url, "media", "id", SECRET)


def test_without_boto3_the_pip_line_is_said() -> None:
    """In an interpreter of its own: hiding a module here would hide it from every test."""
    program = (
        "import sys\n"
        "sys.modules['boto3'] = None\n"
        "from gpu_worker_client import ConfigError, Storage\n"
        "storage = Storage('https://h', 'media', 'id', 'secret')\n"
        "try:\n    storage.head('k')\n"
        "except ConfigError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "storage needs boto3: pip install 'gpu-worker-client[storage]'"


def test_making_a_storage_imports_nothing_and_sends_nothing() -> None:
    program = (
        "import sys\n"
        "from gpu_worker_client import Storage\n"
        "Storage('https://h', 'media', 'id', 'secret')\n"
        "assert 'boto3' not in sys.modules and 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_refusal_of_the_gate_is_an_error_of_the_tree() -> None:
    from gpu_worker.devserver.store.s3_errors import STATUS_BY_CODE

    assert set(REFUSALS) <= set(STATUS_BY_CODE), "a code that R2 does not have"
    assert issubclass(StorageError, GpuWorkerError)
