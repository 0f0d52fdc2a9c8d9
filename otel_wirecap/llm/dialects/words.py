"""The words of a conversation's turns.

Only the words count: clients move cache markers about between turns and send one text now as a string, now as a list
with one part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

MAX_CHARACTERS: Final = 65536
"""Of a system prompt or a message: enough to tell conversations apart, whatever was pasted into them."""

SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_MAX_DEPTH: Final = 8  # parts nest in tool results; a hostile body must not exhaust the stack
_NOT_WORDS: Final = frozenset({"cache_control", "cachePoint", "type", "role"})


def first_turns(body: dict[str, Any], members: Iterable[str]) -> tuple[list[str], str]:
    """The system messages before the first user message, and that message's words.

    Args:
        body: of a request.
        members: that may hold the list of turns.
    """
    system: list[str] = []
    for key in members:
        turns = body.get(key)
        if not isinstance(turns, list):
            continue
        for turn in turns:
            if not isinstance(turn, dict):
                continue
            role = str(turn.get("role") or "user").lower()
            said = words(turn.get("content") or turn.get("parts") or turn.get("message"))
            if role in SYSTEM_ROLES:
                system.append(said)
            elif role == "user" and said:
                return system, said
    return system, ""


def words(value: object, depth: int = _MAX_DEPTH) -> str:
    """All the words of a value, one text a line."""
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return joined(words(item, depth - 1) for item in value)
    if isinstance(value, dict):
        # Everything in a part may be content (an image's URL or bytes, a file's id) but for the cache markers.
        return joined(words(item, depth - 1) for key, item in value.items() if key not in _NOT_WORDS)
    return ""


def joined(pieces: Iterable[str]) -> str:
    """The pieces that are not empty, each on a line."""
    return "\n".join(filter(None, pieces))
