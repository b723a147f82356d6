"""Association: which box of this frame is the same person, or ball, as which box of the last one."""

from gpu_worker_processors.track.association.cascade import Rules
from gpu_worker_processors.track.association.observation import Observation
from gpu_worker_processors.track.association.tracker import Algorithm, Tracker

__all__ = ["Algorithm", "Observation", "Rules", "Tracker"]
