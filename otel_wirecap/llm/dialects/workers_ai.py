"""Cloudflare's Workers AI: text generation.

Source: https://developers.cloudflare.com/workers-ai/models/
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.text_chunks import TextChunks


class _WorkersAI(Dialect):
    name = "workers-ai"
    end_marks = (("", ("[DONE]",)),)  # which is no member of an event

    def assembly(self, event: Json) -> MessageAssembly | None:
        return TextChunks() if isinstance(event.get("response"), str) else None


DIALECT: Final = _WorkersAI()
