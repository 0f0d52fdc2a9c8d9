"""The opening of a conversation: its system prompt and its first user message.

The turns of one conversation repeat both and add to the end, so the opening is what they have in common.
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Opening
from otel_wirecap.llm.dialects.outside import outside
from otel_wirecap.llm.dialects.registry import ours

_OUR_MEMBERS: Final = frozenset(ours.turn_members + ours.prompt_members)


def opening_of(body: object) -> Opening | None:
    """Reads the opening out of a request's body.

    Args:
        body: the parsed JSON body of a request in any dialect.

    Returns:
        The opening, or None when the body holds no user's words.
    """
    opening = _read(body)
    return opening if opening.user else None


def system_prompt(body: object) -> str | None:
    """The system prompt of a request's body, at most 65,536 characters; None where it has none."""
    return _read(body).system or None


def _read(body: object) -> Opening:
    if not isinstance(body, dict):
        return Opening("", "")
    opening = ours.opening(body)
    if opening.user or not body or not _OUR_MEMBERS.isdisjoint(body):
        return opening
    return next((found for one in outside.all() if (found := one.opening(body)).user), opening)
