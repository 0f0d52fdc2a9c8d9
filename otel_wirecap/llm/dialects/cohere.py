"""Cohere's chat, second version of its interface.

Source: https://docs.cohere.com/v2/docs/streaming
"""

from typing import Any, Final

from otel_wirecap.llm.dialects.deltas import DeltaObject
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.text import GrowingText
from otel_wirecap.llm.usage import Usage, billed_units, usage_in

_EVENTS: Final = frozenset(
    {
        "citation-start",
        "content-delta",
        "content-start",
        "message-end",
        "message-start",
        "tool-call-delta",
        "tool-call-start",
        "tool-plan-delta",
    }
)
"""The types of the events that say something."""

_LISTS: Final = ("content", "tool_calls", "citations")
"""The lists of a message, by the order in which the documentation has them; an event brings one element's piece."""

_MEMBER: Final = 64  # about what an element takes beside its value


class CohereChat:
    """Adds the events up to an answer of the chat endpoint."""

    __slots__ = ("_answer", "_lists", "_logprobs", "_message", "_plan", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None  # which no event names
        self.size = 0
        self._answer: Json = {}
        self._message: Json = {}
        self._plan: GrowingText | None = None
        self._lists: dict[str, dict[int, DeltaObject]] = {name: {} for name in _LISTS}
        self._logprobs: list[Any] = []

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        kind = event.get("type")
        delta = event.get("delta")
        if kind == "message-end":
            if isinstance(delta, dict):
                self._answer.update((k, v) for k, v in delta.items() if k != "error" and v is not None)
                self.size += size
            return
        if kind == "message-start" and isinstance(event.get("id"), str):
            self._answer["id"] = event["id"]
        logprobs = event.get("logprobs")
        if logprobs is not None:
            self._logprobs.append(logprobs)
            self.size += size
        message = delta.get("message") if isinstance(delta, dict) else None
        if isinstance(message, dict):
            index = event.get("index")
            for key, value in message.items():
                self._add_member(key, value, index if isinstance(index, int) else 0, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._answer and not self._message and self._plan is None and not any(self._lists.values()):
            return None
        message = {"role": "assistant", **self._message}
        if self._plan is not None:
            message["tool_plan"] = self._plan.getvalue()
        for name, elements in self._lists.items():
            if elements:
                message[name] = [elements[index].value() for index in sorted(elements)]
        answer = {**self._answer, "message": message}
        if self._logprobs:
            answer["logprobs"] = list(self._logprobs)
        return answer

    def _add_member(self, key: str, value: Any, index: int, size: int) -> None:
        elements = self._lists.get(key)
        if elements is not None:
            for piece in value if isinstance(value, list) else [value]:
                if isinstance(piece, dict):
                    element = elements.get(index)
                    if element is None:
                        element = elements[index] = DeltaObject()
                        self.size += _MEMBER
                    self.size += element.add(piece, size)
        elif key == "tool_plan":
            if isinstance(value, str) and value:
                if self._plan is None:
                    self._plan = GrowingText()
                self._plan.write(value)
                self.size += len(value)
        elif value is not None:
            self._message[key] = value
            self.size += _MEMBER


def cohere_usage(answer: Json, name: str) -> Usage | None:
    """The counts in a member of an answer, in which the two versions of the interface differ."""
    usage = answer.get(name)
    if not isinstance(usage, dict):
        return None
    billed = usage.get("billed_units")
    for counts in (usage.get("tokens"), billed):
        if isinstance(counts, dict) and (found := usage_in({**counts, "cached_tokens": usage.get("cached_tokens")})):
            return billed_units(found, billed)
    return None


class _Cohere(Dialect):
    name = "cohere"
    event_types = ("message-", "content-", "tool-", "citation-")
    paths = ((r"/v2/chat$", "chat"), (r"/v[12]/embed$", "embeddings"))
    top_p_members = ("p",)
    turn_members = ("messages",)
    finish_members = ("finish_reason",)
    end_marks = (("type", ("message-end",)),)
    structure = ("input_type", "truncate")

    def usage(self, answer: Json) -> Usage | None:
        return cohere_usage(answer, "usage")

    def assembly(self, event: Json) -> MessageAssembly | None:
        kind = event.get("type")
        if isinstance(kind, str) and kind in _EVENTS:
            return CohereChat()
        return WholeAnswer() if isinstance(event.get("message"), dict) and "finish_reason" in event else None

    def error_in(self, name: str, event: Json) -> object:
        delta = event.get("delta") if event.get("type") == "message-end" else None
        return (error_in(name, delta) if isinstance(delta, dict) else None) or error_in(name, event)


DIALECT: Final = _Cohere()
