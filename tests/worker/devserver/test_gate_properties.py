"""Random requests: every one is answered or refused by a typed error, never by a crash; ranges
agree with slicing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_worker.devserver.http_rules import byte_range
from gpu_worker.devserver.store.multipart import parse_complete
from gpu_worker.devserver.store.presign import object_url, presign
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker.devserver.store.sigv4 import Credentials, verify

CREDENTIALS = Credentials("access", "secret")
NOW = 1_800_000_000.0
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")


@settings(max_examples=100, deadline=None)
@given(
    key=KEYS,
    query=st.dictionaries(
        KEYS.filter(lambda name: not name.startswith("X-Amz-")), KEYS, max_size=3
    ),
)
def test_whatever_botocore_signs_is_accepted_for_its_method_only(
    key: str, query: dict[str, str]
) -> None:
    url = presign(
        "PUT", object_url("http://h:1", "b", key), CREDENTIALS, signed_at=NOW, query=query
    )
    target = url.removeprefix("http://h:1")
    assert verify("PUT", target, {"host": "h:1"}, CREDENTIALS, NOW) == query
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        verify("GET", target, {"host": "h:1"}, CREDENTIALS, NOW)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.text(max_size=30), min_size=6, max_size=6), path=st.text(max_size=20))
def test_a_query_of_garbage_is_refused_by_name(values: list[str], path: str) -> None:
    values[0] = "AWS4-HMAC-SHA256"
    query = "&".join(
        f"X-Amz-{name}={value}" for name, value in zip(PARAMETERS, values, strict=True)
    )
    with pytest.raises(S3Error):
        verify("GET", f"//[{path}?{query}", {"host": "h"}, CREDENTIALS, NOW)


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(0, 30),
    first=st.none() | st.integers(0, 40),
    last=st.none() | st.integers(0, 40),
)
def test_ranges_agree_with_slicing(size: int, first: int | None, last: int | None) -> None:
    data = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None and last is None or (first is not None and last is not None and last < first):
        assert byte_range(header, size) is None
        return
    if first is None:
        assert last is not None
        expected = data[-last:] if last else b""
    else:
        expected = data[first:] if last is None else data[first : last + 1]
    if not expected:
        with pytest.raises(S3Error, match="InvalidRange"):
            byte_range(header, size)
        return
    found = byte_range(header, size)
    assert found is not None
    assert data[slice(*found)] == expected


@settings(max_examples=100, deadline=None)
@given(
    body=st.binary(max_size=200)
    | st.text(alphabet='<>/PartNumberETag0a"&;', max_size=200).map(str.encode)
)
def test_a_document_of_garbage_is_malformed(body: bytes) -> None:
    try:
        listed = parse_complete(body)
    except S3Error as error:
        assert error.code == "MalformedXML"
    else:
        assert listed
