"""Bedrock's ConverseStream, and the stream of Amazon's Nova models, which has the same events.

An event is an object with one member, named after its type. Sources:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html and, for the shape that the
events add up to, https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from typing import Any, Final

from otel_wirecap.llm.assembly.deltas import DeltaObject
from otel_wirecap.llm.assembly.interface import Json
from otel_wirecap.llm.assembly.text import json_or_text

EVENTS: Final = frozenset({"contentBlockDelta", "contentBlockStart", "messageStart", "messageStop"})
"""The members that are its events' alone."""

_INDEX: Final = "contentBlockIndex"
_PADDING: Final = "p"  # random letters that hide an event's length
_MEMBER: Final = 64  # about what a block takes beside its value


class BedrockConverse:
    """Adds the events up to an answer of Converse."""

    __slots__ = ("_answer", "_blocks", "_role", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None  # which no event names
        self.size = 0
        self._role: object = None
        self._answer: Json = {}
        self._blocks: dict[int, _Block] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``WireFormat.add``."""
        for kind, value in event.items():
            if not isinstance(value, dict):
                continue
            if kind == "contentBlockDelta":
                delta = value.get("delta")
                if isinstance(delta, dict):
                    self.size += self._block(value).add(delta, size)
            elif kind == "contentBlockStart":
                start = value.get("start")
                if isinstance(start, dict):
                    self.size += self._block(value).add(start, size)
            elif kind == "messageStart":
                self._role = value.get("role")
            elif kind in {"messageStop", "metadata"}:
                self._answer.update((k, v) for k, v in value.items() if k != _PADDING and v is not None)
                self.size += size

    def message(self) -> Json | None:
        """See ``WireFormat.message``."""
        if self._role is None and not self._blocks and not self._answer:
            return None
        content = [self._blocks[index].value() for index in sorted(self._blocks)]
        message = {"role": self._role or "assistant", "content": content}
        return {"output": {"message": message}, **self._answer}

    def _block(self, event: Json) -> "_Block":
        index = event.get(_INDEX)
        index = index if isinstance(index, int) else 0
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = _Block()
            self.size += _MEMBER
        return block


class _Block:
    """One content block: what its start and its deltas add up to."""

    __slots__ = ("_citations", "_members")

    def __init__(self) -> None:
        self._members = DeltaObject()
        self._citations: list[Any] = []

    def add(self, delta: Json, size: int) -> int:
        """Takes the start or a delta of this block; returns about by how much this grew."""
        citation = delta.get("citation")
        if citation is None:
            return self._members.add(delta, size)
        self._citations.append(citation)
        return size

    def value(self) -> Json:
        """The block as a non-streaming answer has it."""
        block = self._members.value()
        tool = block.get("toolUse")
        if isinstance(tool, dict):
            text = tool.get("input")
            tool["input"] = json_or_text(text) if isinstance(text, str) and text else {}
        reasoning = block.get("reasoningContent")
        if isinstance(reasoning, dict):
            pieces = {key: reasoning.pop(key) for key in ("text", "signature") if key in reasoning}
            block["reasoningContent"] = {"reasoningText": pieces, **reasoning} if pieces else reasoning
        if self._citations:
            content = [{"text": block.pop("text")}] if "text" in block else []
            block["citationsContent"] = {"content": content, "citations": list(self._citations)}
        return block
