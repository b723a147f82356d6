"""What a result costs to refuse: anybody may store one at a presigned URL, a thousand times smaller
than it unpacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from gpu_worker_client.protocol import TASKS
from gpu_worker_client.protocol.base import ResponseModel


def _replies(kind: type[ResponseModel]) -> Iterator[type[ResponseModel]]:
    yield kind
    for lower in kind.__subclasses__():
        yield from _replies(lower)


_LISTS = sorted(
    {
        (kind, name)
        for task in TASKS.values()
        for kind in (task.result, *_replies(ResponseModel))
        for name, field in kind.model_fields.items()
        if "list[" in str(field.annotation)
    },
    key=str,
)


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(*one, id=f"{one[0].__name__}.{one[1]}") for one in _LISTS]
)
def test_the_first_element_that_does_not_fit_ends_a_list(
    kind: type[ResponseModel], name: str
) -> None:
    wrong: Any = {name: [object()] * 1000}
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(wrong)
    elements = {
        error["loc"][1]
        for error in caught.value.errors()
        if error["loc"][0] == name and len(error["loc"]) > 1
    }
    assert elements in ({0}, set()), "one element, or the list as a whole"


def test_there_are_lists() -> None:
    assert len(_LISTS) > 20
