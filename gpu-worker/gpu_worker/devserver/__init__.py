"""RunPod and R2 on loopback: the control plane that the unmodified worker loop talks to, and a
bucket as strict as R2."""

from gpu_worker.devserver.clock import ManualClock
from gpu_worker.devserver.endpoint.control_plane import ControlPlane
from gpu_worker.devserver.endpoint.worker_process import WorkerProcess
from gpu_worker.devserver.faults.plan import Fault, Faults
from gpu_worker.devserver.limits import PlatformLimits
from gpu_worker.devserver.local import LocalPlatform
from gpu_worker.devserver.store.actions import GateLimits
from gpu_worker.devserver.store.gate import R2Gate

__all__ = [
    "ControlPlane",
    "Fault",
    "Faults",
    "GateLimits",
    "LocalPlatform",
    "ManualClock",
    "PlatformLimits",
    "R2Gate",
    "WorkerProcess",
]
