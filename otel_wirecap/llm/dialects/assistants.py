"""Runs of OpenAI's Assistants: only how their streams end.

Source: https://platform.openai.com/docs/api-reference/assistants-streaming/events
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect

_RUN_ENDS: Final = tuple(
    f"thread.run.{status}"
    for status in ("cancelled", "completed", "expired", "failed", "incomplete", "requires_action")
)


class _Assistants(Dialect):
    name = "assistants"
    end_marks = (("type", _RUN_ENDS),)


DIALECT: Final = _Assistants()
