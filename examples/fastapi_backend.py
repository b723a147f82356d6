"""An export backend: one route submits an upscale, one takes the worker's signed webhook.

    GPU_WORKER_ENDPOINT_ID=... RUNPOD_API_KEY=... WEBHOOK_URL=https://.../hooks/gpu
    WEBHOOK_SECRET=whsec_... \
        uvicorn --app-dir examples fastapi_backend:app

A submit whose answer got lost is sent again, as the export's own id is the task's
`idempotency_key`. Needs `fastapi` and `uvicorn`.
"""

import os

from fastapi import FastAPI, Request, Response

from gpu_worker_client import AsyncClient, WebhookError, unwrap
from gpu_worker_client.protocol import UpscaleTask

app, client, exports = FastAPI(), AsyncClient(), dict[str, str]()


@app.post("/exports/{export_id}")
async def submit(export_id: str, input_url: str, output_url: str) -> dict[str, str]:
    task = UpscaleTask(
        input_url=input_url,
        output_url=output_url,
        idempotency_key=export_id,
        webhook_url=os.environ["WEBHOOK_URL"],
    )
    return {"job": (await client.submit(task)).id}


@app.post("/hooks/gpu")
async def hook(request: Request) -> Response:
    try:
        event = unwrap(await request.body(), request.headers, os.environ["WEBHOOK_SECRET"])
    except WebhookError:
        return Response(status_code=400)
    exports[event.idempotency_key or event.job_id] = (
        event.error.code if event.error else event.state.value
    )
    return Response(status_code=204)


@app.get("/exports/{export_id}")
def state(export_id: str) -> dict[str, str]:
    return {"state": exports.get(export_id, "queued")}
