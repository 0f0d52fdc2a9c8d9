"""Holds whatever the hooks put in these tests to what an event is: plain values, which cross as they are."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from typing import Any

import pytest

from otel_wirecap.storage.queue import EventQueue


def exact(value: Any) -> Any:
    """To be compared, types and all."""
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [*map(exact, value)]
    return type(value).__name__, value


@pytest.fixture(autouse=True)
def events_put(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """All events that were put in this process. Each is built-in values of exact types."""
    events: list[tuple[Any, ...]] = []
    odd: list[tuple[Any, ...]] = []
    put = EventQueue.put

    def checked(queue: EventQueue, *event: Any) -> bool:
        events.append(event)
        try:
            is_plain = exact(marshal.loads(marshal.dumps(event))) == exact(event)
        except ValueError:
            is_plain = False
        if not is_plain:
            odd.append(event)
        return put(queue, *event)

    monkeypatch.setattr(EventQueue, "put", checked)
    yield events
    assert not odd
