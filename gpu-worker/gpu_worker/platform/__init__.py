"""RunPod and R2 on loopback: the control plane that the unmodified worker loop talks to, and a
bucket as strict as R2."""

from gpu_worker.platform.clock import ManualClock
from gpu_worker.platform.control_plane import ControlPlane
from gpu_worker.platform.faults import Fault, Faults
from gpu_worker.platform.gate_actions import GateLimits
from gpu_worker.platform.limits import PlatformLimits
from gpu_worker.platform.local import LocalPlatform
from gpu_worker.platform.r2_gate import R2Gate
from gpu_worker.platform.worker_process import WorkerProcess

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
