"""What a bucket answers when it is asked for a list: objects, open uploads, parts. Pages as S3
gives them, in XML.

Pure functions over what is to be listed and the request's query.
https://developers.cloudflare.com/r2/api/s3/api/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import gmtime, strftime
from typing import TypeVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from gpu_worker.devserver.responses import LocalResponse
from gpu_worker.devserver.store.multipart import StoredPart, Upload
from gpu_worker.devserver.store.objects import StoredObject
from gpu_worker.devserver.store.s3_errors import S3Error
from gpu_worker_client.protocol.foreign import parse_integer

MAX_PAGE = 1000
"""Entries of one page at most, and by default."""

T = TypeVar("T")


def xml_response(root: str, values: Mapping[str, str], inner: str = "") -> LocalResponse:
    """A document of plain fields, and `inner` after them as it is."""
    fields = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())
    return LocalResponse.bytes(
        200, f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{fields}{inner}</{root}>'.encode()
    )


def list_objects(objects: Sequence[StoredObject], query: Mapping[str, str]) -> LocalResponse:
    """ListObjectsV2. The continuation token is the last key of the page before."""
    after = query.get("continuation-token") or query.get("start-after", "")
    page, cut = _page([found for found in objects if found.key > after], query, "max-keys")
    contents = "".join(
        f"<Contents><Key>{_named(found.key, query)}</Key>"
        f"<LastModified>{_time(found.modified)}</LastModified>"
        f'<ETag>"{found.etag}"</ETag><Size>{found.size}</Size></Contents>'
        for found in page
    )
    more = {"NextContinuationToken": page[-1].key} if cut else {}
    return xml_response(
        "ListBucketResult", {"KeyCount": str(len(page)), **_head(query, cut), **more}, contents
    )


def list_uploads(uploads: Sequence[Upload], query: Mapping[str, str]) -> LocalResponse:
    """ListMultipartUploads: those neither completed nor aborted."""
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    rest = sorted(
        (upload for upload in uploads if (upload.key, upload.id) > marker),
        key=lambda u: (u.key, u.id),
    )
    page, cut = _page(rest, query, "max-uploads")
    listed = "".join(
        f"<Upload><Key>{_named(upload.key, query)}</Key><UploadId>{upload.id}</UploadId>"
        f"<Initiated>{_time(upload.initiated)}</Initiated></Upload>"
        for upload in page
    )
    more = {"NextKeyMarker": page[-1].key, "NextUploadIdMarker": page[-1].id} if cut else {}
    return xml_response("ListMultipartUploadsResult", {**_head(query, cut), **more}, listed)


def list_parts(upload: Upload, query: Mapping[str, str]) -> LocalResponse:
    """ListParts."""
    after = _whole(query, "part-number-marker", 0)
    rest: list[StoredPart] = [
        part for number, part in sorted(upload.parts.items()) if number > after
    ]
    page, cut = _page(rest, query, "max-parts")
    listed = "".join(
        f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{part.etag}"</ETag><Size>{part.size}</Size></Part>'
        for part in page
    )
    more = {"NextPartNumberMarker": str(page[-1].number)} if cut else {}
    fields = {"Key": upload.key, "UploadId": upload.id, "IsTruncated": _flag(cut), **more}
    return xml_response("ListPartsResult", fields, listed)


def _page(rest: Sequence[T], query: Mapping[str, str], limit_name: str) -> tuple[Sequence[T], bool]:
    limit = min(_whole(query, limit_name, MAX_PAGE), MAX_PAGE)
    return rest[:limit], len(rest) > limit > 0


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    number = parse_integer(query.get(name, "") or str(default))
    if number is None:
        raise S3Error("InvalidArgument", f"{name} must be a whole number")
    return number


def _head(query: Mapping[str, str], cut: bool) -> dict[str, str]:
    encoding = {"EncodingType": "url"} if query.get("encoding-type") == "url" else {}
    return {
        "Prefix": _encoder(query)(query.get("prefix", "")),
        "IsTruncated": _flag(cut),
        **encoding,
    }


def _named(key: str, query: Mapping[str, str]) -> str:
    return escape(_encoder(query)(key))


def _encoder(query: Mapping[str, str]) -> Callable[[str], str]:
    return (lambda text: quote(text, safe="/-_.~")) if query.get("encoding-type") == "url" else str


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _time(seconds: float) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(seconds))
