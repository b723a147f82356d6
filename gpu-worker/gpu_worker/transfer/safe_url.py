"""A URL that cannot leak: parsed once and strictly, shown without query, dialled as parsed.

Owns the syntax. Parsers disagree about backslashes, user info, odd hosts and stray bytes, and each
disagreement is a way around a host check, so whatever two parsers could read differently is refused
here. Whether a well-formed URL may be used is the policy's business (`urls.py`).
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import unquote

from gpu_worker.transfer.presign import Presign, read_presign
from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.base import MAX_URL_CHARS
from gpu_worker_client.protocol.foreign import parse_integer

DEFAULT_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_UNSAFE = re.compile(r'[^\x21-\x7e]|[\\"<>^`{|}]')
"""Never plain in a URL (RFC 3986): blanks, control and non-ASCII characters, and those that some
parsers rewrite."""


class SafeUrl:
    """An absolute http(s) URL. `str`, `repr` and `format` show `scheme://host/path`; only
    `reveal()` gives the rest."""

    __slots__ = ("_query", "host", "path", "port", "presign", "scheme")

    def __init__(self, scheme: str, host: str, port: int, path: str, query: str) -> None:
        self.scheme = scheme
        self.host = host
        """Lower case; an IPv6 address without brackets."""
        self.port = port
        self.path = path
        """As given, percent-encoded; at least "/"."""
        self._query = query
        self.presign: Presign | None = read_presign(query)
        """What the signature in the query binds, None for a plain URL."""

    @property
    def authority(self) -> str:
        """Value of the Host header: the port appears when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """ "host:port", always with the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """What stands in the request line. Holds the signature."""
        return f"{self.path}?{self._query}" if self._query else self.path

    @property
    def suffix(self) -> str:
        """Suffix of the object's name, lower case with its dot; "" without one."""
        return PurePosixPath(unquote(self.path)).suffix.lower()

    @property
    def expires_at(self) -> datetime | None:
        """When the signature ends, None when the URL does not say."""
        return self.presign.expires_at if self.presign else None

    def reveal(self) -> str:
        """The whole URL with its query. For the wire only, never for a message."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def same_object(self, other: SafeUrl) -> bool:
        """Whether both name one stored object, however it is percent-encoded."""
        return self.endpoint == other.endpoint and unquote(self.path) == unquote(other.path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def __repr__(self) -> str:
        return f"SafeUrl({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> str:
        raise TypeError("a SafeUrl is not pickled: its signature would leave the process")


def parse_url(text: str, field: str) -> SafeUrl:
    """Parses one URL of the task.

    Args:
        text: the URL.
        field: where it stands in the task ("input_url"), for the message.

    Raises:
        TaskError: `url_not_allowed` for anything but a plain http(s) URL; `address_not_allowed` for
            a host that only some parsers read as an address ("127.1", "0x7f000001").
    """
    if len(text) > MAX_URL_CHARS:
        raise _refused(field, f"is longer than {MAX_URL_CHARS} characters")
    if _UNSAFE.search(text):
        raise _refused(
            field,
            "holds a character that must be percent-encoded (blank, control, non-ASCII or one of"
            ' \\"<>^`{|})',
        )
    if "#" in text:
        raise _refused(field, "has a fragment (#...); a storage URL needs none")
    match = _SHAPE.fullmatch(text)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        raise _refused(field, "must be an https:// URL")
    scheme = match["scheme"].lower()
    host, port = _split_authority(match["authority"], field)
    return SafeUrl(
        scheme, host, port or DEFAULT_PORTS[scheme], match["path"] or "/", match["query"] or ""
    )


def literal_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address when the host is one, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split_authority(authority: str, field: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise _refused(field, "has user info before the host (user@host)")
    if authority.startswith("["):
        inside, bracket, rest = authority[1:].partition("]")
        if not bracket or not _is_ipv6(inside) or (rest and not rest.startswith(":")):
            raise _refused(field, "has a bracketed host that is no IPv6 address")
        return str(ipaddress.IPv6Address(inside)), _port(rest[1:], field) if rest else None
    host, colon, port = authority.partition(":")
    return _host_name(host.lower(), field), _port(port, field) if colon else None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text  # a scope ("fe80::1%eth0") names an interface of this machine


def _host_name(host: str, field: str) -> str:
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(
            field,
            "has a host that is no plain DNS name (international names go as xn--..., no trailing"
            " dot)",
        )
    is_numeric = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) is not None
    if is_numeric and not isinstance(literal_address(host), ipaddress.IPv4Address):
        # getaddrinfo reads 127.1, 0177.0.0.1, 0x7f000001 and 2130706433 as addresses; other parsers
        # as names.
        raise TaskError(
            ErrorCode.address_not_allowed,
            f"{field}: the host is an unusual spelling of an address",
            path=field,
        )
    return host


def _port(text: str, field: str) -> int:
    port = parse_integer(text, least=1, most=65535)
    if port is None:
        raise _refused(field, "has a port outside 1..65535")
    return port


def _refused(field: str, what: str) -> TaskError:
    return TaskError(ErrorCode.url_not_allowed, f"{field}: the URL {what}", path=field)
