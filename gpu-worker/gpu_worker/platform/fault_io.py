"""Carries a `Fault` out on a connection: what happens instead of the handler, to its reply, or to the bytes on the wire."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from gpu_worker.platform.faults import MAX_FAULT_SECONDS, Fault, FaultKind
from gpu_worker.platform.wire import CHUNK_BYTES, Body, Reply, begin, close, send

Serve = Callable[[Fault | None], Awaitable[Reply]]
Refuse = Callable[[int, str | None], Reply]
"""(status, error code or None) -> the service's own error answer."""


async def answer(request: web.Request, fault: Fault | None, serve: Serve, refuse: Refuse) -> web.StreamResponse:
    """Serves one request under a fault, or plainly when there is none."""
    if fault is None:
        return await _send_closing(request, await serve(None), send)
    options = fault.options
    if fault.kind is FaultKind.status:
        return await _send_closing(request, _status_reply(fault, refuse), send)
    if fault.kind is FaultKind.redirect:
        return await send(request, Reply(options["status"], {"Location": options["url"]}))
    if fault.kind is FaultKind.expire:
        return await _send_closing(request, refuse(400, "ExpiredRequest"), send)
    if fault.kind is FaultKind.delay:
        await asyncio.sleep(min(options["seconds"], MAX_FAULT_SECONDS))
    if fault.kind is FaultKind.reset_upload:
        await _read_some(request, options["after_bytes"])
        return _reset(request)
    reply = await serve(fault)
    if fault.kind is FaultKind.lose_response:
        close(reply)
        return _reset(request)
    return await _send_closing(request, _altered(reply, fault), _sender(fault))


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


Sender = Callable[[web.Request, Reply], Awaitable[web.StreamResponse]]


async def _send_closing(request: web.Request, reply: Reply, sender: Sender) -> web.StreamResponse:
    try:
        return await sender(request, reply)
    finally:
        close(reply)


def _status_reply(fault: Fault, refuse: Refuse) -> Reply:
    options = fault.options
    reply = refuse(options["status"], options["code"])
    if options["body"] is not None:
        reply = Reply.bytes(options["status"], options["body"])
    return Reply(reply.status, {**reply.headers, **options["headers"]}, reply.body)


def _altered(reply: Reply, fault: Fault) -> Reply:
    headers = dict(reply.headers)
    if fault.kind is FaultKind.etag:
        headers["ETag"] = f'"{fault.options["value"]}"'
    elif fault.kind is FaultKind.gzip:
        packed = gzip.compress(reply.body.read(reply.body.size))
        close(reply)
        return Reply(reply.status, {**headers, "Content-Encoding": "gzip"}, Body.of(packed))
    elif fault.kind is FaultKind.wrong_content_range and "Content-Range" in headers:
        shift = fault.options["shift"]
        first, last, size = (int(number) for number in re.findall(r"\d+", headers["Content-Range"]))
        headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{size + shift}"
    return Reply(reply.status, headers, reply.body)


def _sender(fault: Fault) -> Sender:
    senders: dict[FaultKind, Callable[[web.Request, Reply, Fault], Awaitable[web.StreamResponse]]] = {
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


async def _send_reset(request: web.Request, reply: Reply, fault: Fault) -> web.StreamResponse:
    response = await begin(request, reply)
    await _write_some(response, reply, fault.options["after_bytes"])
    _reset(request)
    return response


async def _send_truncated(request: web.Request, reply: Reply, fault: Fault) -> web.StreamResponse:
    if not fault.options["declare_length"]:
        return _send_without_length(request, reply, fault.options["after_bytes"])
    response = await begin(request, reply)
    response.force_close()
    await _write_some(response, reply, fault.options["after_bytes"])
    return response


def _send_without_length(request: web.Request, reply: Reply, count: int) -> web.StreamResponse:
    """Writes to the transport itself: aiohttp would choose chunked encoding, which does show its end."""
    lines = [f"HTTP/1.1 {reply.status} OK", *(f"{name}: {value}" for name, value in reply.headers.items()), "Connection: close"]
    if request.transport is not None:
        request.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode() + reply.body.read(count))
        request.transport.close()
    return web.Response()  # the transport is closed: aiohttp finds that out and drops this


async def _send_slowly(request: web.Request, reply: Reply, fault: Fault) -> web.StreamResponse:
    response = await begin(request, reply)
    deadline = time.monotonic() + MAX_FAULT_SECONDS
    while chunk := reply.body.read(fault.options["bytes"]):
        if time.monotonic() > deadline:
            _reset(request)
            return response
        await response.write(chunk)
        await asyncio.sleep(fault.options["seconds"])
    await response.write_eof()
    return response


async def _send_longer(request: web.Request, reply: Reply, fault: Fault) -> web.StreamResponse:
    response = await send(request, reply)
    response.force_close()
    if request.transport is not None:
        request.transport.write(b"\0" * fault.options["extra_bytes"])
    return response


async def _send_endless(request: web.Request, reply: Reply, fault: Fault) -> web.StreamResponse:
    response = await begin(request, reply, chunked=True)
    deadline, sent, block = time.monotonic() + MAX_FAULT_SECONDS, 0, b"\0" * CHUNK_BYTES
    while sent < fault.options["max_bytes"] and time.monotonic() < deadline:
        await response.write(block)
        sent += len(block)
    _reset(request)
    return response


async def _write_some(response: web.StreamResponse, reply: Reply, count: int) -> None:
    while count > 0 and (chunk := reply.body.read(min(count, CHUNK_BYTES))):
        await response.write(chunk)
        count -= len(chunk)


async def _read_some(request: web.Request, count: int) -> None:
    while count > 0 and (chunk := await request.content.read(count)):
        count -= len(chunk)


def _reset(request: web.Request) -> web.Response:
    """Ends the connection with RST, after what was written has left."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if transport.get_write_buffer_size() == 0 and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    return web.Response()
