"""A real bucket as the queue's store, by boto3 on threads. Needs the extra: `pip install
'gpu-worker-client[storage]'`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from gpu_worker_client._blocking import in_thread
from gpu_worker_client._retry import MAX_RETRIES
from gpu_worker_client.errors import StorageError
from gpu_worker_client.protocol.foreign import parse_http_date
from gpu_worker_client.queue.store import PAGE_KEYS, InDoubt, LostRace, Page, Stored
from gpu_worker_client.storage import Storage
from gpu_worker_client.storage.bucket import MAX_READ_BYTES
from gpu_worker_client.storage.s3 import connection_error


class BucketStore:
    """See `Store`. Its keys lie below the storage's prefix, which may be empty."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    async def get(self, key: str) -> Stored | None:
        return await in_thread(partial(self._get, key))

    async def head(self, key: str) -> Stored | None:
        return await in_thread(partial(self._head, key))

    async def put(
        self, key: str, body: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        conditions = {"IfNoneMatch": "*"} if if_absent else {}
        conditions |= {"IfMatch": f'"{if_match}"'} if if_match is not None else {}
        return await in_thread(lambda: self._put(key, Body=body, **conditions))

    async def list_page(self, prefix: str, after: str = "") -> Page:
        return await in_thread(partial(self._list, prefix, after))

    async def delete(self, key: str) -> None:
        await in_thread(partial(self.storage.delete, self.storage.key(key)))

    def _get(self, key: str) -> Stored | None:
        from botocore.exceptions import BotoCoreError

        for attempt in range(MAX_RETRIES + 1):
            answer = self._ask("get_object", key)
            if answer is None:
                return None
            if answer["ContentLength"] > MAX_READ_BYTES:
                return _stored(key, answer)  # none of ours, and none that anybody could read
            try:
                return _stored(key, answer, answer["Body"].read())
            except BotoCoreError as error:  # it broke off in the middle
                if attempt == MAX_RETRIES:
                    raise connection_error(error, "get_object", key) from None
        raise AssertionError("the last attempt returns or raises")

    def _head(self, key: str) -> Stored | None:
        answer = self._ask("head_object", key)
        return None if answer is None else _stored(key, answer)

    def _ask(self, operation: str, key: str) -> dict[str, Any] | None:
        try:
            return self.storage.call(operation, Key=self.storage.key(key))
        except StorageError as error:
            if error.code == "not_found":
                return None
            raise

    def _put(self, key: str, **arguments: Any) -> str:
        """Once: what a second request would say of the first one's doing, nobody could know."""
        try:
            answer = self.storage.call_once("put_object", Key=self.storage.key(key), **arguments)
        except StorageError as error:
            if error.code in ("changed", "conflict", "not_found"):
                raise LostRace(key) from None
            if error.retryable:
                raise InDoubt(key) from None
            raise
        return _etag(answer)

    def _list(self, prefix: str, after: str) -> Page:
        answer = self.storage.call(
            "list_objects_v2",
            Prefix=self.storage.key(prefix),
            StartAfter=self.storage.key(after) if after else "",
            MaxKeys=PAGE_KEYS,
        )
        base = len(self.storage.key(prefix)) - len(prefix)
        return Page(
            [_stored(item["Key"][base:], answer | item) for item in answer.get("Contents", [])],
            is_last=not answer.get("IsTruncated", False),
        )


def _stored(key: str, answer: Mapping[str, Any], body: bytes = b"") -> Stored:
    date = parse_http_date(answer["ResponseMetadata"]["HTTPHeaders"].get("date"))
    if date is None:
        raise StorageError(
            "the bucket's answers have no Date, by which leases run out",
            code="refused",
            retryable=False,
        )
    return Stored(key, _etag(answer), answer["LastModified"].timestamp(), date.timestamp(), body)


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')
