"""CUDA graphs: the kernels of a network recorded once for each shape of input and launched together
from then on.

Python hands a kernel to the driver in some 5 us; a compact network has 70 of them and an RRDB
network 900. Replayed, they follow each other without a gap. A recording owns fixed buffers, so
frames are copied into them and out of them; it is made at the first call with a shape, which costs
that call a few more runs of the network.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from gpu_worker_processors.models.devices import is_out_of_memory

MAX_RECORDINGS = 2
"""Shapes held, each with the memory of one call: that of the job before and that of this one."""
_WARM_UPS = 2
"""Runs before the recording: in the first cuDNN picks its algorithms, in the second every workspace
has its final size."""

Network = Callable[[Tensor], Tensor]


class ReplayedNetwork:
    """A network on a CUDA device, recorded and replayed. May be called in several threads, each on
    its own stream."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._recordings: OrderedDict[torch.Size, _Recording] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] on the device -> what the network answers, in memory of its own."""
        with self._lock:
            if frames.shape not in self._recordings:
                self._record(frames)
            self._recordings.move_to_end(frames.shape)
            return self._recordings[frames.shape].replay(frames)

    def _record(self, frames: Tensor) -> None:
        while len(self._recordings) >= MAX_RECORDINGS:
            self._recordings.popitem(last=False)
        try:
            self._recordings[frames.shape] = _Recording(self._net, frames)
        except RuntimeError as error:
            # Memory that runs out while recording spoils the recording, and the complaint about
            # that hides the first error.
            causes = (error, error.__context__)
            lack = next(
                (cause for cause in causes if cause is not None and is_out_of_memory(cause)), None
            )
            if lack is None:
                raise
            # the smaller call that follows shall have all the room there is
            self._recordings.clear()
            raise lack from None


class _Recording:
    def __init__(self, net: Network, frames: Tensor) -> None:
        # Ordinary tensors, even in inference mode: later calls write into them from outside of it
        # too.
        with torch.inference_mode(False), torch.no_grad():
            self._input = frames.clone()
            for _ in range(_WARM_UPS):
                net(self._input)
            self._graph = torch.cuda.CUDAGraph()
            # Only this thread's calls are recorded; other threads go on allocating and copying.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._output = net(self._input)
        self._free = torch.cuda.Event()
        """The buffers may be written again."""

    def replay(self, frames: Tensor) -> Tensor:
        stream = torch.cuda.current_stream(frames.device)
        stream.wait_event(self._free)
        self._input.copy_(frames)
        self._graph.replay()
        answer = self._output.clone()
        self._free.record(stream)
        return answer
