"""Formats of which only the ends of streams are known: their events are not added up to messages.

Sources: https://huggingface.github.io/text-generation-inference/ (``generate_stream``),
https://platform.openai.com/docs/api-reference/assistants-streaming/events,
https://replicate.com/docs/topics/predictions/streaming
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect

_RUN_ENDS: Final = tuple(
    f"thread.run.{status}"
    for status in ("cancelled", "completed", "expired", "failed", "incomplete", "requires_action")
)


class _Unassembled(Dialect):
    name = "unassembled"
    end_marks = (("generated_text", ()), ("type", (*_RUN_ENDS, "done")))


DIALECT: Final = _Unassembled()
