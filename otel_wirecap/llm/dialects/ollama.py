"""Ollama's own interface: chat, generate, embed. A stream's chunks have the shape of the answer.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.text_chunks import TextChunks
from otel_wirecap.llm.usage import Usage, usage_in


class _Ollama(Dialect):
    name = "ollama"
    paths = ((r"/api/chat$", "chat"), (r"/api/embed$", "embeddings"), (r"/api/generate$", "text_completion"))
    parameter_members = ("options",)
    max_tokens_members = ("num_predict",)
    system_members = ("system",)
    turn_members = ("messages",)
    prompt_members = ("prompt",)
    finish_members = ("done_reason",)
    end_marks = (("done", (True,)),)
    structure = ("done_reason", "keep_alive", "tool_name")

    def usage(self, answer: Json) -> Usage | None:
        if "prompt_eval_count" in answer or "eval_count" in answer:
            return usage_in(answer)
        return None

    def assembly(self, event: Json) -> MessageAssembly | None:
        is_chunk = isinstance(event.get("message"), dict) or isinstance(event.get("response"), str)
        return TextChunks() if is_chunk and "done" in event else None


DIALECT: Final = _Ollama()
