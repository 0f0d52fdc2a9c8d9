"""One object for each provider's format, and a registry that asks them."""

from __future__ import annotations

import pkgutil
from typing import Any

from hypothesis import given, strategies as st

from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm import dialects
from otel_wirecap.llm.answers import answer_error, answer_of, answered_model, usage_of
from otel_wirecap.llm.assembly import StreamAssembly
from otel_wirecap.llm.dialects import Dialect, Json, MessageAssembly, Usage
from otel_wirecap.llm.dialects.interface import OPERATIONS
from otel_wirecap.llm.dialects.registry import OURS, Dialects
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.opening import opening_of, system_prompt
from otel_wirecap.llm.prompts import Request, answer_protocol, common_answer, common_requests
from otel_wirecap.llm.requests import asks_for_stream, operation_of, parameters_of, requested_model
from otel_wirecap.reading.cache import prompt_pieces

SHARED = {
    "deltas", "guarded", "interface", "outside", "partial_calls", "registry", "text_chunks", "whole_answer", "words",
}  # fmt: skip
"""Modules of the package that are no format."""


def test_every_module_of_a_format_is_registered_once_under_a_name_of_its_own():
    modules = {one.name for one in pkgutil.iter_modules(dialects.__path__)} - SHARED
    assert {type(one).__module__.rpartition(".")[2] for one in OURS} == modules
    assert len(OURS) == len(modules)
    names = [one.name for one in OURS]
    assert all(names)
    assert len(set(names)) == len(names)


class Parley(Dialect):
    """A format that is not among ours."""

    name = "parley"
    paths = ((r"/parley/talk$", "chat"),)
    prompt_members = ("question",)
    id_members = ("talk",)

    def usage(self, answer: Json) -> Usage | None:
        return Usage(answer["heard"], answer["spoken"]) if "heard" in answer else None

    def assembly(self, event: Json) -> MessageAssembly | None:
        return WholeAnswer() if "talk" in event else None


def test_a_format_needs_nothing_but_its_object_and_its_place_in_the_registry():
    before, after = Dialects(OURS), Dialects((*OURS, Parley()))
    answer = {"talk": "t-1", "heard": 3, "spoken": 4}
    assert before.operation("/parley/talk", {}) is None
    assert after.operation("/parley/talk", {}) == "chat"
    assert before.usage(answer) is None
    assert after.usage(answer) == Usage(3, 4)
    assert after.answer_id(answer) == "t-1"
    assert before.assembly(answer) is None
    assert after.assembly(answer) is not None
    assert after.prompt_members == (*before.prompt_members, "question")


def test_what_a_dialect_does_not_say_is_not_known():
    unknown = Dialect()
    assert unknown.operation("/v1/chat/completions", {}) is None
    assert unknown.usage({"usage": {"prompt_tokens": 1}}) is None
    assert unknown.assembly({"choices": []}) is None
    assert not unknown.is_conversation("/v1/chat/completions", {"messages": []})
    assert not unknown.is_answer({"choices": []})
    assert unknown.finish_reasons({"choices": [{"finish_reason": "stop"}]}) == ()
    assert list(unknown.choices({"choices": [{}]})) == []


WORDS = (
    "messages", "contents", "input", "prompt", "message", "chat_history", "system", "instructions", "role",
    "content", "parts", "text", "type", "id", "model", "choices", "candidates", "results", "finish_reason",
    "finishReason", "stop_reason", "usage", "usageMetadata", "usage_metadata", "meta", "x_groq", "tokens",
    "input_tokens", "prompt_tokens", "inputTokens", "promptTokenCount", "eval_count", "generationConfig",
    "options", "temperature", "top_p", "max_tokens", "response", "output", "outputs", "error", "tools",
    "toolConfig", "tool_choice", "function", "functionDeclarations", "index", "event_type", "is_finished",
    "messageStart", "contentBlockDelta", "incomplete_details", "delta", "functionResponse", "tool_calls",
)  # fmt: skip
VALUES = (
    "user", "system", "message", "message_start", "response.failed", "message-end", "content-delta", "error",
    "function_call", "any",
)  # fmt: skip
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=16,
)
TURN = st.dictionaries(st.sampled_from(["role", "type", "content", "parts", "tool_calls", "message", "text"]), JSON)
BODY = st.dictionaries(
    st.sampled_from(["messages", "contents", "input", "choices", "candidates", "output", "content", "tools", "type"]),
    st.lists(TURN, max_size=2) | JSON,
    max_size=5,
)
PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v2/chat", "/api/chat", "/model/m/invoke",
    "/model/m/converse", "/v1beta/models/m:generateContent", "/v1/models", "",
)  # fmt: skip


@given(JSON | BODY, st.sampled_from(PATHS))
def test_no_question_is_too_much_for_json_of_any_shape(value: Any, path: str) -> None:
    assert operation_of(path, value) in OPERATIONS | {None}
    parameters_of(path, value)
    requested_model(path, value)
    asks_for_stream(path, "", value)
    opening_of(value)
    system_prompt(value)
    answer_of(value)
    usage_of(value)
    answered_model(value)
    answer_error(value)
    prompt_pieces(path, value)
    for other in (Request("/v1/messages", "", {"messages": []}), Request("/v1/responses", "", {"input": []})):
        common_requests(Request(path, "", value), other)
        common_requests(other, Request(path, "", value))
    answer_protocol(value)
    common_answer(value)
    for one in OURS if isinstance(value, dict) else ():
        if one.is_answer(value):
            list(one.choices(value))
        one.error_in("", value)
        one.ends("", value, {})
        assembly = one.assembly(value)
        if assembly is not None:
            assembly.add(value, 1)
            assembly.message()


def test_the_error_of_a_stream_is_read_as_its_dialect_has_it():
    assembly = StreamAssembly(max_bytes=1 << 20)
    assembly.add(Frame("", b'{"type": "message-start", "id": "1"}'))
    assembly.add(Frame("", b'{"type": "message-end", "delta": {"error": "no more"}}'))
    assert assembly.error is not None
    assert assembly.error.message == "no more"


def test_no_dialect_has_its_words_among_what_is_kept_where_prompts_are_masked():
    ours = Dialects(OURS)
    words = {*ours.system_members, *ours.turn_members, *ours.prompt_members, *ours.parameter_members}
    words |= {"text", "content", "parts", "arguments", "args", "completion", "response", "generation", "outputText"}
    assert not words & {*ours.structure, *ours.label_members, *ours.index_members}
