"""Bedrock's Converse and ConverseStream, and the stream of Amazon's Nova models, which has the same events.

An event is an object with one member, named after its type. Sources:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html and, for the shape that the
events add up to, https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Iterable
from typing import Any, Final

from otel_wirecap.llm.dialects.deltas import DeltaObject
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.text import json_or_text
from otel_wirecap.llm.usage import Usage, usage_in

_EVENTS: Final = frozenset({"contentBlockDelta", "contentBlockStart", "messageStart", "messageStop"})
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
        self._blocks: dict[int, _ConverseBlock] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
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
        """See ``MessageAssembly.message``."""
        if self._role is None and not self._blocks and not self._answer:
            return None
        content = [self._blocks[index].value() for index in sorted(self._blocks)]
        message = {"role": self._role or "assistant", "content": content}
        return {"output": {"message": message}, **self._answer}

    def _block(self, event: Json) -> "_ConverseBlock":
        index = event.get(_INDEX)
        index = index if isinstance(index, int) else 0
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = _ConverseBlock()
            self.size += _MEMBER
        return block


class _ConverseBlock:
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


class _Bedrock(Dialect):
    name = "bedrock"
    paths = ((r"/converse(?:-stream)?$", "chat"),)
    model_paths = (
        # Gateways put a name of theirs in front, our proxy /to/NAME.
        r"^(?:/to/[^/]+)?(?:/[^/]+)?/model/(.+)/(?:invoke|invoke-with-response-stream|invoke-with-bidirectional-stream"
        r"|converse|converse-stream|count-tokens)$",
    )
    stream_paths = (r"^/model/.+/(?:converse-stream|invoke-with-response-stream|invoke-with-bidirectional-stream)$",)
    parameter_members = ("inferenceConfig",)
    top_p_members = ("topP",)
    max_tokens_members = ("maxTokens",)
    system_members = ("system",)
    turn_members = ("messages",)
    cache_order = ("toolConfig", "system", "messages")
    finish_members = ("stopReason",)
    end_marks = (("messageStop", ()),)
    structure = ("stopReason",)
    index_members = ("contentBlockIndex",)
    label_members = ("stopReason", "toolUseId")

    def is_conversation(self, path: str, body: Json) -> bool:
        return isinstance(body.get("messages"), list) and (
            "inferenceConfig" in body or "toolConfig" in body or path.endswith(("/converse", "/converse-stream"))
        )

    def is_answer(self, body: Json) -> bool:
        output = body.get("output")
        return isinstance(output, dict) and "message" in output

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        return ((answer["output"].get("message"), answer.get("stopReason")),)

    def usage(self, answer: Json) -> Usage | None:
        return usage_in(answer.get("usage"), answer)

    def assembly(self, event: Json) -> MessageAssembly | None:
        if not _EVENTS.isdisjoint(event):
            return BedrockConverse()
        return WholeAnswer() if self.is_answer(event) and isinstance(event["output"]["message"], dict) else None


DIALECT: Final = _Bedrock()
