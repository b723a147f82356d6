"""Files in an R2 or S3 bucket: uploaded once however often they are used, downloaded whole or not
at all, lent out by presigned URLs. Needs the extra: `pip install 'gpu-worker-client[storage]'`.

    storage = Storage.from_env()
    key = storage.upload("game.mp4")                 # gpu-worker/in/SHA256.mp4
    url = storage.presign_get(key)
    storage.download("gpu-worker/out/clip.mp4", "clip.mp4")

A transfer that breaks is taken up where it stopped, also by another process. All keys start with
one prefix, so that one lifecycle rule can delete what was left behind. The keys of the bucket
appear in no text.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from gpu_worker_client._blocking import checkpoint
from gpu_worker_client._http import check_service_url
from gpu_worker_client._retry import Timing
from gpu_worker_client.errors import ConfigError, StorageError
from gpu_worker_client.protocol import (
    MAX_PARTS,
    MIN_PART_BYTES,
    OutputMultipart,
    OutputPart,
    UploadPart,
)
from gpu_worker_client.protocol.http import DEFAULT_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS
from gpu_worker_client.storage.s3 import S3, ObjectInfo, OnBytes
from gpu_worker_client.storage.transfer import download, read, upload

DEFAULT_PART_BYTES = 16 * 1024**2
"""Also the largest single PUT. Four of them in flight hold 64 MiB of memory."""
DEFAULT_PREFIX = "gpu-worker"
MAX_READ_BYTES = 1 << 30
"""What `read` takes into memory at most; a result of hours of tracks has 200 MB."""
_R2_URL = "https://{}.r2.cloudflarestorage.com"
_REQUIRED = ("R2_BUCKET_NAME", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")
VARIABLES = frozenset({"R2_ENDPOINT_URL", "R2_ACCOUNT_ID", *_REQUIRED})
"""What `Storage.from_env` reads."""
_READ_BYTES = 1 << 20
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


@dataclass(frozen=True)
class PartsUpload:
    """An open multipart upload whose parts were presigned for somebody else to send."""

    key: str
    upload_id: str
    multipart: OutputMultipart
    """What a task's `output_multipart` takes."""


class Storage:
    """One bucket.

    Args:
        endpoint_url: of the account, "https://ACCOUNT.r2.cloudflarestorage.com" for example.
        bucket: its name.
        access_key_id, secret_access_key: a pair that may read and write objects of this bucket; it
            needs nothing else.
        region: "auto" for R2.
        prefix: what all keys made here start with.
        keep_inputs: leave uploaded inputs in the bucket after a job, so that the next one on the
            same clip uploads nothing; a lifecycle rule on `prefix` deletes them in time. Outputs
            are always deleted once they are here.
        part_bytes: size of the parts of a multipart upload, all but the last; the largest single
            PUT as well.
        parallel: parts in flight at the same time.
        timing: sleep and random numbers; for tests.

    Raises:
        ConfigError: one of them cannot work.
    """

    def __init__(
        self,
        endpoint_url: str,
        bucket: str,
        access_key_id: str,
        secret_access_key: str,
        *,
        region: str = "auto",
        prefix: str = DEFAULT_PREFIX,
        keep_inputs: bool = True,
        part_bytes: int = DEFAULT_PART_BYTES,
        parallel: int = 4,
        timing: Timing | None = None,
    ) -> None:
        self.endpoint_url = check_service_url(
            endpoint_url, "the bucket's endpoint_url", _R2_URL.format("ACCOUNT"), path=False
        )
        if _BUCKET.fullmatch(bucket) is None:
            raise ConfigError("bucket must be 3 to 63 lower-case letters, digits, '.' or '-'")
        if not access_key_id or not secret_access_key:
            raise ConfigError("access_key_id and secret_access_key must not be empty")
        if part_bytes < 1 or parallel < 1:
            raise ConfigError("part_bytes and parallel must be at least 1")
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.keep_inputs = keep_inputs
        self.part_bytes = part_bytes
        self.parallel = parallel
        self._connect = lambda: S3(
            self.endpoint_url, bucket, access_key_id, secret_access_key, region, timing or Timing()
        )

    @classmethod
    def from_env(
        cls, env: Mapping[str, str] | None = None, *, prefix: str = DEFAULT_PREFIX
    ) -> Storage:
        """The bucket that the environment names, by the variables that the worker reads for its
        own: `R2_ENDPOINT_URL` (or `R2_ACCOUNT_ID`), `R2_BUCKET_NAME`, `R2_ACCESS_KEY_ID`,
        `R2_SECRET_ACCESS_KEY`.

        Raises:
            ConfigError: one of them is missing or cannot work.
        """
        env = os.environ if env is None else env
        account = env.get("R2_ACCOUNT_ID", "")
        endpoint_url = env.get("R2_ENDPOINT_URL") or (account and _R2_URL.format(account))
        values = {name: env.get(name, "") for name in _REQUIRED}
        missing = [name for name, value in values.items() if not value]
        missing += [] if endpoint_url else ["R2_ENDPOINT_URL (or R2_ACCOUNT_ID)"]
        if missing:
            raise ConfigError(f"no bucket for files: set {', '.join(missing)}")
        return cls(endpoint_url, *values.values(), prefix=prefix)

    def __repr__(self) -> str:
        return f"Storage({self.endpoint_url!r}, bucket={self.bucket!r})"

    @cached_property
    def _s3(self) -> S3:
        """Made when first needed: boto3 takes a third of a second to import."""
        return self._connect()

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """An operation of boto3's client on this bucket, retried. Raises StorageError."""
        return self._s3.call(operation, **arguments)

    def call_once(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The same without a retry."""
        return self._s3.try_once(operation, **arguments)

    def upload(
        self, path: str | Path, key: str | None = None, on_progress: OnBytes | None = None
    ) -> str:
        """Stores a file and gives its key.

        Args:
            path: a file that is not written to meanwhile.
            key: where to; None takes `content_key(path)` and sends nothing when that object is
                there already.
            on_progress: see `OnBytes`.

        Raises:
            StorageError: after bounded retries. What was sent stays, and the next attempt goes on
                from there.
            OSError: the file cannot be read.
        """
        path, notify = Path(path), _nobody if on_progress is None else on_progress
        if key is None:
            key = self.content_key(path)
            found = self.head(key)
            if found is not None and found.size_bytes == path.stat().st_size:
                notify(found.size_bytes, found.size_bytes)
                return key
        upload(self._s3, path, key, self.part_bytes, self.parallel, notify)
        return key

    def download(self, key: str, path: str | Path, on_progress: OnBytes | None = None) -> Path:
        """Fetches an object into a file. The file appears whole, by a rename, or not at all; until
        then the bytes are in `.NAME.ETAG.part` beside it, and another attempt goes on from there.
        One download of a path at a time.

        Raises:
            StorageError: no such object, or after bounded retries.
            OSError: the file cannot be written.
        """
        path = Path(path)
        download(self._s3, key, path, _nobody if on_progress is None else on_progress)
        return path

    def content_key(self, path: str | Path) -> str:
        """`gpu-worker/in/SHA256.mp4`: the same file has the same key, whatever it is called. The
        suffix is the file's."""
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while piece := file.read(_READ_BYTES):
                checkpoint()
                digest.update(piece)
        suffix = Path(path).suffix.lower()
        return self.key("in", digest.hexdigest() + (suffix if _SUFFIX.fullmatch(suffix) else ""))

    def key(self, *parts: str) -> str:
        """`parts` below the prefix."""
        return "/".join(part for part in (self.prefix, *parts) if part)

    def head(self, key: str) -> ObjectInfo | None:
        """Size and version of an object, None when there is none. Raises StorageError: the bucket
        does not say."""
        return self._s3.head(key)

    def read(self, key: str, max_bytes: int = MAX_READ_BYTES) -> bytes | None:
        """An object's bytes, None when there is none. Raises StorageError: it has more than
        `max_bytes`, or could not be read."""
        info = self.head(key)
        if info is None:
            return None
        if info.size_bytes > max_bytes:
            problem = f"{key} has {info.size_bytes} bytes, more than {max_bytes}"
            raise StorageError(problem, code="too_large", retryable=False)
        return read(self._s3, info)

    def delete(self, *keys: str) -> None:
        """Deletes objects; those that are not there are no error. Raises StorageError: one could
        not be deleted."""
        for key in keys:
            self._s3.call("delete_object", Key=key)

    def presign_get(self, key: str, expires_seconds: int = DEFAULT_EXPIRES_SECONDS) -> str:
        """A URL to read this object, good for `expires_seconds` and for whoever has it. Raises
        ConfigError: it would live longer than 7 days."""
        return self._s3.presign("get_object", check_expiry(expires_seconds), Key=key)

    def presign_put(self, key: str, expires_seconds: int = DEFAULT_EXPIRES_SECONDS) -> str:
        """A URL to write this object, of up to 4.9 GiB. Errors as `presign_get`."""
        return self._s3.presign("put_object", check_expiry(expires_seconds), Key=key)

    def presign_parts(
        self, key: str, part_bytes: int, count: int, expires_seconds: int = DEFAULT_EXPIRES_SECONDS
    ) -> PartsUpload:
        """Opens a multipart upload and presigns `count` parts of `part_bytes` each (the last one
        sent may be shorter, more of them stay unused). Whoever sends them says their ETags; then
        `complete_parts`, or `abort_parts`.

        Raises:
            ConfigError: parts that R2 does not take, or an expiry of over 7 days.
            StorageError: the upload could not be opened.
        """
        if not MIN_PART_BYTES <= part_bytes <= 5 * 1024**3 or not 1 <= count <= MAX_PARTS:
            raise ConfigError(
                f"part_bytes must be {MIN_PART_BYTES} to 5 GiB, count 1 to {MAX_PARTS}"
            )
        check_expiry(expires_seconds)
        upload_id = str(self._s3.call("create_multipart_upload", Key=key)["UploadId"])
        given = {"Key": key, "UploadId": upload_id}
        sign = partial(self._s3.presign, "upload_part", expires_seconds, **given)
        parts = [UploadPart(n=n, url=sign(PartNumber=n)) for n in range(1, count + 1)]
        return PartsUpload(key, upload_id, OutputMultipart(part_size=part_bytes, parts=parts))

    def complete_parts(self, upload: PartsUpload, parts: Sequence[OutputPart]) -> None:
        """Makes one object of the parts that were sent, a result's `output_parts`. Errors as
        `upload`."""
        in_order = sorted(parts, key=lambda part: part.n)
        self._s3.call(
            "complete_multipart_upload",
            Key=upload.key,
            UploadId=upload.upload_id,
            MultipartUpload={"Parts": [{"PartNumber": p.n, "ETag": p.etag} for p in in_order]},
        )

    def abort_parts(self, upload: PartsUpload) -> None:
        """Drops a multipart upload and its parts; one that was completed or dropped already is no
        error."""
        try:
            self._s3.call("abort_multipart_upload", Key=upload.key, UploadId=upload.upload_id)
        except StorageError as error:
            if error.code != "no_upload":
                raise


def _nobody(_done: int, _total: int) -> None:
    """Takes the progress that nobody asked for."""


def check_expiry(seconds: int) -> int:
    """`seconds`, when a presigned URL can live that long. boto3 signs more without a word, and the
    bucket refuses it later."""
    if not 1 <= seconds <= MAX_EXPIRES_SECONDS:
        raise ConfigError(f"expires_seconds must be 1 to {MAX_EXPIRES_SECONDS} (7 days)")
    return seconds
