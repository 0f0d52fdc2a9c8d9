"""OpenAI's text completions, whose chunks are read with those of its chat, and Anthropic's old ones.

Source: https://platform.openai.com/docs/api-reference/completions
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.text_chunks import TextChunks


class _TextCompletions(Dialect):
    name = "text-completions"
    paths = ((r"/completions$|/v1/complete$", "text_completion"),)
    max_tokens_members = ("max_tokens", "max_tokens_to_sample")
    prompt_members = ("prompt",)
    end_marks = (("stop_reason", ()),)

    def assembly(self, event: Json) -> MessageAssembly | None:
        return TextChunks() if isinstance(event.get("completion"), str) else None


DIALECT: Final = _TextCompletions()
