"""A bucket that does not honour conditional writes is refused at start."""

from __future__ import annotations

import random

import pytest
from support.bucket_sim import Bucket, Faults, Machine, run_virtually

from gpu_worker_client import ConfigError
from gpu_worker_client.queue.proof import prove_conditional_writes


class Ignoring(Bucket):
    """A store that ignores headers, as some do without a word."""

    def __init__(self, *headers: str) -> None:
        super().__init__()
        self.headers = headers

    def put(
        self, machine: str, key: str, body: bytes, if_absent: bool, if_match: str | None
    ) -> str:
        if "If-None-Match" in self.headers:
            if_absent = False
        if "If-Match" in self.headers:
            if_match = None
        return super().put(machine, key, body, if_absent, if_match)


def prove(bucket: Bucket, faults: Faults | None = None, seed: int = 1) -> None:
    async def proof() -> None:
        machine = Machine("w", bucket, random.Random(seed), faults)
        await prove_conditional_writes(machine, machine.timing(), "w")

    run_virtually(proof())


def test_a_bucket_with_the_rules_of_r2_passes() -> None:
    bucket = Bucket()
    prove(bucket)
    assert bucket.keys() == []


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_bucket_that_ignores_a_header_is_named(header: str) -> None:
    with pytest.raises(ConfigError, match=f"ignores {header}:"):
        prove(Ignoring(header))


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_network_proves_nothing_wrong(seed: int) -> None:
    prove(Bucket(), Faults(request_lost=0.05, answer_lost=0.05), seed)
