"""What both local services answer with: status, headers, and a body that is read in chunks, so any
size takes constant memory.

Handlers build a `LocalResponse`; `send` puts it on the connection. Injected faults alter the one or
replace the other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

CHUNK_BYTES = 256 * 1024


@dataclass
class Body:
    """A readable stream and the number of bytes to take from it. Closed by whoever sends it."""

    source: BinaryIO
    size: int

    @classmethod
    def of(cls, data: bytes) -> Body:
        return cls(io.BytesIO(data), len(data))

    @classmethod
    def of_file(cls, path: Path, start: int, end: int) -> Body:
        """Bytes [start, end) of a file, opened now: a later replacement of the file does not touch
        it."""
        source = path.open("rb")
        source.seek(start)
        return cls(source, end - start)

    def read(self, limit: int = CHUNK_BYTES) -> bytes:
        data = self.source.read(min(limit, self.size))
        self.size -= len(data)
        return data


@dataclass
class LocalResponse:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Body = field(default_factory=lambda: Body.of(b""))

    @classmethod
    def bytes(
        cls, status: int, data: bytes, content_type: str = "application/xml"
    ) -> LocalResponse:
        return cls(status, {"Content-Type": content_type}, Body.of(data))


async def start(
    request: web.Request, reply: LocalResponse, *, chunked: bool = False
) -> web.StreamResponse:
    """Sends status line and headers."""
    response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
    if chunked:
        response.enable_chunked_encoding()
    elif reply.status not in (204, 304):
        response.content_length = reply.body.size
    await response.prepare(request)
    return response


async def send(request: web.Request, reply: LocalResponse) -> web.StreamResponse:
    """Sends the whole reply; only the headers when the method is HEAD."""
    response = await start(request, reply)
    if request.method != "HEAD":
        while chunk := reply.body.read():
            await response.write(chunk)
    await response.write_eof()
    return response


def close(reply: LocalResponse) -> None:
    reply.body.source.close()
