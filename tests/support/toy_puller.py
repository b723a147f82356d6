"""A worker process for tests: the real loop and the real bucket, and a toy for work.

python tests/support/toy_puller.py NAME
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from gpu_worker.queue.pull import Puller
from gpu_worker_client import Storage, Timing
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.documents import Manifest, ResultDocument
from gpu_worker_client.queue.finder import Finder
from gpu_worker_client.queue.keys import output_key
from gpu_worker_client.queue.lease import Lease, Taker

LEASE_SECONDS, RENEW_SECONDS = 8.0, 2.0
"""Short, so that a test sees leases run out."""


async def pull(name: str) -> None:
    store = BucketStore(Storage.from_env(os.environ, prefix=""))
    taker = Taker(store, Timing(), name, LEASE_SECONDS, RENEW_SECONDS)

    async def work(lease: Lease, _: Manifest) -> ResultDocument:
        await asyncio.sleep(random.uniform(0.0, 0.2))
        key = output_key(lease.job_id, lease.attempt, lease.nonce, "out.bin")
        await store.put(key, lease.nonce.encode() * 1000)
        return ResultDocument(job_id=lease.job_id, output_key=key)

    await Puller(taker, Finder(taker, poll_seconds=0.5), work).run()


if __name__ == "__main__":
    asyncio.run(pull(sys.argv[1]))
