"""Fixtures that every test folder shares: real media, real weights, and the rule that a missing one
never passes silently."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from support.fast_guard import forbid_heavy_work

# As the engine does: on a busy machine threads of torch or OpenBLAS that spin while they wait make
# a test ten times as slow, or endless where no signal reaches Python.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A shell that starts the tests in the background (`make test &`) has them ignore Ctrl-C, and their
# children too.
signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).parent


def _shared(variable: str, what: str) -> Path:
    """The folder a variable names. Absent: skip with a reason, or fail where REQUIRE_SHARED=1 says
    it must be there."""
    value = os.environ.get(variable, "")
    folder = Path(value)
    if value and folder.is_dir():
        return folder.resolve()
    message = f"{variable} names no folder with {what}"
    if os.environ.get("REQUIRE_SHARED") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def media() -> Path:
    """Folder of real clips with known truth."""
    return _shared("TEST_MEDIA", "real test clips")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Folder of real weights with a `manifest.local.toml`."""
    return _shared("WEIGHTS_DIR", "model weights")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1 and no CUDA device")
        pytest.skip("no CUDA device")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="only the files of tests/fast.txt, and hold them to it"
    )


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist starts its processes from one that runs no test.
    if config.getoption("--fast") and not config.getoption("numprocesses", None):
        forbid_heavy_work()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--fast") or collection_path.is_dir():
        return None
    listed = (TESTS / "fast.txt").read_text().split()
    return collection_path.relative_to(TESTS).as_posix() not in listed or None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected, and all that it imports, stays to the end. The garbage collector is spared
    those 650,000 objects: each of its full runs takes half a second to walk them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among processes, the longest files come first: what one of them still has to do when the
    others are done is short."""
    if not hasattr(config, "workerinput"):
        return
    listed = [TESTS / name for name in (TESTS / "longest.txt").read_text().split()]
    assert all(path.is_file() for path in listed), "tests/longest.txt names a file that is gone"
    items.sort(key=lambda item: listed.index(item.path) if item.path in listed else len(listed))
