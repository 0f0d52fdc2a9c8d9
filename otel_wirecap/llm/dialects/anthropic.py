"""Anthropic's Messages, and those of the same models at Bedrock and Vertex.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.text import GrowingText, json_or_text, keep_newest
from otel_wirecap.llm.usage import Usage, added, usage_in

_BLOCK_TYPES: Final = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
    "compaction_delta": "compaction",
}
"""The type of a block whose start was not seen, by its first delta."""

_MEMBER: Final = 64  # about what a member or a block takes beside its value


class AnthropicMessages:
    """Adds message and content block events up to a message.

    Gateways send several messages in one stream, whose blocks are numbered anew: a block that starts is another one.
    """

    __slots__ = ("_blocks", "_message", "_newest", "_usage", "_usage_before", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._message: Json = {}
        self._usage: Json = {}
        self._usage_before: Json = {}  # that of the messages before the last
        self._blocks: list[_ContentBlock] = []
        self._newest: dict[int, _ContentBlock] = {}  # the last one of each index

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = event.get("delta")
            if type(delta) is dict:
                self._add_delta(_index(event), delta, size)
        elif kind == "content_block_start":
            block = event.get("content_block")
            if isinstance(block, dict):
                self._add_block(_index(event), block)
                self.size += size
        elif kind == "message_start":
            self._start(event.get("message"), size)
        elif kind in ("message_delta", "message_stop"):  # a tuple: whatever the type is, it need not hash
            self._add_end(event, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._message and not self._blocks and not self._usage:
            return None
        message = {"type": "message", "role": "assistant", **self._message}
        if self._blocks:
            message["content"] = [block.value() for block in self._blocks]
        else:
            message.setdefault("content", [])
        if self._usage or self._usage_before:
            message["usage"] = added(self._usage_before, self._usage)
        return message

    def _add_block(self, index: int, start: Json) -> _ContentBlock:
        block = self._newest[index] = _ContentBlock(start)
        self._blocks.append(block)
        return block

    def _start(self, message: object, size: int) -> None:
        if not isinstance(message, dict):
            return
        self.size += size
        usage = message.get("usage")
        if message.get("id") != self._message.get("id"):
            self._usage_before, self._usage = added(self._usage_before, self._usage), {}
        self._message = message | self._message
        if isinstance(usage, dict):
            self._usage = dict(usage)
        model = message.get("model")
        if isinstance(model, str) and model and self.model is None:
            self.model = model

    def _add_delta(self, index: int, delta: Json, size: int) -> None:
        block = self._newest.get(index)
        if block is None:
            kind = delta.get("type")
            start = {"type": _BLOCK_TYPES.get(kind, kind) if isinstance(kind, str) else None}
            block = self._add_block(index, start)
            self.size += _MEMBER
        self.size += block.add(delta, size)

    def _add_end(self, event: Json, size: int) -> None:
        """Takes what is known at the end: why it stopped, and the usage."""
        self.size += size
        for key, value in event.items():
            if key == "delta" and isinstance(value, dict):
                for name, piece in value.items():
                    keep_newest(self._message, name, piece)
            elif key == "usage" and isinstance(value, dict):
                # The counts are cumulative; null is what the answer's start has already told.
                self._usage.update((k, v) for k, v in value.items() if v is not None or k not in self._usage)
            elif key not in {"type", "delta", "usage"}:
                self._message[key] = value


class _ContentBlock:
    """One content block: as it started, with what its deltas add."""

    __slots__ = ("_start", "_texts", "_values")

    def __init__(self, start: Json) -> None:
        self._start = start
        self._texts: dict[str, GrowingText] = {}
        self._values: Json = {}

    def add(self, delta: Json, size: int) -> int:
        """Takes a delta of this block; returns about by how much this grew."""
        grown = 0
        texts = self._texts
        for key, piece in delta.items():
            text = texts.get(key)
            if text is not None and type(piece) is str:
                text.write(piece)
                grown += len(piece)
            elif key != "type" and piece is not None:
                grown += self._add_member(key, piece, size)
        return grown

    def value(self) -> Json:
        """The block as a non-streaming answer has it."""
        block = self._start | self._values
        for key, text in self._texts.items():
            joined = text.getvalue()
            if key != "partial_json":
                block[key] = joined
            elif joined:
                block["input"] = json_or_text(joined)
        return block

    def _add_member(self, key: str, piece: Any, size: int) -> int:
        """Takes a piece of a member that is new, or is not text."""
        if key == "citation":
            citations = self._values.get("citations")
            if citations is None:
                started = self._start.get("citations")
                citations = self._values["citations"] = list(started) if isinstance(started, list) else []
            citations.append(piece)
            return size
        if isinstance(piece, str) and key != "signature":  # which comes whole
            started = self._start.get(key)
            self._texts[key] = GrowingText(started if isinstance(started, str) else "")
            self._texts[key].write(piece)
            return _MEMBER + len(piece)
        known = key in self._values
        self._values[key] = piece
        return 0 if known else size


def _index(event: Json) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


class _Anthropic(Dialect):
    name = "anthropic"
    event_types = ("message_", "content_block_")
    paths = ((r"/v1/messages$|(?::|%3A)(?:streamRawPredict|rawPredict)$", "chat"),)
    stream_paths = (r"(?::|%3A)(?:streamRawPredict|serverStreamingPredict)$",)
    system_members = ("system",)
    turn_members = ("messages",)
    cache_order = ("tools", "system", "messages")
    model_holders = ("message",)
    finish_members = ("stop_reason",)
    end_marks = (("type", ("message_stop",)),)
    structure = ("anthropic_beta", "anthropic_version", "betas", "stop_reason")
    label_members = ("stop_reason", "tool_use_id")

    def is_conversation(self, path: str, body: Json) -> bool:
        return isinstance(body.get("messages"), list) and (
            path.rstrip("/").endswith(("/messages", "/messages/count_tokens"))
            or "anthropic_version" in body
            or "system" in body
            or any("input_schema" in tool for tool in objects_in(body.get("tools")))
        )

    def is_answer(self, body: Json) -> bool:
        return body.get("type") == "message" and isinstance(body.get("content"), list)

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        return ((answer, answer.get("stop_reason")),)

    def usage(self, answer: Json) -> Usage | None:
        message = answer.get("message")
        holder = message if isinstance(message, dict) and "usage" not in answer else answer
        return usage_in(holder.get("usage"), holder)

    def assembly(self, event: Json) -> MessageAssembly | None:
        kind = event.get("type")
        if isinstance(kind, str) and kind.startswith(("message_", "content_block_")):
            return AnthropicMessages()
        return WholeAnswer() if self.is_answer(event) else None


DIALECT: Final = _Anthropic()
