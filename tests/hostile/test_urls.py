"""URLs and addresses made to reach what they must not: every row is refused with its own code,
before any packet is sent.

Rows follow the published traps: CVE-2024-11168 (bracketed hosts), CVE-2025-24354 (0.0.0.0), parsers
that disagree about backslashes and user info, `getaddrinfo`'s spellings of 127.0.0.1, and every
IPv6 form that carries an IPv4 address.
"""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone

import pytest

from gpu_worker.transfer.address import refusal
from gpu_worker.transfer.safe_url import SafeUrl, parse_url
from gpu_worker.transfer.urls import UrlPolicy, check_task
from gpu_worker_client.protocol import ErrorCode, TaskError, parse_task

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
PUBLIC = UrlPolicy()
R2_ONLY = UrlPolicy(allowed_hosts=("r2.cloudflarestorage.com", "Media.Example.com:8443"))
LOCAL_GATE = UrlPolicy(exempt_hosts=frozenset({"127.0.0.1:18000"}))


def check_input(url: object, policy: UrlPolicy = PUBLIC) -> SafeUrl:
    task = parse_task({"task": "detect_scenes", "input_url": url})
    source = check_task(task, policy, now=NOW, min_remaining_seconds=60).input
    assert source is not None
    assert isinstance(source.location, SafeUrl)
    return source.location


REFUSED_ADDRESSES = [
    # U03, U04: this host
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "::1",
    # U05: metadata services
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    # U06: private and shared, with their edges
    "10.0.0.0",
    "10.255.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.0",
    "100.127.255.255",
    # U07, U08: IPv4 inside IPv6
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::127.0.0.1",
    "::8.8.8.8",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "64:ff9b:1::808:808",
    "2002:a9fe:a9fe::",
    "2002:808:808::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a00:1",
    "fe80::5efe:c0a8:101",
    # U09: not unicast, not routed, or reserved
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "192.0.2.1",
    "198.51.100.7",
    "203.0.113.9",
    "ff02::1",
    "ff0e::1",
    "fec0::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "2001:db8::1",
    "2001:10::1",
    "2001:2::1",
    "3fff::1",
    "100::1",
    "5f00::1",
    "4000::1",
    "not an address",
]
ALLOWED_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "168.63.129.15",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700::5efe:808:808",
]


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_address_is_refused(address: str) -> None:
    assert refusal(address) is not None


@pytest.mark.parametrize("address", ALLOWED_ADDRESSES)
def test_public_address_is_allowed(address: str) -> None:
    assert refusal(address) is None


def test_the_tables_are_as_long_as_promised() -> None:
    assert len(set(REFUSED_ADDRESSES)) + len(set(ALLOWED_ADDRESSES)) >= 60


NOT_A_URL = {
    "U01 plain http": "http://bucket.example.com/in.mp4",
    "U02 file": "file:///etc/passwd",
    "U02 ftp": "ftp://example.com/in.mp4",
    "U02 gopher": "gopher://example.com/_x",
    "U02 data": "data:video/mp4;base64,AAAA",
    "U02 concat": "concat:/etc/passwd|/etc/hosts",
    "U02 subfile": "subfile,,start,0,end,9,,:/etc/passwd",
    "U02 bare path": "/etc/passwd",
    "U02 no scheme": "//bucket.example.com/in.mp4",
    "U14 backslash": "https://127.0.0.1:443\\@bucket.example.com/in.mp4",
    "U14 fragment hides the host": "https://bucket.example.com#@evil.example.com/in.mp4",
    "U14 fragment": "https://bucket.example.com/in.mp4#t=1",
    "U15 user info": "https://bucket.example.com@evil.example.com/in.mp4",
    "U15 user and password": "https://user:secret@bucket.example.com/in.mp4",
    "U16 line break": "https://bucket.example.com/in.mp4\r\nHost: evil",
    "U16 tab in host": "https://bucket.exa\tmple.com/in.mp4",
    "U16 NUL": "https://bucket.example.com/\x00in.mp4",
    "U16 blank before": " https://bucket.example.com/in.mp4",
    "U16 blank inside": "https://bucket.example.com/in 1.mp4",
    "U16 full-width digits": "https://\uff11\uff12\uff17.0.0.1/in.mp4",
    "U16 homograph": "https://b\u0443cket.example.com/in.mp4",
    "U16 percent in host": "https://bucket%2eexample.com/in.mp4",
    "U17 future address literal": "https://[v1.x]/in.mp4",
    "U17 scoped address": "https://[fe80::1%25lo]/in.mp4",
    "U17 open bracket": "https://[::1/in.mp4",
    "U17 text after bracket": "https://[2606:4700::1]evil/in.mp4",
    "U17 port 0": "https://bucket.example.com:0/in.mp4",
    "U17 port 22": "https://bucket.example.com:22/in.mp4",
    "U17 port 65536": "https://bucket.example.com:65536/in.mp4",
    "U17 port with sign": "https://bucket.example.com:+443/in.mp4",
    "U17 port empty": "https://bucket.example.com:/in.mp4",
    "empty host": "https:///in.mp4",
    "dots only": "https://../in.mp4",
    "trailing dot": "https://bucket.example.com./in.mp4",
    "empty label": "https://bucket..example.com/in.mp4",
    "host too long": f"https://{'a.' * 130}com/in.mp4",
    "one slash": "https:/bucket.example.com/in.mp4",
}


@pytest.mark.parametrize("url", NOT_A_URL.values(), ids=NOT_A_URL)
def test_url_is_not_allowed(url: str) -> None:
    with pytest.raises(TaskError) as caught:
        check_input(url)
    assert caught.value.code is ErrorCode.url_not_allowed
    assert caught.value.message.startswith("input_url: ")
    assert "secret" not in str(caught.value)


def test_u15_user_info_is_named() -> None:
    with pytest.raises(TaskError, match="user info"):
        check_input(NOT_A_URL["U15 user and password"])


LEADS_INSIDE = {
    "U03 loopback": "127.0.0.1",
    "U03 short": "127.1",
    "U03 octal": "0177.0.0.1",
    "U03 hexadecimal": "0x7f000001",
    "U03 hexadecimal label": "127.0.0.0x1",
    "U03 one number": "2130706433",
    "U03 zero": "0",
    "U03 too large": "256.1.1.1",
    "U04 any": "0.0.0.0",
    "U04 any v6": "[::]",
    "U05 metadata": "169.254.169.254",
    "U07 loopback v6": "[::1]",
    "U07 mapped": "[::ffff:127.0.0.1]",
    "U07 compatible": "[::127.0.0.1]",
    "U08 NAT64": "[64:ff9b::a9fe:a9fe]",
    "U08 6to4": "[2002:a9fe:a9fe::]",
}


@pytest.mark.parametrize("host", LEADS_INSIDE.values(), ids=LEADS_INSIDE)
def test_host_is_an_address_that_is_not_allowed(host: str) -> None:
    with pytest.raises(TaskError) as caught:
        check_input(f"https://{host}/in.mp4")
    assert caught.value.code is ErrorCode.address_not_allowed


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.example.com/in.mp4",
        "HTTPS://Bucket.Example.COM:443/in.mp4?a=b",
        "https://8.8.8.8/in.mp4",
        "https://[2606:4700:4700::1111]/in.mp4",
        "https://xn--bcher-kva.example/b%C3%BCcher.mp4",
        "https://my_bucket.s3.amazonaws.com/in.mp4?x=%22",
        "https://bucket.example.com",
    ],
)
def test_ordinary_url_is_allowed(url: str) -> None:
    assert check_input(url).scheme == "https"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://abc.r2.cloudflarestorage.com/b/in.mp4", True),
        ("https://abc.eu.r2.cloudflarestorage.com/b/in.mp4", True),
        ("https://r2.cloudflarestorage.com/b/in.mp4", True),
        ("https://evilr2.cloudflarestorage.com/b/in.mp4", False),
        ("https://x.r2.cloudflarestorage.com.evil.com/b/in.mp4", False),
        ("https://cloudflarestorage.com/b/in.mp4", False),
        ("https://abc.r2.cloudflarestorage.com:8443/b/in.mp4", False),
        ("https://media.example.com:8443/in.mp4", True),
        ("https://media.example.com/in.mp4", False),
        ("https://8.8.8.8/in.mp4", False),
    ],
)
def test_host_list_matches_whole_labels(url: str, allowed: bool) -> None:
    if allowed:
        check_input(url, R2_ONLY)
        return
    with pytest.raises(TaskError) as caught:
        check_input(url, R2_ONLY)
    assert caught.value.code is ErrorCode.url_not_allowed


def test_exemption_is_for_one_host_and_port() -> None:
    check_input("http://127.0.0.1:18000/media/in.mp4", LOCAL_GATE)
    for other in (
        "http://127.0.0.1:18001/in.mp4",
        "http://localhost:18000/in.mp4",
        "https://127.0.0.1/in.mp4",
    ):
        with pytest.raises(TaskError):
            check_input(other, LOCAL_GATE)


@pytest.mark.parametrize(
    "url", ["", "https://bucket.example.com/" + "a" * 8192, 7, None, ["https://x.example/"], {}]
)
def test_u18_not_even_a_bounded_string(url: object) -> None:
    with pytest.raises(TaskError) as caught:
        check_input(url)
    assert caught.value.code is ErrorCode.invalid_task


def test_a_safe_url_shows_no_query() -> None:
    url = parse_url("https://bucket.example.com:8443/in.mp4?X-Amz-Signature=CANARY", "input_url")
    shown = [
        str(url),
        repr(url),
        f"{url}",
        f"{url!r:>80}",
        f"{url:>60}",
        f"{[url]}",
        repr({0: url}),
    ]
    assert not any("CANARY" in text for text in shown)
    assert str(url) == "https://bucket.example.com:8443/in.mp4"
    assert url.reveal().endswith("?X-Amz-Signature=CANARY")
    assert not hasattr(url, "__dict__")


def test_a_safe_url_does_not_leave_the_process() -> None:
    url = parse_url("https://bucket.example.com/in.mp4?X-Amz-Signature=CANARY", "input_url")
    with pytest.raises(TypeError):
        pickle.dumps(url)
    with pytest.raises(TypeError):
        copy.deepcopy(url)
