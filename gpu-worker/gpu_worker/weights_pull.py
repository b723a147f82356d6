"""`gpu-worker weights list|pull|verify`, and `ensure`, which the worker asks before a job. stdout
carries results only."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_worker.settings import Settings
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.urls import UrlPolicy
from gpu_worker.weights_download import Puller, problem_with
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_processors.models.manifest import WeightSpec
from gpu_worker_processors.models.weights import SHIPPED, WeightStore, how_to_get

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]


def ensure(
    names: Sequence[str], settings: Settings, cancelled: threading.Event | None = None
) -> None:
    """What the worker asks before a job: are these weights there and right? Quick when they are.

    Raises:
        TaskError: `weights_missing` or `weights_rejected`; the message has the command that helps.
    """
    store = WeightStore.of(settings.processors)
    for name in names:
        if name not in store:  # the processor's to refuse: it knows which names it takes
            continue
        try:
            store.resolve(name)
        except TaskError as error:
            spec = store.spec(name)
            if not settings.weights_download or settings.weights_dir is None or not spec.url:
                raise error from None
            _pull(puller_for(settings.weights_dir, settings, cancelled=cancelled), spec)


def _pull(puller: Puller, spec: WeightSpec) -> None:
    """For a job: what failed on the way may be brought by hand."""
    try:
        puller.pull(spec)
    except TaskError as error:
        if error.code in (ErrorCode.weights_missing, ErrorCode.weights_rejected):
            raise
        message = f"{error.message}; {how_to_get(spec)}"
        raise TaskError(error.code, message, **error.details) from None


def puller_for(
    folder: Path,
    settings: Settings,
    *,
    trust_on_first_use: bool = False,
    cancelled: threading.Event | None = None,
) -> Puller:
    """Weights come from the manifest, not from a task: any public https host, whatever hosts tasks
    may name."""
    policy = UrlPolicy(exempt_hosts=settings.exempt_hosts)
    limits = TransferLimits(total_seconds=settings.transfer_time_limit_seconds)
    return Puller(folder, policy, limits, cancelled or threading.Event(), trust_on_first_use)


def add_parser(subparsers: Subparsers) -> None:
    """Adds `weights` with its three verbs to the `gpu-worker` command."""
    parser = subparsers.add_parser("weights", help="list, download and verify model weights")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|pull|verify")
    listing = verbs.add_parser("list", help="every weight of the manifest and its state")
    pulling = verbs.add_parser("pull", help="download what is missing or wrong, verified")
    verifying = verbs.add_parser("verify", help="check the files that are there")
    for verb in (listing, pulling, verifying):
        verb.add_argument(
            "names", nargs="*", metavar="NAME", help="manifest names; all when none is given"
        )
        verb.add_argument("--dir", type=Path, help="the folder; WEIGHTS_DIR when not given")
    pulling.add_argument(
        "--all", action="store_true", help="every weight of the manifest that has an address"
    )
    pulling.add_argument(
        "--trust-on-first-use",
        action="store_true",
        help="also what has no confirmed SHA-256; pins what came",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when everything asked for is right, 1 when something is wrong, 2 on bad usage."""
    settings = Settings.from_env(os.environ)
    folder: Path | None = args.dir.resolve() if args.dir else settings.weights_dir
    try:
        store = WeightStore(folder, settings.manifest)
        if args.verb == "pull" and not (args.names or args.all):
            return _usage(
                "name what to pull, or --all; there are:"
                f" {', '.join(spec.name for spec in store.list())}"
            )
        chosen = [store.spec(name) for name in args.names] or list(store.list())
        if folder is None:
            return _usage("set WEIGHTS_DIR to the folder of the weights, or give --dir FOLDER")
        if args.verb == "pull":
            puller = puller_for(folder, settings, trust_on_first_use=args.trust_on_first_use)
            return _pull_all([spec for spec in chosen if args.names or spec.url], store, puller)
        return _show(chosen, store, folder, only_present=args.verb == "verify" and not args.names)
    except TaskError as error:
        return _usage(error.message)


def _usage(message: str) -> int:
    print(f"gpu-worker weights: {message}", file=sys.stderr)
    return 2


def _pull_all(specs: Sequence[WeightSpec], store: WeightStore, puller: Puller) -> int:
    failed = 0
    for spec in specs:
        try:
            path = (
                store.resolve(spec.name).path
                if spec.name in SHIPPED
                else puller.pull(spec, _Meter(spec.name))
            )
        except TaskError as error:
            failed += 1
            print(error.message, file=sys.stderr)
        else:
            print(path)
    return 1 if failed else 0


def _show(
    specs: Sequence[WeightSpec], store: WeightStore, folder: Path, *, only_present: bool
) -> int:
    """One line per weight; with `only_present` what is missing counts as nothing, else it is shown
    and wrong files count."""
    wrong = 0
    width = max((len(spec.name) for spec in specs), default=0)
    for spec in specs:
        problem = problem_with(store.path(spec.name) or folder / spec.file, spec)
        missing = problem is not None and problem.code is ErrorCode.weights_missing
        if missing and only_present:
            continue
        state = (
            "ok"
            if problem is None
            else "missing"
            if missing
            else str(problem.details.get("reason", problem.code.value))
        )
        wrong += problem is not None and not missing
        print(
            f"{spec.name:<{width}}  {state:<15}  {_size(spec.bytes):>8}  {spec.file} "
            f" [{spec.licence}]"
        )
    return 1 if wrong else 0


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes else "?"


class _Meter:
    """A percentage on stderr, where a person watches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = -1

    def __call__(self, done: int, total: int | None) -> None:
        percent = 100 * done // total if total else 0
        if percent != self._shown and sys.stderr.isatty():
            self._shown = percent
            print(
                f"\r{self._name} {percent:3d} %",
                end="\n" if done == total else "",
                file=sys.stderr,
                flush=True,
            )
