"""llama.cpp's own completion, beside those of OpenAI that its server has, too.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.text_chunks import TextChunks
from otel_wirecap.llm.usage import Usage, usage_in


class _LlamaCpp(Dialect):
    name = "llama.cpp"
    end_marks = (("stop", (True,)),)

    def usage(self, answer: Json) -> Usage | None:
        return usage_in(answer) if "tokens_predicted" in answer else None

    def assembly(self, event: Json) -> MessageAssembly | None:
        return TextChunks() if isinstance(event.get("content"), str) and "stop" in event else None


DIALECT: Final = _LlamaCpp()
