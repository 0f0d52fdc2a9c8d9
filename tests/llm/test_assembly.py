import itertools
import json
from typing import Any

import pytest
from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from hypothesis import given, strategies as st
from message_texts import begin_as, texts_of
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm.assembly import StreamAssembly
from otel_wirecap.llm.errors import ProviderError

LIMIT = 1 << 24


SSE = "text/event-stream"


def sse(*events: Any, named: bool = False) -> bytes:
    return b"".join(
        (f"event: {event['type']}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    )


def read(*pieces: bytes, max_bytes: int = LIMIT) -> StreamAssembly:
    parser, assembly = FrameReader(SSE), StreamAssembly(max_bytes=max_bytes)
    for piece in pieces:
        for event in parser.feed(piece):
            assembly.add(event)
    for event in parser.close():
        assembly.add(event)
    return assembly


def assembled(*events: Any) -> Any:
    return read(sse(*events)).message()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **top: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1", "choices": choices}
    return head | top


def deltas(*pieces: dict[str, Any]) -> dict[str, Any]:
    message = assembled(*(chunk(piece) for piece in pieces))["choices"][0]["message"]
    assert isinstance(message, dict)
    return message


CHAT = (
    sse(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"x": 1}],
        },
        chunk({"role": "assistant", "content": "", "refusal": None}, service_tier="auto"),
        chunk({"content": "Grüß "}, obfuscation="abc"),
        chunk({"content": "dich 🙂"}, system_fingerprint="fp", service_tier="default"),
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f"}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
        chunk(
            {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        chunk({}, "tool_calls", usage=None),
        chunk(usage={"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cost": 0.25}),
    )
    + b"data: [DONE]\n\n"
)

MESSAGES = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m-2",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 9, "output_tokens": 1, "service_tier": "standard"},
        },
    },
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "see"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "redacted_thinking", "data": "xyz"},
    },
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "text", "text": "", "citations": []},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Grüß "}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "dich 🙂"}},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {
            "type": "citations_delta",
            "citation": {
                "type": "char_location",
                "cited_text": "G",
                "document_index": 0,
                "document_title": None,
                "file_id": None,
                "start_char_index": 0,
                "end_char_index": 1,
            },
        },
    },
    {
        "type": "content_block_start",
        "index": 3,
        "content_block": {"type": "tool_use", "id": "tu_1", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "input_json_delta", "partial_json": '{"city": "P'},
    },
    {
        "type": "content_block_delta",
        "index": 3,
        "delta": {"type": "input_json_delta", "partial_json": 'aris"}'},
    },
    {"type": "content_block_stop", "index": 3},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"input_tokens": 10, "output_tokens": 25, "server_tool_use": None},
    },
    {"type": "message_stop"},
    named=True,
)

RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 7.0,
    "model": "m-3",
    "status": "in_progress",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "error": None,
    "usage": None,
}
OUTPUT: list[dict[str, Any]] = [
    {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Think."}]},
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Grüß dich 🙂", "annotations": [], "logprobs": []}],
    },
    {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x": 1}'},
]
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 7,
}
RESPONSES_UNFINISHED: list[dict[str, Any]] = [
    {"type": "response.created", "response": RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": {**OUTPUT[0], "summary": []}},
    {
        "type": "response.reasoning_summary_part.added",
        "output_index": 0,
        "summary_index": 0,
        "part": {"type": "summary_text", "text": ""},
    },
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "Thi"},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "nk."},
    {"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "Think."},
    {"type": "response.output_item.done", "output_index": 0, "item": OUTPUT[0]},
    {"type": "response.output_item.added", "output_index": 1, "item": {**OUTPUT[1], "content": []}},
    {
        "type": "response.content_part.added",
        "output_index": 1,
        "content_index": 0,
        "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    },
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Grüß "},
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "dich 🙂"},
    {"type": "response.output_item.added", "output_index": 2, "item": {**OUTPUT[2], "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"x"'},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": ": 1}"},
]
COMPLETED: dict[str, Any] = {**RESPONSE, "status": "completed", "output": OUTPUT, "usage": USAGE}
RESPONSES = sse(*RESPONSES_UNFINISHED, {"type": "response.completed", "response": COMPLETED}, named=True)


def parts(*pieces: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": list(pieces)}, "index": 0, **candidate}],
        "usageMetadata": {"promptTokenCount": 3},
        "modelVersion": "m-4",
        "responseId": "r-1",
    }


GENERATE = sse(
    parts({"text": "Let me ", "thought": True}, groundingMetadata={"webSearchQueries": ["q"]}),
    parts({"text": "see", "thought": True}),
    parts({"text": "Grüß "}),
    parts({"text": "dich 🙂"}, groundingMetadata={}),
    parts({"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"}),
    parts({"text": ""}, finishReason="STOP")
    | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12}},
).replace(b"\n", b"\r\n")

STREAMS = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES, "generate": GENERATE}


def test_chat_chunks_add_up_to_a_chat_completion() -> None:
    assembly = read(CHAT)
    message = assembly.message()
    assert message == {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Grüß dich 🙂",
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
                        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "prompt_filter_results": [{"x": 1}],
        "service_tier": "default",
        "system_fingerprint": "fp",
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cost": 0.25},
    }
    assert assembly.model == "m-1"
    assert assembly.error is None
    assert assembly.message() == message


def test_choices_are_kept_apart_by_their_index() -> None:
    message = assembled(
        chunk(choices=[{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]),
        chunk(choices=[{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]),
    )
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in message["choices"]] == [
        (0, "a", None),
        (1, "bB", "stop"),
    ]


def test_every_string_of_a_delta_grows_and_labels_stay() -> None:
    assert deltas(
        {"role": "assistant", "reasoning_content": "a", "channel": "analysis"},
        {"role": "assistant", "reasoning_content": "b", "channel": "analysis", "refusal": ""},
        {"reasoning": "c", "content": None},
        {"reasoning": "d", "audio": {"id": "au", "data": "QU", "transcript": "h"}},
        {"audio": {"data": "JD", "transcript": "i", "expires_at": 5}},
        {"function_call": {"name": "f", "arguments": "{"}},
        {"function_call": {"arguments": "}"}},
    ) == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "ab",
        "channel": "analysis",
        "refusal": None,
        "reasoning": "cd",
        "audio": {"id": "au", "data": "QUJD", "transcript": "hi", "expires_at": 5},
        "function_call": {"name": "f", "arguments": "{}"},
    }


def test_content_that_comes_as_parts_becomes_parts() -> None:
    def thinking(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    assert deltas(
        {"content": ""},
        {"content": [thinking("Ok")]},
        {"content": [thinking("ay")]},
        {"content": "An"},
        {"content": "swer"},
        {"content": [{"type": "reference", "reference_ids": [1]}]},
        {"content": "."},
    )["content"] == [
        thinking("Okay"),
        {"type": "text", "text": "Answer"},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": "."},
    ]


def test_text_before_the_first_part_is_kept_as_a_part() -> None:
    content = deltas({"content": "So"}, {"content": [{"type": "text", "text": "!"}]})["content"]
    assert content == [{"type": "text", "text": "So!"}]


def test_reasoning_details_merge_by_index_and_type() -> None:
    assert deltas(
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "a", "format": "f"}]},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "b", "format": "f"}]},
        {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "s"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "id": "x", "data": "1"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "index": 0, "id": "y", "data": "2"}]},
    )["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "ab", "format": "f", "signature": "s"},
        {"type": "reasoning.encrypted", "index": 0, "id": "x", "data": "1"},
        {"type": "reasoning.encrypted", "index": 0, "id": "y", "data": "2"},
    ]


def test_a_list_element_that_comes_again_replaces_its_older_form() -> None:
    assert deltas(
        {"executed_tools": [{"index": 0, "type": "search", "arguments": "{}"}]},
        {"executed_tools": [{"index": 0, "type": "search", "arguments": "{}", "output": "found"}]},
        {"annotations": [{"type": "url_citation", "url": "a"}]},
        {"annotations": [{"type": "url_citation", "url": "b"}]},
    ) == {
        "role": "assistant",
        "content": None,
        "executed_tools": [{"index": 0, "type": "search", "arguments": "{}", "output": "found"}],
        "annotations": [{"type": "url_citation", "url": "a"}, {"type": "url_citation", "url": "b"}],
    }


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_parallel_tool_calls_without_indexes_of_their_own_are_kept_apart(index: dict[str, int]) -> None:
    calls = [{**index, "id": i, "type": "function", "function": {"name": "f", "arguments": f'{{"{i}": '}} for i in "ab"]
    more = {**index, "function": {"arguments": "1}"}}
    assert deltas(
        {"tool_calls": [calls[0]]}, {"tool_calls": [more]}, {"tool_calls": [calls[1]]}, {"tool_calls": [more]}
    )["tool_calls"] == [
        {"id": i, "type": "function", "function": {"name": "f", "arguments": f'{{"{i}": 1}}'}} for i in "ab"
    ]


def test_log_probabilities_are_joined() -> None:
    pieces = [{"token": token, "logprob": -1.0, "bytes": None, "top_logprobs": []} for token in "abc"]
    message = assembled(
        chunk(choices=[{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": pieces[:1], "refusal": None}}]),
        chunk(choices=[{"index": 0, "delta": {"content": "bc"}, "logprobs": {"content": pieces[1:], "refusal": None}}]),
        chunk(choices=[{"index": 0, "delta": {}, "logprobs": None}]),
    )
    assert message["choices"][0]["logprobs"] == {"content": pieces, "refusal": None}


def test_usage_is_found_where_providers_put_it() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    groq = assembled(chunk({"content": "a"}, x_groq={"id": "r", "seed": 1}), chunk({}, x_groq={"usage": usage}))
    assert groq["usage"] == usage
    assert groq["x_groq"] == {"id": "r", "seed": 1, "usage": usage}
    moonshot = assembled(chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}]))
    assert moonshot["usage"] == usage


def test_the_last_of_several_usages_counts() -> None:
    message = assembled(chunk({"content": "a"}, usage={"n": 1}), chunk({}, usage={"n": 2}), chunk({}, usage=None))
    assert message["usage"] == {"n": 2}


def test_text_completions_keep_their_own_shape() -> None:
    head = {"id": "t", "object": "text_completion", "created": 1, "model": "m"}
    message = assembled(
        {**head, "choices": [{"index": 0, "text": "a", "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]},
    )
    assert message["object"] == "text_completion"
    assert message["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}]


def test_message_events_add_up_to_a_message() -> None:
    assembly = read(MESSAGES)
    message = assembly.message()
    assert message is not None
    assert message["content"] == [
        {"type": "thinking", "thinking": "Let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        {
            "type": "text",
            "text": "Grüß dich 🙂",
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "G",
                    "document_index": 0,
                    "document_title": None,
                    "file_id": None,
                    "start_char_index": 0,
                    "end_char_index": 1,
                }
            ],
        },
        {"type": "tool_use", "id": "tu_1", "name": "f", "input": {"city": "Paris"}},
    ]
    assert message["usage"] == {
        "input_tokens": 10,
        "output_tokens": 25,
        "service_tier": "standard",
        "server_tool_use": None,
    }
    assert (message["id"], message["stop_reason"], message["stop_sequence"]) == ("msg_1", "tool_use", None)
    assert assembly.model == "m-2"
    assert assembly.message() == message


def test_tool_input_that_was_cut_stays_text() -> None:
    place = MESSAGES.index(b'"partial_json": "aris')
    message = read(MESSAGES[: MESSAGES.rindex(b"\n\n", 0, place)]).message()
    assert message is not None
    assert message["content"][3]["input"] == '{"city": "P'


def test_half_a_character_in_a_tool_input_is_replaced() -> None:
    delta = {"type": "input_json_delta", "partial_json": r'{"a": "\ud83d\ude42", "b": "\ud83d"}'}
    message = assembled({"type": "content_block_delta", "index": 0, "delta": delta})
    assert message["content"] == [{"type": "tool_use", "input": {"a": "🙂", "b": "\ufffd"}}]


def test_a_tool_use_without_input_keeps_the_empty_object() -> None:
    start = {"type": "content_block_start", "index": 0}
    message = assembled({**start, "content_block": {"type": "server_tool_use", "id": "x", "name": "f", "input": {}}})
    assert message["content"][0]["input"] == {}


def test_the_final_response_is_the_message() -> None:
    assembly = read(RESPONSES)
    assert assembly.message() == COMPLETED
    assert assembly.model == "m-3"


def test_a_response_that_was_cut_is_put_together_from_its_deltas() -> None:
    assert read(sse(*RESPONSES_UNFINISHED)).message() == {**RESPONSE, "output": OUTPUT}


def test_a_final_response_without_output_gets_the_items_that_came() -> None:
    final = {"type": "response.completed", "response": {**COMPLETED, "output": []}}
    assert assembled(*RESPONSES_UNFINISHED, final) == COMPLETED


def test_annotations_and_whole_texts_of_a_cut_response_are_kept() -> None:
    message = assembled(
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "par"},
        {
            "type": "response.output_text.annotation.added",
            "output_index": 0,
            "content_index": 0,
            "annotation": {"u": 1},
        },
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "partly"},
        {"type": "response.reasoning_text.delta", "output_index": 1, "content_index": 0, "delta": "hm"},
        {"type": "response.custom_tool_call_input.delta", "output_index": 2, "delta": "ls"},
    )
    assert message["output"] == [
        {
            "type": "message",
            "content": [{"type": "output_text", "text": "partly", "annotations": [{"u": 1}]}],
        },
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "custom_tool_call", "input": "ls"},
    ]


def test_generate_events_add_up_to_one_answer() -> None:
    assembly = read(GENERATE)
    message = assembly.message()
    assert message == {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Let me see", "thought": True},
                        {"text": "Grüß dich 🙂"},
                        {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
                    ],
                },
                "index": 0,
                "groundingMetadata": {"webSearchQueries": ["q"]},
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12},
        "modelVersion": "m-4",
        "responseId": "r-1",
    }
    assert assembly.model == "m-4"
    assert assembly.message() == message


def test_a_thought_signature_closes_its_part() -> None:
    message = assembled(parts({"text": "a"}), parts({"text": "", "thoughtSignature": "s"}), parts({"text": "b"}))
    assert message["candidates"][0]["content"]["parts"] == [
        {"text": "a", "thoughtSignature": "s"},
        {"text": "b"},
    ]


def test_a_blocked_prompt_and_log_probabilities_are_kept() -> None:
    assert assembled({"promptFeedback": {"blockReason": "SAFETY"}}) == {"promptFeedback": {"blockReason": "SAFETY"}}
    message = assembled(
        parts({"text": "a"}, logprobsResult={"chosenCandidates": [{"token": "a"}]}),
        parts({"text": "b"}, logprobsResult={"chosenCandidates": [{"token": "b"}]}),
    )
    assert message["candidates"][0]["logprobsResult"] == {"chosenCandidates": [{"token": "a"}, {"token": "b"}]}


def test_an_answer_in_an_envelope_keeps_it() -> None:
    message = assembled(
        {"response": parts({"text": "a"}), "traceId": "t"}, {"response": parts({"text": "b"}), "traceId": "t"}
    )
    assert message["traceId"] == "t"
    assert message["response"]["candidates"][0]["content"]["parts"] == [{"text": "ab"}]


@pytest.mark.parametrize(
    ("stream", "error", "raw"),
    [
        (
            b'event: error\ndata: {"error":{"message":"bad tool","type":"refused","code":"tool_failed"}}\n\n',
            ProviderError("refused", "bad tool", "tool_failed"),
            {"message": "bad tool", "type": "refused", "code": "tool_failed"},
        ),
        (
            b'data: {"type":"error","error":{"type":"overloaded","message":"Overloaded"},"id":"r"}\n\n',
            ProviderError("overloaded", "Overloaded", None),
            {"type": "overloaded", "message": "Overloaded"},
        ),
        (
            b'data: {"type":"error","code":"server_error","message":"oops","param":null}\n\n',
            ProviderError(None, "oops", "server_error"),
            {"type": "error", "code": "server_error", "message": "oops", "param": None},
        ),
        (
            b'data: {"error":{"code":503,"message":"try later","status":"UNAVAILABLE"}}\n\n',
            ProviderError("UNAVAILABLE", "try later", "503"),
            {"code": 503, "message": "try later", "status": "UNAVAILABLE"},
        ),
        (
            b'data: {"object":"error","message":"too long","type":"BadRequestError","code":400}\n\n',
            ProviderError("BadRequestError", "too long", "400"),
            {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
        ),
        (b'data: {"error":"no model"}\n\n', ProviderError(None, "no model", None), "no model"),
        (
            b"event: error\ndata: upstream died\n\n",
            ProviderError(None, "upstream died", None),
            "upstream died",
        ),
    ],
)
def test_an_error_event_is_told_and_stands_in_the_message(stream: bytes, error: ProviderError, raw: object) -> None:
    alone = read(stream)
    assert alone.error == error
    assert alone.message() == {"error": raw}
    after_content = read(sse(chunk({"content": "par"})), stream)
    assert after_content.error == error
    message = after_content.message()
    assert message is not None
    assert message["error"] == raw
    assert message["choices"][0]["message"]["content"] == "par"


def test_a_failed_response_tells_its_error() -> None:
    failed = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "oops"}}
    assembly = read(sse({"type": "response.failed", "response": failed}))
    assert assembly.error == ProviderError(None, "oops", "server_error")
    assert assembly.message() == failed


def test_the_first_error_counts() -> None:
    assembly = read(b'data: {"error":"first"}\n\ndata: {"error":"second"}\n\n')
    assert assembly.error == ProviderError(None, "first", None)


@pytest.mark.parametrize(
    "stream", [b"", b"data: [DONE]\n\n", b"data: hello\n\n", b'data: {"a":1}\n\n', b"data: [1]\n\n"]
)
def test_what_no_format_knows_gives_no_message(stream: bytes) -> None:
    assembly = read(stream)
    assert assembly.message() is None
    assert assembly.error is None
    assert assembly.model is None


def test_a_null_error_is_no_error() -> None:
    assembly = read(sse(chunk({"content": "a"}, error=None)))
    assert assembly.error is None
    message = assembly.message()
    assert message is not None
    assert "error" not in message


def test_a_character_cut_in_two_escapes_is_made_whole() -> None:
    halves = [rb'{"choices":[{"index":0,"delta":{"content":"' + half + rb'"}}]}' for half in (rb"x\ud83d", rb"\ude42y")]
    message = read(*(b"data: " + half + b"\n\n" for half in halves)).message()
    assert message is not None
    assert message["choices"][0]["message"]["content"] == "x🙂y"
    alone = read(b"data: " + halves[0] + b"\n\n").message()
    assert alone is not None
    assert alone["choices"][0]["message"]["content"] == "x\ufffd"


@pytest.mark.parametrize("kind", STREAMS)
def test_an_assembly_over_its_bound_gives_up_but_still_tells_the_error(kind: str) -> None:
    assembly = read(STREAMS[kind], b'data: {"error":"late"}\n\n', max_bytes=20)
    assert assembly.overflowed
    assert assembly.message() is None
    assert assembly.error == ProviderError(None, "late", None)


def test_what_is_collected_is_bounded_and_not_what_passes_by() -> None:
    padded = sse(*(chunk({"content": "x"}, obfuscation="y" * 500) for _ in range(200)))
    assert not read(padded, max_bytes=1000).overflowed
    assert read(padded * 10, max_bytes=1000).overflowed


def test_the_response_at_the_end_replaces_what_was_collected() -> None:
    whole = len(json.dumps(COMPLETED))
    assert read(RESPONSES, max_bytes=2 * whole).message() == COMPLETED


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("chat", ChatCompletion),
        ("messages", Message),
        ("responses", Response),
        ("generate", GenerateContentResponse),
    ],
)
def test_the_message_has_the_shape_that_the_vendor_declares(kind: str, model: Any) -> None:
    message = read(STREAMS[kind]).message()
    seen = model.model_validate(message).model_dump(mode="json", by_alias=True)
    assert set(texts_of(message)) <= set(texts_of(seen))


@pytest.mark.parametrize("kind", STREAMS)
@given(places=st.lists(st.integers(0, 100_000), max_size=20))
def test_cutting_the_bytes_anywhere_gives_the_same_message(kind: str, places: list[int]) -> None:
    stream = STREAMS[kind]
    edges = [0, *sorted(place % len(stream) for place in places), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*pieces).message() == read(stream).message()


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_cut_short_anywhere_gives_what_came(kind: str) -> None:
    stream = STREAMS[kind]
    whole = read(stream).message()
    parts = [read(stream[:end]).message() for end in range(0, len(stream), 7)]
    assert all(begin_as(part, whole) for part in parts)
    lengths = {sum(map(len, texts_of(part))) for part in parts}
    assert len(lengths) > 3, "little by little"


NAMES = [
    "annotation",
    "arguments",
    "candidates",
    "choices",
    "citation",
    "content",
    "content_block",
    "content_index",
    "delta",
    "error",
    "finish_reason",
    "function",
    "id",
    "index",
    "item",
    "logprobs",
    "logprobsResult",
    "message",
    "model",
    "modelVersion",
    "name",
    "object",
    "output",
    "output_index",
    "part",
    "partial_json",
    "parts",
    "reasoning_details",
    "response",
    "text",
    "thoughtSignature",
    "tool_calls",
    "type",
    "usage",
    "x_groq",
]
TYPES = [
    "content_block_delta",
    "content_block_start",
    "error",
    "message_delta",
    "message_start",
    "response.completed",
    "response.content_part.added",
    "response.created",
    "response.failed",
    "response.function_call_arguments.delta",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_summary_part.done",
    "text",
]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "x", *TYPES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
ODD_EVENTS = st.dictionaries(st.sampled_from(NAMES), ODD, max_size=5)


@st.composite
def mangled(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of a real shape, with members here and there replaced by anything."""
    stream = draw(st.sampled_from([CHAT, MESSAGES, RESPONSES, GENERATE]))
    events = [json.loads(data) for _, data, *_ in FrameReader(SSE).feed(stream) if data != b"[DONE]"]
    for event in draw(st.lists(st.sampled_from(events), max_size=4)):
        target: Any = event
        while isinstance(target, dict | list) and target:
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()):
                target[key] = draw(ODD)
                break
            target = target[key]
    return events


@given(st.lists(ODD_EVENTS, max_size=6) | mangled())
def test_events_of_any_shape_are_taken(events: list[dict[str, Any]]) -> None:
    assembly = StreamAssembly(max_bytes=LIMIT)
    for event in events:
        assembly.add(Frame("", json.dumps(event).encode()))
        message = assembly.message()
        assert message is None or json.loads(json.dumps(message)) == message, "it is a JSON document"


@given(st.binary(max_size=40), st.sampled_from(["", "error", "message"]))
def test_data_of_any_bytes_are_taken(data: bytes, name: str) -> None:
    assembly = StreamAssembly(max_bytes=LIMIT)
    assembly.add(Frame(name, data))
    assert (assembly.error is not None) >= (name == "error")


def test_json_nested_beyond_reason_is_taken() -> None:
    deep = "[" * 1000 + "]" * 1000
    for shape in (
        '{"choices":[{"delta":{"content":%s}}]}',
        '{"error":%s}',
        '{"type":"message_start","message":{"x":%s}}',
    ):
        assert read(b"data: " + (shape % deep).encode() + b"\n\n").message()
        # Halves of characters are read by Python's own parser, which goes only so deep.
        assert read(b"data: " + (shape % deep).replace("[]", r'["\ud83d"]').encode() + b"\n\n").message() is None
