"""The opening of a conversation: its system prompt and its first user message.

The turns of one conversation repeat both and add to the end, so the opening is what they have in common. Only
the words count: clients move cache markers about between turns and send one text now as a string, now as a
list with one part.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from otel_wirecap.llm.dialects.registry import ours

_MAX_CHARACTERS: Final = 65536
"""Characters of each half that are kept: enough to tell conversations apart, whatever was pasted into
them."""

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_MAX_DEPTH: Final = 8  # parts nest in tool results; a hostile body must not exhaust the stack


class Opening(NamedTuple):
    """The words that a conversation begins with; both at most 65,536 characters."""

    system: str
    user: str


def opening_of(body: object) -> Opening | None:
    """Reads the opening out of a request's body.

    Args:
        body: the parsed JSON body of a request to OpenAI (chat, responses, completions), Anthropic, Gemini,
            Cohere (v1, v2), Bedrock Converse, Ollama, or of anything that speaks like one of them.

    Returns:
        The opening, or None when the body holds no user's words.
    """
    if not isinstance(body, dict):
        return None
    system, user = _parts(body)
    return Opening(system, user) if user else None


def system_prompt(body: object) -> str | None:
    """The system prompt of a request's body, at most 65,536 characters; None where it has none."""
    return (_parts(body)[0] or None) if isinstance(body, dict) else None


def _parts(body: dict[str, object]) -> tuple[str, str]:
    system = [_words(body.get(key)) for key in ours.system_members]
    turns, user = _first_turns(body)
    return "\n".join(filter(None, [*system, *turns]))[:_MAX_CHARACTERS], user[:_MAX_CHARACTERS]


def _first_turns(body: dict[str, object]) -> tuple[list[str], str]:
    """The system messages before the first user message, and that message's words."""
    system: list[str] = []
    for key in ours.turn_members:
        turns = body.get(key)
        if not isinstance(turns, list):
            continue
        for turn in turns:
            if not isinstance(turn, dict):
                continue
            role = str(turn.get("role") or "user").lower()
            words = _words(turn.get("content") or turn.get("parts") or turn.get("message"))
            if role in _SYSTEM_ROLES:
                system.append(words)
            elif role == "user" and words:
                return system, words
    for key in ours.prompt_members:
        words = _words(body.get(key))
        if words:
            return system, words
    return system, ""


def _words(value: object, depth: int = _MAX_DEPTH) -> str:
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return _joined(_words(item, depth - 1) for item in value)
    if isinstance(value, dict):
        # Everything in a part may be content (an image's URL or bytes, a file's id) but for the cache
        # markers.
        return _joined(
            _words(item, depth - 1)
            for key, item in value.items()
            if key not in {"cache_control", "cachePoint", "type", "role"}
        )
    return ""


def _joined(pieces: Iterable[str]) -> str:
    return "\n".join(filter(None, pieces))
