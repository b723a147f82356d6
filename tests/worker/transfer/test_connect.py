"""The address that was checked is the address that is dialled, and TLS goes by the name."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpu_worker.transfer import Fetched, Network, Source, TransferLimits, UrlPolicy, fetch
from gpu_worker.transfer.connect import SocketAddress
from gpu_worker.transfer.safe_url import parse_url
from gpu_worker.transfer.watchdog import Guard
from gpu_worker_client.protocol import ErrorCode, TaskError

LIMITS = TransferLimits(connect_seconds=1, idle_seconds=2, total_seconds=20)
HASTY = TransferLimits(connect_seconds=0.3, total_seconds=20, attempts=2)
PUBLIC = "93.184.215.14"
NAME = "bucket.example.com"


@dataclass
class World:
    """A lookup and a connect that are written down."""

    answers: list[list[str]]
    """One list of addresses for each lookup; the last repeats."""
    port: int = 9
    """Where every connection really goes, on loopback."""
    lookups: int = 0
    dialled: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    certificates: Callable[[], ssl.SSLContext] = ssl.create_default_context

    def resolve(self, host: str, port: int) -> list[SocketAddress]:
        answer = self.answers[min(self.lookups, len(self.answers) - 1)]
        self.lookups += 1
        return [(address, port) for address in answer]

    def connect(self, sock: socket.socket, address: SocketAddress) -> None:
        self.dialled.append(address[0])
        sock.connect(("127.0.0.1", self.port))

    def network(self) -> Network:
        def pause(guard: Guard, seconds: float) -> None:
            self.pauses.append(seconds)

        return Network(self.resolve, self.connect, self.certificates, pause, lambda: 0.0)


def get(
    network: Network,
    dest: Path,
    url: str = f"https://{NAME}/in.mp4",
    *exempt: str,
    limits: TransferLimits = LIMITS,
) -> Fetched:
    return fetch(
        Source(parse_url(url, "input_url")),
        dest / "input",
        policy=UrlPolicy(exempt_hosts=frozenset(exempt)),
        limits=limits,
        progress=lambda done, total: None,
        cancelled=threading.Event(),
        network=network,
    )


def refused(world: World, dest: Path) -> TaskError:
    with pytest.raises(TaskError) as caught:
        get(world.network(), dest)
    assert not (dest / "input").exists()
    return caught.value


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        [PUBLIC, "10.0.0.1"],
        ["10.0.0.1", PUBLIC],
        [PUBLIC, "::1"],
        ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%2"],
    ],
)
def test_u10_one_bad_address_spoils_the_name_and_nothing_is_dialled(
    answer: list[str], tmp_path: Path
) -> None:
    world = World([answer])
    assert refused(world, tmp_path).code is ErrorCode.address_not_allowed
    assert world.dialled == []
    assert world.lookups == 1


def test_u11_rebinding_finds_one_lookup_and_the_checked_address_only(tmp_path: Path) -> None:
    world = World([[PUBLIC], ["127.0.0.1"]])
    assert (
        refused(world, tmp_path).code is ErrorCode.download_failed
    )  # nobody listens on the port the test really dials
    assert world.lookups == 1
    assert world.dialled == [PUBLIC] * LIMITS.attempts


def test_the_peer_is_looked_at_again(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        world = World([[PUBLIC]], server.getsockname()[1])
        error = refused(world, tmp_path)
        server.setblocking(False)
        with closing(server.accept()[0]) as peer:
            assert peer.recv(1) == b""  # closed before a byte was sent
    assert error.code is ErrorCode.address_not_allowed
    assert world.dialled == [PUBLIC]


def test_the_next_address_is_tried_when_one_is_dead(tmp_path: Path) -> None:
    world = World([[PUBLIC, "1.1.1.1", "2606:4700:4700::1111"]])
    refused(world, tmp_path)
    assert world.dialled[:2] == [PUBLIC, "1.1.1.1"]


def test_s14_a_name_that_cannot_be_found(tmp_path: Path) -> None:
    def servfail(host: str, port: int) -> list[SocketAddress]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    world = World([[]])
    with pytest.raises(TaskError) as caught:
        get(Network(servfail, world.connect, pause=world.network().pause), tmp_path)
    assert caught.value.code is ErrorCode.download_failed
    assert "host has no address" in caught.value.message
    assert len(world.pauses) == LIMITS.attempts - 1


def test_s14_a_lookup_that_hangs(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[SocketAddress]:
        release.wait(30)
        return []

    world = World([[]])
    with pytest.raises(TaskError) as caught:
        get(Network(hang, world.connect, pause=world.network().pause), tmp_path, limits=HASTY)
    release.set()
    assert caught.value.code is ErrorCode.download_timeout
    assert world.dialled == []


@pytest.fixture
def blackhole() -> Iterator[int]:
    """A port whose queue of connections is full: Linux answers no further SYN."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=0)) as server:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_s14_a_connection_that_is_never_answered(blackhole: int, tmp_path: Path) -> None:
    world = World([["127.0.0.1"]], blackhole)
    endpoint = f"{NAME}:{blackhole}"
    with pytest.raises(TaskError) as caught:
        get(world.network(), tmp_path, f"http://{endpoint}/in.mp4", endpoint, limits=HASTY)
    assert caught.value.code is ErrorCode.download_timeout


@pytest.mark.timeout(20)
def test_cancel_ends_a_connect(blackhole: int, tmp_path: Path) -> None:
    cancelled = threading.Event()
    endpoint = f"{NAME}:{blackhole}"
    world = World([["127.0.0.1"]], blackhole)

    def connect(sock: socket.socket, address: SocketAddress) -> None:
        cancelled.set()
        world.connect(sock, address)

    with pytest.raises(TaskError) as caught:
        fetch(
            Source(parse_url(f"http://{endpoint}/in.mp4", "input_url")),
            tmp_path / "input",
            policy=UrlPolicy(exempt_hosts=frozenset({endpoint})),
            limits=TransferLimits(connect_seconds=600),
            progress=lambda done, total: None,
            cancelled=cancelled,
            network=Network(world.resolve, connect),
        )
    assert caught.value.code is ErrorCode.cancelled


@dataclass
class Authority:
    """A certificate authority of one test run."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        certificate = self._sign(
            "test authority", self.key.public_key(), timedelta(days=1), ca=True
        )
        context.load_verify_locations(cadata=certificate.decode())
        return context

    def issue(
        self, name: str, folder: Path, life: timedelta = timedelta(days=1), *, own: bool = False
    ) -> ssl.SSLContext:
        """A server's context for `name`; `own` signs it with its own key instead of the
        authority's."""
        key = ec.generate_private_key(ec.SECP256R1())
        signer = Authority(key) if own else self
        file = folder / "server.pem"
        form = (
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(key.private_bytes(*form) + signer._sign(name, key.public_key(), life))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, life: timedelta, *, ca: bool = False
    ) -> bytes:
        now = datetime.now(timezone.utc)
        named = [x509.NameAttribute(NameOID.COMMON_NAME, text) for text in (name, "test authority")]
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(named[:1]))
            .issuer_name(x509.Name(named[1:]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.replace(" ", "-"))


@dataclass
class SecureServer:
    port: int
    asked_names: list[str | None]
    """Server names of the TLS handshakes."""
    hosts: list[str]
    """Host headers of the requests."""


@contextmanager
def secure_server(context: ssl.SSLContext) -> Iterator[SecureServer]:
    seen = SecureServer(0, [], [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.hosts.append(self.headers["Host"])
            self.send_response(206)
            for name, value in (
                ("Content-Length", "5"),
                ("Content-Range", "bytes 0-4/5"),
                ("ETag", '"e"'),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"video")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that refuses the certificate hangs up

        def get_request(self) -> tuple[socket.socket, object]:
            sock, address = super().get_request()
            seen.asked_names.append(None)
            return context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            ), address

    def note_name(sock: ssl.SSLObject, name: str | None, original: ssl.SSLContext) -> None:
        seen.asked_names[-1] = name

    context.sni_callback = note_name  # type: ignore[assignment]
    server = Server(("127.0.0.1", 0), Handler)
    seen.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_tls_goes_by_the_name_while_the_address_is_dialled(tmp_path: Path) -> None:
    authority = Authority()
    with secure_server(authority.issue(NAME, tmp_path)) as server:
        world = World([["127.0.0.1"]], server.port, certificates=authority.context)
        endpoint = f"{NAME}:{server.port}"
        fetched = get(
            world.network(), tmp_path, f"https://{endpoint}/in.mp4?X-Amz-Signature=s", endpoint
        )
    assert fetched.size_bytes == 5
    assert (tmp_path / "input").read_bytes() == b"video"
    assert server.asked_names == [NAME]
    assert server.hosts == [endpoint]
    assert world.dialled == ["127.0.0.1"]


@pytest.mark.parametrize("case", ["self-signed", "wrong host", "expired"])
def test_u20_a_bad_certificate_is_not_tried_again(case: str, tmp_path: Path) -> None:
    authority = Authority()
    name = "other.example.com" if case == "wrong host" else NAME
    life = timedelta(days=-1) if case == "expired" else timedelta(days=1)
    with secure_server(authority.issue(name, tmp_path, life, own=case == "self-signed")) as server:
        world = World([["127.0.0.1"]], server.port, certificates=authority.context)
        endpoint = f"{NAME}:{server.port}"
        with pytest.raises(TaskError) as caught:
            get(
                world.network(),
                tmp_path,
                f"https://{endpoint}/in.mp4?X-Amz-Signature=CANARY",
                endpoint,
            )
    assert caught.value.code is ErrorCode.tls_error
    assert "CANARY" not in caught.value.body().to_wire()
    assert len(world.dialled) == 1
    assert world.pauses == []
    assert server.hosts == []


def test_a_server_that_speaks_no_tls_is_a_tls_error(tmp_path: Path) -> None:
    class Plain(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    world = World([["127.0.0.1"]], server.server_port)
    endpoint = f"{NAME}:{server.server_port}"
    with pytest.raises(TaskError) as caught:
        get(world.network(), tmp_path, f"https://{endpoint}/in.mp4", endpoint)
    server.shutdown()
    server.server_close()
    assert caught.value.code is ErrorCode.tls_error
