"""Opens a connection to the address that was checked, and to no other.

A name is resolved once per transfer; every address it has must be allowed, else none is used; the
socket connects to such an address while TLS and the Host header go by the name. Proxies of the
environment are never asked. What tests replace (lookup, connect, certificates, sleep, random)
stands in `Network`.
"""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import certifi

from gpu_worker.transfer.address import refusal
from gpu_worker.transfer.limits import TransferLimits
from gpu_worker.transfer.safe_url import SafeUrl
from gpu_worker.transfer.urls import UrlPolicy
from gpu_worker.transfer.watchdog import Guard
from gpu_worker_client.protocol import ErrorCode, TaskError

SocketAddress = tuple[Any, ...]
"""(address, port) or, for IPv6, (address, port, flow, scope)."""
MAX_DIALLED = 4
"""Addresses of one name that are tried in turn."""


def resolve(host: str, port: int) -> list[SocketAddress]:
    """Every address of a name, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [entry[4] for entry in found]


@lru_cache(maxsize=1)
def public_certificates() -> ssl.SSLContext:
    """Trusts the system's store and certifi's: slim images come without the former."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True)
class Network:
    """The outside world of a transfer."""

    resolve: Callable[[str, int], list[SocketAddress]] = resolve
    connect: Callable[[socket.socket, SocketAddress], None] = socket.socket.connect
    certificates: Callable[[], ssl.SSLContext] = public_certificates
    pause: Callable[[Guard, float], None] = Guard.pause
    random: Callable[[], float] = random.random
    """0..1, for the jitter between tries."""


class Dialer:
    """Connections of one transfer. Thread-safe."""

    def __init__(
        self, policy: UrlPolicy, limits: TransferLimits, network: Network, guard: Guard
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._network = network
        self._guard = guard
        self._lock = threading.Lock()
        self._known: dict[str, list[SocketAddress]] = {}

    def open(self, url: SafeUrl) -> socket.socket:
        """A connected socket (TLS for https), watched by the guard.

        Raises:
            TaskError: `address_not_allowed` before any packet was sent.
            OSError: no address could be reached; `ssl.SSLError` when the handshake failed.
        """
        unreachable: OSError = OSError("the name has no address")
        for address in self._addresses(url)[:MAX_DIALLED]:
            self._guard.check()
            try:
                sock = self._connect(url, address)
            except OSError as error:
                unreachable = error
                continue
            return self._secure(sock, url.host) if url.scheme == "https" else sock
        raise unreachable

    def _addresses(self, url: SafeUrl) -> list[SocketAddress]:
        with self._lock:
            if url.endpoint not in self._known:
                addresses = self._resolve(url)
                self._refuse_bad(url, addresses)
                self._known[url.endpoint] = addresses
            return self._known[url.endpoint]

    def _resolve(self, url: SafeUrl) -> list[SocketAddress]:
        """`getaddrinfo` takes no timeout, so it runs in a thread that is left behind when it is
        late."""
        found: list[SocketAddress] = []
        failed: list[OSError] = []
        done = threading.Event()

        def ask() -> None:
            try:
                found.extend(self._network.resolve(url.host, url.port))
            except OSError as error:
                failed.append(error)
            except UnicodeError as error:
                failed.append(OSError(str(error)))
            finally:
                done.set()

        threading.Thread(target=ask, name="transfer-lookup", daemon=True).start()
        waited = 0.0
        while not done.wait(0.1):
            waited += 0.1
            self._guard.check()
            if waited >= self._limits.connect_seconds:
                raise TimeoutError("the name lookup took too long")
        if failed:
            raise failed[0]
        return list(found)

    def _refuse_bad(self, url: SafeUrl, addresses: list[SocketAddress]) -> None:
        if self._policy.is_exempt(url):
            return
        for address in addresses:
            reason = refusal(str(address[0]))
            if reason is not None:
                message = (
                    f"the name {url.host} leads to a {reason} address, which this worker never"
                    " contacts"
                )
                raise TaskError(ErrorCode.address_not_allowed, message, host=url.host)

    def _connect(self, url: SafeUrl, address: SocketAddress) -> socket.socket:
        family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._guard.watch(sock)
        try:
            sock.settimeout(self._limits.connect_seconds)
            self._network.connect(sock, address)
            self._recheck(url, sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, TaskError):
            self.close(sock)
            raise
        return sock

    def _recheck(self, url: SafeUrl, sock: socket.socket, address: SocketAddress) -> None:
        """Whatever stands between us and the network, the peer must be the address that was
        checked."""
        peer = sock.getpeername()[0]
        if not self._policy.is_exempt(url) and ip_address(peer) != ip_address(address[0]):
            message = (
                f"the connection to {url.host} went to another address than the one that was"
                " checked"
            )
            raise TaskError(ErrorCode.address_not_allowed, message, host=url.host)

    def _secure(self, sock: socket.socket, host: str) -> socket.socket:
        try:
            secured = self._network.certificates().wrap_socket(
                sock, server_hostname=host, do_handshake_on_connect=False
            )
        except OSError:
            self.close(sock)
            raise
        self._guard.watch(secured)
        self._guard.forget(sock)
        try:
            secured.do_handshake()
        except OSError:
            self.close(secured)
            raise
        return secured

    def close(self, sock: socket.socket) -> None:
        self._guard.forget(sock)
        sock.close()
