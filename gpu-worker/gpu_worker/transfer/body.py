"""What an upload reads from: a file or bytes, any slice of it, as often as a retry needs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gpu_worker_client.protocol import ErrorCode, TaskError


@dataclass(frozen=True)
class FileBody:
    """`size` bytes of an open file from `start`. Reads by position, so threads may share the
    descriptor."""

    fd: int
    start: int
    size: int

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self.fd, size, self.start + offset)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), self.start + offset + len(data))
            if not more:
                raise TaskError(
                    ErrorCode.output_invalid, "the output file became shorter while it was uploaded"
                )
            data += more
        return data


@dataclass(frozen=True)
class BytesBody:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]
