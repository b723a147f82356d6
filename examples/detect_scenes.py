"""Cuts a video into scenes and prints where each begins.

    GPU_WORKER_ENDPOINT_ID=... RUNPOD_API_KEY=... INPUT_URL=https://... python
    examples/detect_scenes.py

INPUT_URL is a presigned GET. GPU_WORKER_BASE_URL points at another endpoint than RunPod's, a
dev-server for example.
"""

import os
import sys

from gpu_worker_client import Client, JobError
from gpu_worker_client.protocol import DetectScenesParams, DetectScenesTask


def main() -> int:
    task = DetectScenesTask(
        input_url=os.environ["INPUT_URL"], params=DetectScenesParams(min_scene_length=0.5)
    )
    with Client() as client:
        try:
            result = client.run(task, timeout=600)
        except JobError as error:
            print(f"{error.code}: {error.message}", file=sys.stderr)
            return 1
    for number, scene in enumerate(result.scenes, start=1):
        print(
            f"scene {number}: {scene.start_time:.3f} s to {scene.end_time:.3f} s, frames"
            f" {scene.start_frame}-{scene.end_frame}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
