"""`gpu-worker dev-server`: RunPod's API, an R2 gate and worker processes on this machine, until
Ctrl-C.

stdout gets the environment lines that a client needs; everything else goes to stderr. A worker that
ends by itself is replaced, as RunPod does; one that never gets ready ends the server with its log.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.devserver.store import private_files
from gpu_worker_client.protocol.http import MAX_EXPIRES_SECONDS

WATCH_SECONDS = 1.0


def add_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    summary = "RunPod's API, an R2 gate and a worker on loopback"
    parser = subparsers.add_parser(
        "dev-server", help=summary, description=__doc__.split("\n\n")[0] if __doc__ else summary
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than loopback need --api-key",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port of RunPod's API; 0 takes a free one (default 8000)",
    )
    parser.add_argument(
        "--gate-port",
        type=int,
        default=9000,
        help="port of the R2 gate; 0 takes a free one (default 9000)",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="where objects and logs go; default: a temporary folder, removed at the end",
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="worker processes; 0 starts none (default 1)"
    )
    parser.add_argument("--endpoint-id", default="local")
    parser.add_argument(
        "--api-key", help="key that clients must send; default: a random one, printed"
    )


def run(args: argparse.Namespace) -> int:
    problem = _usage_problem(args)
    if problem is not None:
        sys.stderr.write(f"gpu-worker dev-server: {problem}\n")
        return 2
    platform = LocalPlatform(
        data_dir=args.data_dir,
        endpoint_id=args.endpoint_id,
        api_key=args.api_key,
        host=args.host,
        port=args.port,
        gate_port=args.gate_port,
    )
    stop = threading.Event()
    _on_signals(stop)
    try:
        with platform:
            return _serve(platform, args.workers, stop)
    except OSError as error:
        sys.stderr.write(f"gpu-worker dev-server: cannot listen: {error.strerror}\n")
        return 1


def _usage_problem(args: argparse.Namespace) -> str | None:
    try:
        loopback = ip_address(args.host).is_loopback
    except ValueError:
        return "--host must be an IP address"
    if not loopback and not args.api_key:
        return "--api-key is needed when --host is not a loopback address"
    if not 0 <= args.workers <= 64:
        return "--workers must be 0 to 64"
    return None


def _on_signals(stop: threading.Event) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def _serve(platform: LocalPlatform, workers: int, stop: threading.Event) -> int:
    for _ in range(workers):
        platform.start_worker()
    sys.stdout.write(environment_lines(platform))
    sys.stdout.flush()
    sys.stderr.write(_example(platform))
    while not stop.wait(WATCH_SECONDS):
        for worker in platform.fleet.revive():
            sys.stderr.write(
                f"{worker.worker_id} ended with {worker.poll()}; log: {worker.log_path}\n"
            )
            if not platform.is_ready(worker):
                sys.stderr.write(worker.log_tail())
                return 1
    sys.stderr.write("stopping: running jobs may finish\n")
    return 0


def environment_lines(platform: LocalPlatform) -> str:
    """What a client needs to find this endpoint, and the bucket for its files, as shell
    assignments."""
    gate = platform.gate
    variables = {
        "GPU_WORKER_BASE_URL": platform.base_url,
        "GPU_WORKER_ENDPOINT_ID": platform.endpoint_id,
        "RUNPOD_API_KEY": platform.api_key,
        "R2_ENDPOINT_URL": gate.base_url,
        "R2_BUCKET_NAME": gate.bucket,
        "R2_ACCESS_KEY_ID": gate.credentials.access_key,
        "R2_SECRET_ACCESS_KEY": gate.credentials.secret_key,
    }
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def _example(platform: LocalPlatform) -> str:
    """Commands that send a clip through; the presigned URLs they use lie in files, being long and
    secret."""
    folder = platform.data_dir.resolve()
    gate = platform.gate
    for key in ("input", "output"):
        for method in ("PUT", "GET"):
            url = gate.presign(method, f"{key}.mp4", MAX_EXPIRES_SECONDS)
            private_files.write_text(folder / f"{method.lower()}-{key}.url", url)
    task = {"task": "detect_scenes", "input_url": (folder / "get-input.url").read_text()}
    private_files.write_text(folder / "task.json", json.dumps(task))
    private_files.write_text(folder / "request.json", json.dumps({"input": task}))
    call = (
        f'curl -H "Authorization: Bearer {platform.api_key}"'
        f" {platform.base_url}/{platform.endpoint_id}/runsync"
    )
    return (
        f"R2 gate: {gate.base_url}, bucket {gate.bucket}; files and logs: {folder}\n"
        "try:\n"
        f'  {call} -d \'{{"input": {{"task": "selftest"}}}}\'\n'
        f'  curl -fT CLIP.mp4 "$(cat {folder}/put-input.url)" && {call} -d @{folder}/request.json\n'
        f"for the SDK and gpu-client: export the variables, then gpu-client run {folder}/task.json;"
        " presigned URLs are in\n"
        f"  {folder}/get-input.url, put-output.url; get-output.url reads the output back\n"
        "Ctrl-C ends it.\n"
    )
