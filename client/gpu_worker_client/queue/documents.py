"""The JSON objects of the queue. Fields of a newer version are stored and ignored; what cannot be
read is None, for not only we may write to the bucket."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field, JsonValue, ValidationError
from typing_extensions import Self

from gpu_worker_client.protocol.base import FileName, ResponseModel
from gpu_worker_client.protocol.errors import ErrorBody
from gpu_worker_client.queue.keys import JobId, video_key
from gpu_worker_client.queue.states import QueueState

D = TypeVar("D", bound="Document")


class Document(ResponseModel):
    """One object of one job."""

    job_id: JobId

    def to_bytes(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def read(cls, body: bytes | None) -> Self | None:
        """The document in an object's body; None when it is none, or there is no object."""
        try:
            return None if body is None else cls.model_validate_json(body)
        except ValidationError:
            return None


class Manifest(Document):
    """`jobs/ID.json`: what is to be done. Written once."""

    video_id: int | str | None = None
    """The submitter's own number or name of the video."""
    status: QueueState = QueueState.pending
    """As submitted; `status` of the job says where it is now."""
    created_at: datetime | None = None
    task: str = "track"
    """Any task that reads files; see tasks.md."""
    parameters: dict[str, JsonValue] = {}
    """The task's `params`. `sample_interval` is another name of track's `frame_stride`."""
    files: dict[str, str] | None = None
    """Path in the task -> key of the input: `{"input_url": "videos/ID.mp4"}`, which is the default;
    `{"inputs.a.mp4": ...}` for a task with several, `{}` for one that reads nothing."""
    output: FileName | None = None
    """Name of the file to be made; its suffix chooses the container."""
    retry_of: JobId | None = None
    """The job that this one repeats."""

    @property
    def inputs(self) -> dict[str, str]:
        """`files`, or its default."""
        return {"input_url": video_key(self.job_id)} if self.files is None else self.files

    @property
    def params(self) -> dict[str, JsonValue]:
        """`parameters` by the task's own names."""
        given = dict(self.parameters)
        if self.task == "track" and "sample_interval" in given:
            given.setdefault("frame_stride", given.pop("sample_interval"))
        return given


class Attempt(Document):
    """What claim and lease say of one try."""

    attempt: int = Field(ge=1)
    """Number of the claim; rises by one with each, whatever ended the one before."""
    nonce: str
    """Of this attempt and no other, so that its worker knows its own writes when an answer was
    lost."""
    worker: str
    tries: int = Field(ge=0)
    """Attempts that count, this one included: not those that a shutdown ended."""


class Claim(Attempt):
    """`claims/ID/N`. Written once."""


class LeaseDocument(Attempt):
    """`leases/ID.json`: the last attempt."""

    seq: int = Field(ge=0)
    """Rises with each renewal."""
    expires_seconds: float = Field(ge=0)
    """The job may be claimed again when this object is older than that, by the store's clock."""
    released: bool = False
    """Its worker has given it up."""
    error: ErrorBody | None = None
    """Why, when the attempt failed."""


class StatusDocument(Document):
    """`status/ID.json`: for who polls. Nothing depends on it."""

    attempt: int = 0
    current: int = 0
    """Units done in this stage."""
    total: int | None = None
    unit: str = ""
    message: str = ""
    """The stage."""
    progress: dict[str, JsonValue] | None = None
    """The whole report; see jobs.md."""
    final: QueueState | None = None
    """What became of it, once there is a result."""
    updated_at: datetime | None = None


class ResultDocument(Document):
    """`results/ID.json`: what became of a job. Written once, and the one thing that decides it."""

    video_id: int | str | None = None
    status: Literal[QueueState.completed, QueueState.failed, QueueState.cancelled] = (
        QueueState.completed
    )
    completed_at: datetime | None = None
    frames_processed: int | None = None
    attempt: int = 0
    nonce: str = ""
    """Of the attempt, or of the caller who cancelled."""
    worker: str = ""
    result: dict[str, Any] | None = None
    """The task's whole answer when completed; tracks in it are packed in `tracks_columnar`."""
    output_key: str | None = None
    """Where the file is that the task made."""
    error: ErrorBody | None = None
    """Why it failed."""
    detections: list[Any] | None = None
    """The form of other workers: `{frame, track_id, bbox: [x, y, w, h], confidence}`. Ours write
    `result` instead."""
