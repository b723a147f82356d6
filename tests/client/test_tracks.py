"""Tracks in the client: typed the same whichever way the result came, and written as MOTChallenge
text."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import Answer, ScriptedServer, scripted_server

from gpu_worker_client import (
    APIConnectionError,
    Client,
    ResultUnreadable,
    stored_result,
    tracks_to_mot,
)
from gpu_worker_client.protocol import (
    Track,
    TrackBox,
    TrackFrames,
    TrackResult,
    TrackStats,
    TrackTask,
)


def track(track_id: int, name: str, *boxes: tuple[int, float, float, float, float, float]) -> Track:
    frames = [
        TrackBox(frame=frame, bbox=corners, confidence=confidence)
        for frame, *corners, confidence in boxes
    ]
    return Track(track_id=track_id, class_name=name, frames=TrackFrames(frames))


RESULT = TrackResult(
    tracks=[
        track(1, "person", (0, 10.5, 20, 110.25, 220, 0.9), (2, 12, 20.5, 112, 221, 0.875)),
        track(2, "sports ball", (0, 300, 40, 310.1, 50, 1), (1, 299.9, 41, 310, 51, 0.5)),
        track(10, "person", (2, -5, 0, 30, 60.4, 0.612)),
    ],
    stats=TrackStats(total_frames=3, unique_tracks=3),
)
MOT = """\
1,1,10.5,20.0,99.7,200.0,0.9,-1,-1,-1
1,2,300.0,40.0,10.1,10.0,1,-1,-1,-1
2,2,299.9,41.0,10.1,10.0,0.5,-1,-1,-1
3,1,12.0,20.5,100.0,200.5,0.875,-1,-1,-1
3,10,-5.0,0.0,35.0,60.4,0.612,-1,-1,-1
"""


# The result


@pytest.fixture
def bucket() -> Iterator[ScriptedServer]:
    """The worker's own bucket."""
    with scripted_server() as one:
        yield one


SUMMARY: dict[str, Any] = {
    **RESULT.model_dump(mode="json", exclude={"tracks", "cuts"}),
    "tracks_count": 3,
    "cuts_count": 0,
}
KEPT = "/results/1.json?X-Amz-Signature=1"


def summary(bucket: ScriptedServer) -> dict[str, Any]:
    return SUMMARY | {"result_url": bucket.url + KEPT}


def got(client: Client, server: ScriptedServer, output: dict[str, Any], task: Any = None) -> Any:
    server.script.clear()
    server.say({"id": "j", "status": "COMPLETED", "output": output})
    return client.job("j", task).result()


@pytest.mark.parametrize("task", [None, "track", TrackTask])
def test_all_ways_of_a_result_are_equal(
    client: Client, server: ScriptedServer, bucket: ScriptedServer, tmp_path: Path, task: Any
) -> None:
    inline = got(client, server, RESULT.model_dump(mode="json"), task)
    columns = got(client, server, RESULT.packed().model_dump(mode="json"), task)
    bucket.say(Answer("".join(RESULT.json_pieces()).encode()))
    elsewhere = got(client, server, summary(bucket), task)
    assert bucket.asked == ["GET /v2" + KEPT]
    assert "Authorization" not in bucket.seen[0].headers
    saved = tmp_path / "result.json"
    saved.write_text(inline.model_dump_json())
    assert inline == columns == TrackResult.from_json(saved.read_bytes()) == RESULT
    assert elsewhere == RESULT.model_copy(update={"result_url": bucket.url + KEPT})
    assert elsewhere.tracks[1].frames[1].bbox == (299.9, 41.0, 310.0, 51.0)


def test_a_result_url_of_ones_own_is_left_to_read(client: Client, server: ScriptedServer) -> None:
    found = got(client, server, SUMMARY | {"result_url": "https://bucket.example/mine.json"})
    assert found.tracks == [] and found.model_extra == {"tracks_count": 3, "cuts_count": 0}
    with pytest.raises(ValueError, match="summary"):
        tracks_to_mot(found)


def test_damaged_columns_are_an_unreadable_result(client: Client, server: ScriptedServer) -> None:
    broken = RESULT.packed().model_dump(mode="json") | {"tracks_columnar": "aGVsbG8="}
    with pytest.raises(ResultUnreadable):
        got(client, server, broken)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"<Error/>", APIConnectionError),
        (b"\xff", APIConnectionError),
        (b"[" * 200_000, APIConnectionError),
        (b"{}", ResultUnreadable),
        (b"[]", APIConnectionError),
        (
            b'{"stats": {"total_frames": 1, "unique_tracks": 1}, "tracks": [{"track_id": 1}]}',
            ResultUnreadable,
        ),
    ],
)
def test_what_a_bucket_answers_instead_is_typed(
    client: Client,
    server: ScriptedServer,
    bucket: ScriptedServer,
    text: bytes,
    error: type[Exception],
) -> None:
    bucket.say(Answer(text))
    with pytest.raises(error):
        got(client, server, summary(bucket))


@pytest.mark.parametrize(
    "answer", [Answer(b"{}", status=403), Answer(b"{}", cut_body=True), Answer(hang_up=True)]
)
def test_a_bucket_that_does_not_answer_can_be_asked_again(
    client: Client, server: ScriptedServer, bucket: ScriptedServer, answer: Answer
) -> None:
    bucket.say(answer)
    with pytest.raises(APIConnectionError) as caught:
        got(client, server, summary(bucket))
    assert "Signature" not in str(caught.value)


def test_no_more_is_read_than_a_result_can_have(
    client: Client, server: ScriptedServer, bucket: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_result, "MAX_RESULT_BYTES", 1000)
    bucket.say(Answer(b" " * 1001))
    with pytest.raises(APIConnectionError, match="more than 1000 bytes"):
        got(client, server, summary(bucket))


# MOTChallenge


def test_mot_text_is_by_frame_and_id_from_frame_one() -> None:
    assert tracks_to_mot(RESULT) == MOT
    assert tracks_to_mot(reversed(RESULT.tracks)) == MOT
    assert tracks_to_mot(RESULT.packed()) == MOT
    assert tracks_to_mot([]) == ""


def test_mot_text_goes_into_a_file(tmp_path: Path) -> None:
    for path in (tmp_path / "a.txt", str(tmp_path / "b.txt")):
        assert tracks_to_mot(RESULT, path) == MOT
        assert Path(path).read_bytes() == MOT.encode()


def test_mot_text_may_be_of_some_classes() -> None:
    people = "".join(line for line in MOT.splitlines(keepends=True) if line.split(",")[1] != "2")
    assert tracks_to_mot(RESULT, classes=["person"]) == people
    assert tracks_to_mot(RESULT, classes={"person", "sports ball"}) == MOT
    assert tracks_to_mot(RESULT, classes=[]) == ""


def test_a_published_ground_truth_comes_back_as_it_was(media: Path) -> None:
    """SportsMOT's own files are MOTChallenge text with whole pixels."""
    with tarfile.open(media / "crop" / "sportsmot_train_gt.tar.xz") as archive:
        name = next(name for name in archive.getnames() if name.endswith("gt.txt"))
        file = archive.extractfile(name)
        assert file is not None
        rows = [
            [int(cell) for cell in row[:6]] for row in csv.reader(file.read().decode().splitlines())
        ]
    boxes: dict[int, list[tuple[int, float, float, float, float, float]]] = defaultdict(list)
    for frame, player, left, top, width, height in sorted(rows):
        boxes[player].append((frame - 1, left, top, left + width, top + height, 1.0))
    result = RESULT.model_copy(
        update={"tracks": [track(player, "person", *of) for player, of in boxes.items()]}
    )
    text = tracks_to_mot(TrackResult.model_validate(json.loads(result.packed().model_dump_json())))
    found = [[float(cell) for cell in row] for row in csv.reader(text.splitlines())]
    assert [row[:6] for row in found] == sorted(rows)
    assert {tuple(row[6:]) for row in found} == {(1.0, -1.0, -1.0, -1.0)}
