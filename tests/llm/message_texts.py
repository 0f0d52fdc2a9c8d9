"""The texts of an assembled message, wherever they stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TEXTS = frozenset({"arguments", "content", "partial_json", "reasoning", "reasoning_content", "text", "thinking"})


def texts_of(value: Any, name: str = "") -> Iterator[str]:
    """What was said, thought, or handed to tools."""
    if isinstance(value, dict):
        for inner_name, inner in value.items():
            yield from texts_of(inner, inner_name)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner, name)
    elif isinstance(value, str) and name in TEXTS:
        yield value


def begin_as(part: Any, whole: Any) -> bool:
    """Whether each text of a part of a stream is the beginning of one of the whole stream's."""
    full = list(texts_of(whole))
    return all(any(text.startswith(begun) for text in full) for begun in texts_of(part))
