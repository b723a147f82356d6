"""One bucket in R2 or S3: files in and out, and presigned URLs to them."""

from gpu_worker_client.storage.bucket import DEFAULT_EXPIRES_SECONDS, PartsUpload, Storage
from gpu_worker_client.storage.s3 import ObjectInfo, OnBytes

__all__ = ["DEFAULT_EXPIRES_SECONDS", "ObjectInfo", "OnBytes", "PartsUpload", "Storage"]
