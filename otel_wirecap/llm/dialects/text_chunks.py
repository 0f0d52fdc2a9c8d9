"""Streams of chunks that have the shape of the answer itself, with the next piece of its text in it.

Ollama's (``message`` of ``/api/chat``, ``response`` of ``/api/generate``), Cloudflare's Workers AI (``response``),
and, on Bedrock without Converse, Llama's (``generation``), Titan's (``outputText``) and old Mistral's (``outputs``);
llama.cpp's own (``content``); Anthropic's old text completions (``completion``).

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Any, Final

from otel_wirecap.llm.dialects.deltas import DeltaObject
from otel_wirecap.llm.dialects.interface import Json
from otel_wirecap.llm.text import GrowingText, keep_newest

_TEXTS: Final = frozenset({"completion", "content", "generation", "outputText", "response", "thinking"})
"""The strings that continue; of other members the newest counts."""

_LISTS: Final = frozenset({"logprobs", "tool_calls"})
"""The lists of which each chunk has the next elements."""

_MEMBER: Final = 64  # about what a member takes beside its value


class TextChunks:
    """Adds the chunks up to an answer."""

    __slots__ = ("_members", "_message", "_outputs", "_texts", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._members: Json = {}
        self._texts: dict[str, GrowingText] = {}
        self._message = DeltaObject()
        self._outputs: dict[int, DeltaObject] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        for key, value in event.items():
            text = self._texts.get(key)
            if text is not None and type(value) is str:
                text.write(value)
                self.size += len(value)
            elif value is not None and key != "error":
                self._add_member(key, value, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._members:
            return None
        answer = dict(self._members)
        for key, text in self._texts.items():
            answer[key] = text.getvalue()
        if "message" in answer:
            answer["message"] = self._message.value()
        if self._outputs:
            answer["outputs"] = [self._outputs[index].value() for index in sorted(self._outputs)]
        return answer

    def _add_member(self, key: str, value: Any, size: int) -> None:
        known = self._members.get(key)
        if key in _TEXTS and isinstance(value, str):
            self._texts[key] = GrowingText(value)
            self._members[key] = None  # its place among the members
            self.size += _MEMBER + len(value)
        elif key == "message" and isinstance(value, dict):
            self._members[key] = None
            self.size += self._message.add(value, size)
        elif key == "outputs" and isinstance(value, list):
            self._members[key] = None
            self._add_outputs(value, size)
        elif key in _LISTS and isinstance(value, list):
            if isinstance(known, list):
                known.extend(value)
            else:
                self._members[key] = list(value)
            self.size += size
        else:
            if known is None:
                self.size += size if isinstance(value, list | dict) else _MEMBER
            keep_newest(self._members, key, value)
            if key == "model" and isinstance(value, str) and self.model is None:
                self.model = value or None

    def _add_outputs(self, outputs: list[Any], size: int) -> None:
        for index, piece in enumerate(outputs):
            if isinstance(piece, dict):
                output = self._outputs.get(index)
                if output is None:
                    output = self._outputs[index] = DeltaObject()
                    self.size += _MEMBER
                self.size += output.add(piece, size)
