"""The worker's configuration: read once from an environment mapping into a frozen value, every name
checked.

Variables start with `GPU_WORKER_`; `WEIGHTS_DIR` keeps the name that images of this kind use. A
variable of that prefix that no field knows, or a value that does not parse, is a `ConfigError` at
start, not a surprise at the hundredth job.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gpu_worker_client.errors import ConfigError as ClientConfigError
from gpu_worker_client.storage import Storage
from gpu_worker_client.storage.bucket import VARIABLES as STORAGE_VARIABLES
from gpu_worker_client.webhooks import webhook_key
from gpu_worker_processors.engine.settings import EngineSettings, engine_fields
from gpu_worker_processors.environment import ConfigError, Reader

PREFIX = "GPU_WORKER_"

VARIABLES = {
    "weights_dir": "WEIGHTS_DIR",
    "webhook_keys": "GPU_WORKER_WEBHOOK_SECRETS",
    "bucket": (
        "R2_ENDPOINT_URL` (or `R2_ACCOUNT_ID`), `R2_BUCKET_NAME`, `R2_ACCESS_KEY_ID`,"
        " `R2_SECRET_ACCESS_KEY"
    ),
}
"""Fields of `Settings` whose variable is not the prefix and the field's name."""

OTHER_VARIABLES = frozenset(
    {
        "GPU_WORKER_BASE_URL",
        "GPU_WORKER_ENDPOINT_ID",
        "GPU_WORKER_DOCTOR_URL",
        "GPU_WORKER_HISTORY",
        "GPU_WORKER_MAX_PARALLEL_JOBS",
        "GPU_WORKER_MODE",
        "GPU_WORKER_TIMEOUT_SECONDS",
    }
)
"""Variables of our prefix that the client or `doctor` reads, not the worker's settings."""


@dataclass(frozen=True)
class Settings(EngineSettings):
    """Everything an operator can choose."""

    weights_download: bool = False
    """A job may download missing weights that the manifest names, as `gpu-worker run` always does;
    else `weights_missing`."""
    work_root: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "gpu-worker")
    allow_local_files: bool = False
    """Accept `file:///abs/path` and bare paths instead of URLs. For a laptop; the image never sets
    it."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts that tasks may name, each with its subdomains ("r2.cloudflarestorage.com"). Empty: any
    public https host."""
    exempt_hosts: frozenset[str] = frozenset()
    """`host:port` entries that may be plain http and private addresses: a development server's
    own."""
    inline_result_bytes: int = 1_000_000
    """Largest result JSON inside an answer when `result_url` was given."""
    max_answer_bytes: int = 9_000_000
    """Largest answer at all. RunPod drops more than 10 MB without a word."""
    max_input_bytes: int = 32 * 1024**3
    """Largest input; a larger one is `input_too_large` before it is read."""
    transfer_time_limit_seconds: float = 3600
    """Longest fetch, and longest delivery."""
    min_url_lifetime_seconds: float = 60
    """Presigned URLs must outlive the start of the job by this much."""
    drain_seconds: float = 20
    """After SIGTERM the running job has this long to finish before it is cancelled."""
    prices: Mapping[str, float] = field(default_factory=dict[str, float])
    """USD per second by GPU name, for the `cost` of an answer."""
    bucket: Storage | None = None
    """The worker's own bucket. A result too large for the answer, of a task without `result_url`,
    is put there and answered as a presigned GET that lives seven days. Give the key no more than
    object read and write on that bucket."""
    webhook_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Secrets that sign the events of tasks with a `webhook_url`, each `whsec_<base64>`, separated
    by commas. While a secret is being changed both stand here, and every event has a signature by
    each. Unset: such a task is `webhook_unavailable`."""
    end_with_process: int = 0
    """Id of a process with which the worker ends, killed: `dev-server` names itself, whose workers
    have nothing to do without it. 0 is none."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR. URLs are redacted at every level."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Reads the mapping (normally `os.environ`).

        Raises:
            ConfigError: an unknown `GPU_WORKER_*` variable or a value that does not parse.
        """
        _refuse_unknown(env)
        read = _Reader(env)
        default = cls()
        return cls(
            **engine_fields(read, default),
            weights_download=read.flag("GPU_WORKER_WEIGHTS_DOWNLOAD", default.weights_download),
            allow_local_files=read.flag("GPU_WORKER_ALLOW_LOCAL_FILES", default.allow_local_files),
            allowed_hosts=read.names("GPU_WORKER_ALLOWED_HOSTS"),
            exempt_hosts=frozenset(read.names("GPU_WORKER_EXEMPT_HOSTS")),
            inline_result_bytes=read.whole(
                "GPU_WORKER_INLINE_RESULT_BYTES", default.inline_result_bytes
            ),
            max_answer_bytes=read.whole("GPU_WORKER_MAX_ANSWER_BYTES", default.max_answer_bytes),
            max_input_bytes=read.whole("GPU_WORKER_MAX_INPUT_BYTES", default.max_input_bytes),
            transfer_time_limit_seconds=read.number(
                "GPU_WORKER_TRANSFER_TIME_LIMIT_SECONDS", default.transfer_time_limit_seconds
            ),
            min_url_lifetime_seconds=read.number(
                "GPU_WORKER_MIN_URL_LIFETIME_SECONDS", default.min_url_lifetime_seconds
            ),
            drain_seconds=read.number("GPU_WORKER_DRAIN_SECONDS", default.drain_seconds),
            prices=read.prices("GPU_WORKER_PRICES"),
            bucket=read.bucket(),
            webhook_keys=read.webhook_keys(VARIABLES["webhook_keys"]),
            end_with_process=read.whole("GPU_WORKER_END_WITH_PROCESS", default.end_with_process),
            log_level=read.choice(
                "GPU_WORKER_LOG_LEVEL", ("DEBUG", "INFO", "WARNING", "ERROR"), default.log_level
            ),
        )


class _Reader(Reader):
    """Reads the variables of the worker as well as those of the engine."""

    def bucket(self) -> Storage | None:
        if not any(self._env.get(name) for name in STORAGE_VARIABLES):
            return None
        try:
            return Storage.from_env(self._env)
        except ClientConfigError as error:
            raise ConfigError(f"the worker's own bucket: {error}") from None

    def webhook_keys(self, name: str) -> tuple[bytes, ...]:
        secrets = [part.strip() for part in self._env.get(name, "").split(",") if part.strip()]
        try:
            return tuple(webhook_key(secret) for secret in secrets)
        except ClientConfigError as error:
            raise ConfigError(f"{name}: {error}") from None

    def prices(self, name: str) -> Mapping[str, float]:
        try:
            table: object = json.loads(self._env.get(name, "") or "{}")
        except ValueError:
            table = None
        if not isinstance(table, dict) or not all(
            isinstance(v, int | float) for v in cast(dict[str, object], table).values()
        ):
            raise ConfigError(f'{name} must be JSON like {{"NVIDIA L4": 0.00019}}')
        return {str(k): float(v) for k, v in cast(dict[str, float], table).items()}


_KNOWN = frozenset(
    VARIABLES.get(name, PREFIX + name.upper()) for name in Settings.__dataclass_fields__
)


def _refuse_unknown(env: Mapping[str, str]) -> None:
    for name in env:
        if name.startswith(PREFIX) and name not in _KNOWN and name not in OTHER_VARIABLES:
            close = difflib.get_close_matches(name, _KNOWN, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"unknown variable {name}{hint}")
