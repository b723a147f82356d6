"""Which network addresses a URL may lead to: public unicast, nothing else, also behind tunnels
and address translation.

The table is our own. `ipaddress.is_global` of the supported Python versions calls NAT64, 6to4,
site-local and multicast addresses global, and those reach 127.0.0.1 or a cloud's metadata service
from somewhere.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# https://www.iana.org/assignments/iana-ipv4-special-registry/ and two cloud services that sit
# outside it.
_REFUSED_V4 = [
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud platform service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]

# https://www.iana.org/assignments/iana-ipv6-special-registry/. Outside 2000::/3 nothing is global
# unicast.
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = [
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "protocol assignments (Teredo, ORCHID, benchmarking)"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)
"""Upper half of an ISATAP interface identifier, RFC 5214 section 6.1."""


def refusal(address: Address | str) -> str | None:
    """Why an address must not be dialled ("loopback", "private", ...), None for public unicast."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an address"
    if isinstance(parsed, IPv4Address):
        return next((reason for network, reason in _REFUSED_V4 if parsed in network), None)
    return _refusal_v6(parsed)


def _refusal_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "link-local"
    carried = carried_v4(address)
    if carried is not None:
        return refusal(carried)
    if address not in _GLOBAL_V6:
        return "not global unicast"
    tunnelled = _isatap_v4(address)
    if tunnelled is not None and (reason := refusal(tunnelled)) is not None:
        return reason
    return next((reason for network, reason in _REFUSED_V6 if address in network), None)


def carried_v4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this one really goes to: v4-mapped and NAT64's well-known
    prefix.

    The other carriers (v4-compatible, 6to4, Teredo, NAT64's local prefix) are refused whatever they
    carry, by the tables.
    """
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def _isatap_v4(address: IPv6Address) -> IPv4Address | None:
    mark = (int(address) >> 32) & 0xFFFFFFFF
    return IPv4Address(int(address) & 0xFFFFFFFF) if mark in _ISATAP_MARKS else None
