"""The SDK step by step, in cells that an editor or a notebook runs one at a time.

    export GPU_WORKER_ENDPOINT_ID=... RUNPOD_API_KEY=...
    INPUT_URL=https://... python examples/walkthrough.py

INPUT_URL is a presigned GET of a video.
"""

# %% A client of one endpoint. Its settings come from the environment.
import os

from gpu_worker_client import Client, InvalidTask, JobError, ProgressEvent, Queued
from gpu_worker_client.protocol import DetectScenesParams, DetectScenesTask

client = Client()
print(client, "queue:", client.health()["jobs"]["inQueue"])

# %% A task is checked before it is sent.
try:
    DetectScenesParams(threshold=-1.0)
except InvalidTask as error:
    print(error.details["errors"])

# %% Submit, and follow what happens.
task = DetectScenesTask(input_url=os.environ["INPUT_URL"])
job = client.submit(task)
for event in job.events(timeout=600):
    if isinstance(event, Queued):
        print("queued, place", event.position)
    elif isinstance(event, ProgressEvent):
        print(event.progress.stage, event.progress.fraction, event.progress.eta_sec)
    else:
        print(type(event).__name__)

# %% The result is typed. The handle can be dropped and made again from the id, also in another
# process.
print(client.job(job.id, DetectScenesTask).result().stats.total_scenes, "scenes")

# %% Many at once, each with its own end.
for outcome in client.map(
    [task, task.model_copy(update={"input_url": "https://h/missing.mp4"})], timeout=600
):
    print(outcome.index, outcome.get().stats.total_scenes if outcome.ok else outcome.error)

# %% A failure says what and where, and whether trying again can help.
try:
    client.run(task, timeout=600)
except JobError as error:
    print(error.code, error.stage, error.retryable)

# %%
client.close()
