"""Presigned URLs made by botocore's own signer, as a backend makes them: any method, any signed
header, any age."""

from __future__ import annotations

from collections.abc import Mapping
from time import gmtime, strftime
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from gpu_worker.devserver.store.sigv4 import Credentials


class _DatedSigner(S3SigV4QueryAuth):
    """botocore signs with the system time; this one with a given time, so that an expired URL needs
    no waiting."""

    def __init__(self, credentials: Credentials, expires_seconds: int, signed_at: float) -> None:
        keys = BotoCredentials(credentials.access_key, credentials.secret_key)
        super().__init__(keys, "s3", credentials.region, expires_seconds)
        self._stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(signed_at))

    def _modify_request_before_signing(
        self, request: AWSRequest
    ) -> None:  # botocore's hook between dating and signing
        request.context["timestamp"] = self._stamp
        super()._modify_request_before_signing(request)


def presign(
    method: str,
    object_url: str,
    credentials: Credentials,
    *,
    signed_at: float,
    expires_seconds: int = 3600,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> str:
    """A presigned URL.

    Args:
        method: the one method the URL is good for.
        object_url: scheme, host, path (already percent-encoded), no query.
        signed_at: seconds since the epoch.
        headers: are signed, so the request must send exactly these.
        query: more parameters (`uploadId`, `partNumber`), signed too.
    """
    url = f"{object_url}?{urlencode(query, quote_via=quote)}" if query else object_url
    request = AWSRequest(method=method, url=url, headers=dict(headers or {}))
    _DatedSigner(credentials, expires_seconds, signed_at).add_auth(request)
    return str(request.url)


def object_url(base_url: str, bucket: str, key: str) -> str:
    """Path-style address of a key."""
    return f"{base_url}/{bucket}/{quote(key, safe='/-_.~')}"
