"""Cloudflare's Workers AI: text generation.

Source: https://developers.cloudflare.com/workers-ai/models/
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.text_chunks import TextChunks
from otel_wirecap.llm.usage import Usage, usage_in


class _WorkersAI(Dialect):
    name = "workers-ai"
    end_marks = (("", ("[DONE]",)),)  # which is no member of an event

    def usage(self, answer: Json) -> Usage | None:
        result = answer.get("result")  # of an answer that is not streamed
        return usage_in(result.get("usage")) if isinstance(result, dict) else None

    def assembly(self, event: Json) -> MessageAssembly | None:
        return TextChunks() if isinstance(event.get("response"), str) else None


DIALECT: Final = _WorkersAI()
