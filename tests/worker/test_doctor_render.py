"""What `doctor` says of FFmpeg's sandbox: as it is here, and as it would be on machines that have
less."""

from __future__ import annotations

import pytest

from gpu_worker import doctor
from gpu_worker.settings import Settings
from gpu_worker_processors.base import Policy
from gpu_worker_processors.sandbox import landlock, program
from gpu_worker_processors.sandbox.program import REFUSALS, Level


@pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
def test_the_sandbox_of_this_machine() -> None:
    check = doctor.check_render(Settings())
    assert (check.name, check.status) == ("render", "ok")
    assert "hardware: " in check.detail


@pytest.mark.parametrize(
    ("policy", "found", "status", "said"),
    [
        pytest.param("require", Level("require"), "fail", "none", id="no filter at all"),
        pytest.param(
            "best_effort", Level("best_effort"), "warn", "none", id="none, and that is accepted"
        ),
        pytest.param(
            "require",
            Level("require", 7, True, REFUSALS - {"read"}),
            "fail",
            "open: read",
            id="a hole",
        ),
        pytest.param("off", Level("off"), "warn", "is off", id="off"),
    ],
)
def test_lesser_sandboxs(
    monkeypatch: pytest.MonkeyPatch, policy: Policy, found: Level, status: str, said: str
) -> None:
    monkeypatch.setattr(program, "level", {policy: found}.__getitem__)
    check = doctor.check_render(Settings(render_sandbox=policy))
    assert check.status == status
    assert said in check.detail
