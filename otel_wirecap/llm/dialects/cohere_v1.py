"""Cohere's chat, first version of its interface; streamed, JSON objects on a line each.

A stream's last event brings the whole answer; until then it is put together from the pieces.

Source: https://docs.cohere.com/v1/docs/streaming
"""

from typing import Any, Final

from otel_wirecap.llm.dialects.cohere import cohere_usage
from otel_wirecap.llm.dialects.deltas import DeltaObject
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.text import GrowingText, json_or_text
from otel_wirecap.llm.usage import Usage

_TEXTS: Final = ("text-generation", "tool-calls-chunk")
_LISTS: Final = frozenset({"citations", "documents", "search_queries", "search_results", "tool_calls"})
_NOT_KEPT: Final = frozenset({"event_type", "is_finished", "prompt", "response", "text", "tool_call_delta"})
_MEMBER: Final = 64  # about what a member takes beside its value


class CohereChatV1:
    """Adds the events up to an answer of the chat endpoint."""

    __slots__ = ("_answer", "_calls", "_final", "_text", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None  # which no event names
        self.size = 0
        self._answer: Json = {}
        self._final: Json = {}
        self._text: GrowingText | None = None
        self._calls: dict[int, DeltaObject] = {}

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        kind = event.get("event_type")
        text = event.get("text")
        if kind in _TEXTS and isinstance(text, str):
            if self._text is None:
                self._text = GrowingText()
            self._text.write(text)
            self.size += len(text)
        call = event.get("tool_call_delta")
        if isinstance(call, dict):
            self._add_call(call, size)
        response = event.get("response")
        if isinstance(response, dict):
            self._final = response
            self.size += size
        for key, value in event.items():
            if key not in _NOT_KEPT and value is not None:
                self._add_member(key, value, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if self._text is None and not self._answer and not self._calls and not self._final:
            return None
        answer: Json = {"text": "" if self._text is None else self._text.getvalue(), **self._answer}
        if self._calls and "tool_calls" not in answer:
            answer["tool_calls"] = [_call(self._calls[index].value()) for index in sorted(self._calls)]
        return {**answer, **self._final}

    def _add_call(self, piece: Json, size: int) -> None:
        index = piece.get("index")
        index = index if isinstance(index, int) else 0
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = DeltaObject()
            self.size += _MEMBER
        self.size += call.add(piece, size)

    def _add_member(self, key: str, value: Any, size: int) -> None:
        known = self._answer.get(key)
        if key in _LISTS and isinstance(known, list) and isinstance(value, list):
            known.extend(value)
        else:
            self._answer[key] = list(value) if isinstance(value, list) else value
        self.size += size if isinstance(value, list | dict) else _MEMBER


def _call(call: Json) -> Json:
    """A tool call as an answer has it, of what its pieces add up to."""
    parameters = call.get("parameters")
    if isinstance(parameters, str):
        call["parameters"] = json_or_text(parameters)
    call.pop("index", None)
    return call


class _CohereV1(Dialect):
    name = "cohere-v1"
    paths = ((r"/v1/chat$", "chat"),)
    top_p_members = ("p",)
    system_members = ("preamble",)
    turn_members = ("chat_history",)
    prompt_members = ("message",)
    id_members = ("response_id",)
    finish_members = ("finish_reason",)
    end_marks = (("event_type", ("stream-end",)), ("is_finished", (True,)))
    structure = ("event_type",)
    label_members = ("response_id",)

    def usage(self, answer: Json) -> Usage | None:
        return cohere_usage(answer, "meta")

    def assembly(self, event: Json) -> MessageAssembly | None:
        if isinstance(event.get("event_type"), str) and "is_finished" in event:
            return CohereChatV1()
        return WholeAnswer() if isinstance(event.get("text"), str) and "generation_id" in event else None


DIALECT: Final = _CohereV1()
