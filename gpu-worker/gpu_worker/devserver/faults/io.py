"""Carries a `Fault` out on a connection: what happens instead of the handler, to its reply, or to
the bytes on the wire."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import re
import socket
import struct
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from gpu_worker.devserver.faults.plan import MAX_FAULT_SECONDS, Fault, FaultKind
from gpu_worker.devserver.responses import CHUNK_BYTES, Body, LocalResponse, close, send, start

FLUSH_SECONDS = 2.0
"""How long a reset waits for a reader that is slow to take what was sent before it."""

Serve = Callable[[Fault | None], Awaitable[LocalResponse]]
Refuse = Callable[[int, str | None], LocalResponse]
"""(status, error code or None) -> the service's own error answer."""
Seen = Callable[[int], None]
"""Called with the status of the answer, 0 when there is none."""


async def answer(
    request: web.Request, fault: Fault | None, serve: Serve, refuse: Refuse, seen: Seen
) -> web.StreamResponse:
    """Serves one request under a fault, or plainly when there is none. Calls `seen` before the
    first byte leaves."""
    if fault is not None and fault.kind is FaultKind.reset_upload:
        await _read_some(request, fault.options["after_bytes"])
        seen(0)
        return await _reset(request)
    reply = await _reply(fault, serve, refuse)
    seen(reply.status)
    try:
        if fault is not None and fault.kind is FaultKind.lose_response:
            return await _reset(request)
        return await _sender(fault)(request, reply)
    finally:
        close(reply)


async def _reply(fault: Fault | None, serve: Serve, refuse: Refuse) -> LocalResponse:
    """What the service answers: its own reply, altered or replaced by the fault."""
    if fault is None:
        return await serve(None)
    if fault.kind is FaultKind.status:
        return _status_reply(fault, refuse)
    if fault.kind is FaultKind.redirect:
        return LocalResponse(fault.options["status"], {"Location": fault.options["url"]})
    if fault.kind is FaultKind.expire:
        return refuse(400, "ExpiredRequest")
    if fault.kind is FaultKind.delay:
        await asyncio.sleep(min(fault.options["seconds"], MAX_FAULT_SECONDS))
    return _altered(await serve(fault), fault)


async def read_body(request: web.Request, fault: Fault | None) -> AsyncIterator[bytes]:
    """The request's body in chunks, slowly when the fault says so."""
    if fault is None or fault.kind is not FaultKind.slow_upload:
        async for chunk in request.content.iter_chunked(CHUNK_BYTES):
            yield chunk
        return
    deadline = time.monotonic() + MAX_FAULT_SECONDS
    while chunk := await request.content.read(fault.options["bytes"]):
        yield chunk
        if time.monotonic() < deadline:
            await asyncio.sleep(fault.options["seconds"])


Sender = Callable[[web.Request, LocalResponse], Awaitable[web.StreamResponse]]


def _status_reply(fault: Fault, refuse: Refuse) -> LocalResponse:
    options = fault.options
    reply = refuse(options["status"], options["code"])
    if options["body"] is not None:
        reply = LocalResponse.bytes(options["status"], options["body"])
    return LocalResponse(reply.status, {**reply.headers, **options["headers"]}, reply.body)


def _altered(reply: LocalResponse, fault: Fault) -> LocalResponse:
    headers = dict(reply.headers)
    if fault.kind is FaultKind.etag:
        headers["ETag"] = f'"{fault.options["value"]}"'
    elif fault.kind is FaultKind.gzip:
        packed = gzip.compress(reply.body.read(reply.body.size))
        close(reply)
        return LocalResponse(reply.status, {**headers, "Content-Encoding": "gzip"}, Body.of(packed))
    elif fault.kind is FaultKind.wrong_content_range and "Content-Range" in headers:
        shift = fault.options["shift"]
        first, last, size = map(int, re.findall(r"[0-9]+", headers["Content-Range"]))
        headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{size + shift}"
    return LocalResponse(reply.status, headers, reply.body)


def _sender(fault: Fault | None) -> Sender:
    if fault is None:
        return send
    senders: dict[
        FaultKind, Callable[[web.Request, LocalResponse, Fault], Awaitable[web.StreamResponse]]
    ] = {
        FaultKind.reset_download: _send_reset,
        FaultKind.truncated: _send_truncated,
        FaultKind.slow_download: _send_slowly,
        FaultKind.longer: _send_longer,
        FaultKind.endless: _send_endless,
    }
    chosen = senders.get(fault.kind)
    if chosen is None:
        return send
    return lambda request, reply: chosen(request, reply, fault)


async def _send_reset(
    request: web.Request, reply: LocalResponse, fault: Fault
) -> web.StreamResponse:
    response = await start(request, reply)
    await _write_some(response, reply, fault.options["after_bytes"])
    await _reset(request)
    return response


async def _send_truncated(
    request: web.Request, reply: LocalResponse, fault: Fault
) -> web.StreamResponse:
    if not fault.options["declare_length"]:
        return _send_without_length(request, reply, fault.options["after_bytes"])
    response = await start(request, reply)
    response.force_close()
    await _write_some(response, reply, fault.options["after_bytes"])
    return response


def _send_without_length(
    request: web.Request, reply: LocalResponse, count: int
) -> web.StreamResponse:
    """Writes to the transport itself: aiohttp would choose chunked encoding, which does show its
    end."""
    lines = [
        f"HTTP/1.1 {reply.status} OK",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
        "Connection: close",
    ]
    if request.transport is not None:
        request.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + reply.body.read(count))
        request.transport.close()
    return web.Response()  # the transport is closed: aiohttp finds that out and drops this


async def _send_slowly(
    request: web.Request, reply: LocalResponse, fault: Fault
) -> web.StreamResponse:
    response = await start(request, reply)
    deadline = time.monotonic() + MAX_FAULT_SECONDS
    while chunk := reply.body.read(fault.options["bytes"]):
        if time.monotonic() > deadline:
            await _reset(request)
            return response
        await response.write(chunk)
        await asyncio.sleep(fault.options["seconds"])
    await response.write_eof()
    return response


async def _send_longer(
    request: web.Request, reply: LocalResponse, fault: Fault
) -> web.StreamResponse:
    response = await send(request, reply)
    response.force_close()
    if request.transport is not None:
        request.transport.write(b"\0" * fault.options["extra_bytes"])
    return response


async def _send_endless(
    request: web.Request, reply: LocalResponse, fault: Fault
) -> web.StreamResponse:
    response = await start(request, reply, chunked=True)
    deadline, sent, block = time.monotonic() + MAX_FAULT_SECONDS, 0, b"\0" * CHUNK_BYTES
    while sent < fault.options["max_bytes"] and time.monotonic() < deadline:
        await response.write(block)
        sent += len(block)
    await _reset(request)
    return response


async def _write_some(response: web.StreamResponse, reply: LocalResponse, count: int) -> None:
    while count > 0 and (chunk := reply.body.read(min(count, CHUNK_BYTES))):
        await response.write(chunk)
        count -= len(chunk)


async def _read_some(request: web.Request, count: int) -> None:
    while count > 0 and (chunk := await request.content.read(count)):
        count -= len(chunk)


async def _reset(request: web.Request) -> web.Response:
    """Ends the connection with RST, after what was written has left this machine's buffers."""
    transport = request.transport
    connection = transport.get_extra_info("socket") if transport is not None else None
    if transport is not None and connection is not None:
        deadline = time.monotonic() + FLUSH_SECONDS
        while _unsent_bytes(transport, connection) and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


def _unsent_bytes(transport: asyncio.Transport, connection: socket.socket) -> int:
    """Bytes that the peer has not acknowledged; an RST would throw them away."""
    if transport.is_closing():
        return 0
    queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return transport.get_write_buffer_size() + struct.unpack("i", queued)[0]
