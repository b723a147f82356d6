"""`gpu-worker pull`: takes jobs from a bucket until it is stopped. The key pair comes from the
environment: `R2_ACCOUNT_ID` or `R2_ENDPOINT_URL`, `R2_ACCESS_KEY_ID`, `R2_SECRET_ACCESS_KEY`.

Exit 0: work was done, or it was stopped. 1: a job failed, or the bucket or this machine cannot be
used. 2: usage. 3: nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import replace

from gpu_worker.app import Worker
from gpu_worker.queue.perform import Performer, pull_settings
from gpu_worker.queue.pull import Puller, Tally
from gpu_worker.settings import ConfigError, Settings
from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import ConfigError as ClientConfigError
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol import Progress
from gpu_worker_client.queue.bucket_store import BucketStore
from gpu_worker_client.queue.finder import POLL_SECONDS, Finder
from gpu_worker_client.queue.lease import Taker
from gpu_worker_client.queue.proof import prove_conditional_writes
from gpu_worker_client.storage import Storage
from gpu_worker_processors.engine.host import Engine
from gpu_worker_processors.engine.jobdir import remove, sweep, worker_root
from gpu_worker_processors.redact import install as install_redaction

logger = logging.getLogger(__name__)

NOTHING_TO_DO = 3
REPORT_SECONDS = 60.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser("pull", help="work on jobs of a bucket", description=__doc__)
    parser.add_argument("--bucket", metavar="B", help="its name; default: R2_BUCKET_NAME")
    parser.add_argument("--prefix", metavar="P", default="", help="of all keys of the queue")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--once", action="store_true", help="end after one job, or without one")
    end.add_argument("--idle-exit", metavar="SECONDS", type=float, help="end when idle for so long")
    parser.add_argument(
        "--poll-seconds", metavar="SECONDS", type=float, default=POLL_SECONDS,
        help=f"first pause between two polls of an idle worker (default {POLL_SECONDS:g})",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    env = dict(os.environ) | ({"R2_BUCKET_NAME": args.bucket} if args.bucket else {})
    try:
        storage = Storage.from_env(env, prefix=args.prefix)
    except ClientConfigError as error:
        raise ConfigError(str(error)) from None
    settings = pull_settings(Settings.from_env(env), storage)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    install_redaction(env, streams=True)
    sweep(settings.work_root)
    settings = replace(settings, work_root=worker_root(settings.work_root))
    engine = Engine(settings, env)
    try:
        tally = asyncio.run(_pull(args, Worker(settings, engine), engine, storage))
    except (ClientConfigError, StorageError) as error:
        print(f"gpu-worker pull: {error}", file=sys.stderr)
        return 1
    finally:
        engine.close()
        remove(settings.work_root)
    return exit_code(tally)


def exit_code(tally: Tally) -> int:
    if tally.failed or tally.is_broken:
        return 1
    return 0 if tally.attempts or tally.was_stopped else NOTHING_TO_DO


def worker_name() -> str:
    """Of this process, unlike any other's; a person sees which machine it is."""
    host = "".join(c if c.isalnum() else "-" for c in platform.node())[:32]
    return f"{host}-{secrets.token_hex(4)}"


async def _pull(
    args: argparse.Namespace, worker: Worker, engine: Engine, storage: Storage
) -> Tally:
    store, timing, name = BucketStore(storage), Timing(), worker_name()
    await prove_conditional_writes(store, timing, name)
    await asyncio.to_thread(engine.start)  # a machine that cannot work takes no job
    taker = Taker(store, timing, name)
    watch = Watch()
    performer = Performer(worker, storage, store, timing, watch.on_progress)
    puller = Puller(taker, Finder(taker, args.poll_seconds), performer)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, puller.stop.set)
    reporting = asyncio.ensure_future(watch.report(puller))
    logger.info("worker %s: waiting for jobs in bucket %s", name, storage.bucket)
    try:
        return await puller.run(once=args.once, idle_exit_seconds=args.idle_exit)
    finally:
        reporting.cancel()
        with suppress(asyncio.CancelledError):
            await reporting


class Watch:
    """What the worker is doing, for a person: a bar on a terminal, a line a minute in the log."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._latest: Progress | None = None

    def on_progress(self, job_id: str, progress: Progress) -> None:
        self._latest = progress
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{job_id} {progress.text()}")
            sys.stderr.flush()

    async def report(self, puller: Puller) -> None:
        """Every minute, until cancelled."""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            job_id, latest = puller.job_id, self._latest
            doing = "idle" if job_id is None else f"job {job_id}"
            detail = f": {latest.text()}" if job_id is not None and latest is not None else ""
            done = puller.tally
            logger.info("%s%s; %d done, %d failed", doing, detail, done.completed, done.failed)
