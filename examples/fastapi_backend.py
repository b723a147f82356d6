"""An export backend: one route submits an upscale, one takes the worker's signed webhook.

    export GPU_WORKER_ENDPOINT_ID=... RUNPOD_API_KEY=...
    export WEBHOOK_URL=https://.../hooks/gpu WEBHOOK_SECRET=whsec_... R2_ACCOUNT_ID=...
    export R2_BUCKET_NAME=... R2_ACCESS_KEY_ID=... R2_SECRET_ACCESS_KEY=...
    uvicorn --app-dir examples fastapi_backend:app

The bucket holds the result of each export under its own id, so an export that is submitted
twice is paid for once. A real backend keeps `exports` and `states` in its database. Needs
`fastapi`, `uvicorn` and the extra `storage` of the SDK.
"""

import os

from fastapi import FastAPI, HTTPException, Request, Response

from gpu_worker_client import AsyncClient, WebhookError, unwrap
from gpu_worker_client.protocol import UpscaleTask

app, client = FastAPI(), AsyncClient()
exports: dict[str, str] = {}
"""The export of each job that was submitted here, by the job's id."""
states: dict[str, str] = {}
"""How each export stands."""


@app.post("/exports/{export_id}")
async def submit(export_id: str, input_url: str, output_url: str) -> dict[str, str]:
    result = f"exports/{export_id}.json"
    task = UpscaleTask(
        input_url=input_url,
        output_url=output_url,
        idempotency_key=export_id,
        result_url=client.storage.presign_put(result),
        result_get_url=client.storage.presign_get(result),
        webhook_url=os.environ["WEBHOOK_URL"],
    )
    job = await client.submit(task)
    exports[job.id] = export_id
    states.setdefault(export_id, "queued")
    return {"job": job.id}


@app.post("/hooks/gpu")
async def hook(request: Request) -> Response:
    try:
        event = unwrap(await request.body(), request.headers, os.environ["WEBHOOK_SECRET"])
    except WebhookError:
        return Response(status_code=400)
    export_id = exports.get(event.job_id)
    if export_id is None:  # its submit may not have returned yet: the worker sends the event again
        return Response(status_code=503)
    states[export_id] = event.error.code if event.error else event.state.value
    return Response(status_code=204)


@app.get("/exports/{export_id}")
def state(export_id: str) -> dict[str, str]:
    if export_id not in states:
        raise HTTPException(404, "no such export")
    return {"state": states[export_id]}
