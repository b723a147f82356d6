"""The upscale task: a video in, the same video larger out, by a super-resolution network.

Light on import: the worker's parent process asks `required_weights` without ever loading torch.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from gpu_worker_client.protocol import UpscaleParams, UpscaleResult
from gpu_worker_processors.base import LocalJob
from gpu_worker_processors.models.weights import (
    DNI_PARTNERS,
    WeightStore,
    network_for,
    upscale_weights,
)

if TYPE_CHECKING:
    from gpu_worker_processors.models.sr.resolver import SuperResolver
    from gpu_worker_processors.upscale.faces import FollowedFaces


class UpscaleProcessor:
    """See `base.Processor`."""

    name = "upscale"

    def required_weights(
        self, params: UpscaleParams, inputs: Collection[str] = ()
    ) -> tuple[str, ...]:
        return upscale_weights(
            network_for(params.model, params.scale), params.denoise_strength, params.face_enhance
        )

    def prepare(self, job: LocalJob) -> None:
        net = _network(job)
        if net.device.type == "cuda":
            # the first convolution loads cuDNN, a second's work, while the input is still being
            # fetched
            net.warm_up()
        _faces(job, net)

    def run(self, job: LocalJob) -> UpscaleResult:
        from gpu_worker_processors.upscale.upscale import upscale_file

        net = _network(job)
        return upscale_file(job, net, _faces(job, net))


def _network(job: LocalJob) -> SuperResolver:
    from gpu_worker_processors.models.devices import pick_device
    from gpu_worker_processors.models.sr.loader import load

    params: UpscaleParams = job.params
    return load(
        network_for(params.model, params.scale),
        store=WeightStore.of(job.settings),
        device=pick_device(job.settings.device),
        denoise_strength=params.denoise_strength if params.model in DNI_PARTNERS else None,
        tile=params.tile,
        execution="graphs" if job.settings.cuda_graphs else "eager",
    )


def _faces(job: LocalJob, net: SuperResolver) -> FollowedFaces | None:
    if not job.params.face_enhance:
        return None
    from gpu_worker_processors.models.faces import FaceEnhancer
    from gpu_worker_processors.upscale.faces import FollowedFaces

    return FollowedFaces(FaceEnhancer(WeightStore.of(job.settings), net.device))


PROCESSOR = UpscaleProcessor()
