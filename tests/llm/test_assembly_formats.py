"""The formats of Bedrock, Cohere, Ollama and their like; those of OpenAI, Anthropic and Gemini in other framings."""

import itertools
import json
from typing import Any

import pytest
from cohere.types import NonStreamedChatResponse
from cohere.v2.types import V2ChatResponse
from google.genai.types import GenerateContentResponse
from hypothesis import given, strategies as st
from streams import AWS, aws_chunk, aws_event, frame, ndjson, sse

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.llm.answers import usage_of
from otel_wirecap.llm.assembly import StreamAssembly, assemble
from otel_wirecap.llm.errors import ProviderError
from otel_wirecap.llm.usage import Usage

LINES = "application/x-ndjson"


def block(index: int, **delta: Any) -> bytes:
    return aws_event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abc"})


CONVERSE = [
    aws_event("messageStart", {"role": "assistant", "p": "a"}),
    block(0, reasoningContent={"text": "Let me "}),
    block(0, reasoningContent={"text": "see"}),
    block(0, reasoningContent={"signature": "c2ln"}),
    aws_event("contentBlockStop", {"contentBlockIndex": 0}),
    block(1, reasoningContent={"redactedContent": "eHl6"}),
    block(2, text="Grüß "),
    block(2, text="dich 🙂"),
    block(2, citation={"title": "t", "source": "s"}),
    aws_event("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "a", "name": "f"}}}),
    aws_event("contentBlockStart", {"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "b", "name": "g"}}}),
    block(3, toolUse={"input": '{"x"'}),
    block(4, toolUse={"input": ""}),
    block(3, toolUse={"input": ": 1}"}),
    block(5, text="Bye"),
    aws_event("messageStop", {"stopReason": "tool_use", "additionalModelResponseFields": {"k": 1}, "p": "ab"}),
    aws_event(
        "metadata",
        {
            "usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8, "cacheReadInputTokens": 2},
            "metrics": {"latencyMs": 7},
            "p": "abcd",
        },
    ),
]
CONVERSED = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Let me see", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "eHl6"}},
                {
                    "citationsContent": {
                        "content": [{"text": "Grüß dich 🙂"}],
                        "citations": [{"title": "t", "source": "s"}],
                    }
                },
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}},
                {"text": "Bye"},
            ],
        }
    },
    "stopReason": "tool_use",
    "additionalModelResponseFields": {"k": 1},
    "usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8, "cacheReadInputTokens": 2},
    "metrics": {"latencyMs": 7},
}


def test_a_converse_stream_adds_up_to_an_answer_of_converse() -> None:
    assert assemble(AWS, CONVERSE) == CONVERSED
    assert usage_of(CONVERSED) == Usage(7, 3, 2)


def test_a_converse_stream_that_breaks_off_gives_what_came() -> None:
    for count in range(1, len(CONVERSE)):
        message = assemble(AWS, CONVERSE[:count])
        assert message is not None
        assert len(message["output"]["message"]["content"]) <= 6
        assert ("stopReason" in message) == (count > 15)
    cut = assemble(AWS, CONVERSE[:12])
    assert cut is not None
    assert cut["output"]["message"]["content"][3]["toolUse"]["input"] == '{"x"'


def test_novas_events_within_chunks_are_those_of_converse() -> None:
    events = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "!"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}, "metrics": {}, "trace": {}}},
    ]
    assert assemble(AWS, map(aws_chunk, events)) == {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hi!"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2},
        "metrics": {},
        "trace": {},
    }


def test_an_exception_in_a_bedrock_stream_is_told_beside_what_came() -> None:
    headers = {":exception-type": "modelStreamErrorException", ":message-type": "exception"}
    parser, assembly = FrameReader(AWS), StreamAssembly(max_bytes=1 << 20)
    for event in parser.feed(b"".join(CONVERSE[:8]) + frame(headers, b'{"message":"gone","originalStatusCode":500}')):
        assembly.add(event)
    assert assembly.error == ProviderError("modelStreamErrorException", "gone", None)
    message = assembly.message()
    assert message is not None
    assert message["error"] == {"type": "modelStreamErrorException", "message": "gone", "originalStatusCode": 500}
    assert message["output"]["message"]["content"][2] == {"text": "Grüß dich 🙂"}


METRICS = {"inputTokenCount": 4, "outputTokenCount": 2}
INVOKED: dict[str, tuple[list[Any], Any]] = {
    "llama": (
        [
            {"generation": "Hi", "prompt_token_count": 4, "generation_token_count": 1, "stop_reason": None},
            {"generation": "!", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "stop"},
        ],
        {"generation": "Hi!", "prompt_token_count": 4, "generation_token_count": 2, "stop_reason": "stop"},
    ),
    "titan": (
        [
            {"outputText": "Hi", "index": 0, "completionReason": None},
            {"outputText": "!", "index": 0, "completionReason": "FINISH", "amazon-bedrock-invocationMetrics": METRICS},
        ],
        {"outputText": "Hi!", "index": 0, "completionReason": "FINISH", "amazon-bedrock-invocationMetrics": METRICS},
    ),
    "mistral": (
        [{"outputs": [{"text": "Hi", "stop_reason": None}]}, {"outputs": [{"text": "!", "stop_reason": "stop"}]}],
        {"outputs": [{"text": "Hi!", "stop_reason": "stop"}]},
    ),
    "claude": (
        [
            {"type": "message_start", "message": {"id": "m", "model": "c", "role": "assistant", "content": []}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi!"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        ],
        {
            "id": "m",
            "type": "message",
            "model": "c",
            "role": "assistant",
            "content": [{"type": "text", "text": "Hi!"}],
            "stop_reason": "end_turn",
            "usage": {"output_tokens": 2},
        },
    ),
}


@pytest.mark.parametrize("model", INVOKED)
def test_what_a_model_streams_through_invoke_adds_up_in_its_own_shape(model: str) -> None:
    events, answer = INVOKED[model]
    assert assemble(AWS, map(aws_chunk, events)) == answer


def cohere_call(index: int, kind: str, **piece: Any) -> dict[str, Any]:
    return {"type": f"tool-call-{kind}", "index": index, "delta": {"message": {"tool_calls": piece}}}


CITATION = {"start": 0, "end": 4, "text": "Grüß", "sources": [], "type": "TEXT_CONTENT"}
COHERE: list[Any] = [
    {
        "type": "message-start",
        "id": "c-1",
        "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}},
    },
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will "}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "ask."}}},
    cohere_call(0, "start", id="a", type="function", function={"name": "f", "arguments": ""}),
    cohere_call(0, "delta", function={"arguments": '{"x"'}),
    cohere_call(1, "start", id="b", type="function", function={"name": "g", "arguments": "{}"}),
    cohere_call(0, "delta", function={"arguments": ": 1}"}),
    {"type": "tool-call-end", "index": 0},
    {"type": "tool-call-end", "index": 1},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm"}}}},
    {"type": "content-end", "index": 0},
    {"type": "content-start", "index": 1, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {
        "type": "content-delta",
        "index": 1,
        "delta": {"message": {"content": {"text": "Grüß "}}},
        "logprobs": {"token_ids": [1], "text": "Grüß ", "logprobs": [-0.5]},
    },
    {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "dich 🙂"}}}},
    {
        "type": "citation-start",
        "index": 0,
        "delta": {
            "message": {"citations": {"start": 0, "end": 4, "text": "Grüß", "sources": [], "type": "TEXT_CONTENT"}}
        },
    },
    {"type": "citation-end", "index": 0},
    {"type": "content-end", "index": 1},
    {
        "type": "message-end",
        "delta": {
            "finish_reason": "TOOL_CALL",
            "usage": {
                "billed_units": {"input_tokens": 3, "output_tokens": 2},
                "tokens": {"input_tokens": 9, "output_tokens": 2},
            },
        },
    },
]
COHERE_ANSWER = {
    "id": "c-1",
    "finish_reason": "TOOL_CALL",
    "usage": COHERE[-1]["delta"]["usage"],
    "message": {
        "role": "assistant",
        "tool_plan": "I will ask.",
        "content": [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "Grüß dich 🙂"}],
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
        "citations": [CITATION],
    },
    "logprobs": [{"token_ids": [1], "text": "Grüß ", "logprobs": [-0.5]}],
}


def test_cohere_s_events_add_up_to_a_chat_answer() -> None:
    assert assemble("text/event-stream", [sse(*COHERE), b"data: [DONE]\n\n"]) == COHERE_ANSWER
    assert usage_of(COHERE_ANSWER) == Usage(9, 2, billed=(Usage(3, 2),))
    V2ChatResponse.model_validate(COHERE_ANSWER, strict=True)


def test_cohere_s_error_at_the_end_is_told() -> None:
    end = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "overloaded"}}
    message = assemble("text/event-stream", [sse(*COHERE[:3], end)])
    assert message == {
        "id": "c-1",
        "finish_reason": "ERROR",
        "message": {"role": "assistant", "tool_plan": "I will ask."},
        "error": "overloaded",
    }


COHERE_V1: list[Any] = [
    {"is_finished": False, "event_type": "stream-start", "generation_id": "g-1"},
    {
        "is_finished": False,
        "event_type": "search-queries-generation",
        "search_queries": [{"text": "q", "generation_id": "g-1"}],
    },
    {
        "is_finished": False,
        "event_type": "search-results",
        "search_results": [{"connector": {"id": "c"}, "document_ids": ["d"]}],
        "documents": [{"id": "d"}],
    },
    {"is_finished": False, "event_type": "text-generation", "text": "Grüß "},
    {"is_finished": False, "event_type": "text-generation", "text": "dich 🙂"},
    {
        "is_finished": False,
        "event_type": "citation-generation",
        "citations": [{"start": 0, "end": 2, "text": "Gr", "document_ids": ["d"]}],
    },
    {
        "is_finished": False,
        "event_type": "citation-generation",
        "citations": [{"start": 2, "end": 4, "text": "üß", "document_ids": ["d"]}],
    },
    {"is_finished": False, "event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "f"}},
    {"is_finished": False, "event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "parameters": '{"x"'}},
    {"is_finished": False, "event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "parameters": ": 1}"}},
]
COHERE_V1_ANSWER: dict[str, Any] = {
    "text": "Grüß dich 🙂",
    "generation_id": "g-1",
    "search_queries": [{"text": "q", "generation_id": "g-1"}],
    "search_results": [{"connector": {"id": "c"}, "document_ids": ["d"]}],
    "documents": [{"id": "d"}],
    "citations": [
        {"start": 0, "end": 2, "text": "Gr", "document_ids": ["d"]},
        {"start": 2, "end": 4, "text": "üß", "document_ids": ["d"]},
    ],
    "tool_calls": [{"name": "f", "parameters": {"x": 1}}],
}


@pytest.mark.parametrize("framing", [(LINES, ndjson), ("application/stream+json", ndjson), ("text/event-stream", sse)])
def test_cohere_s_first_interface_adds_up_in_any_of_its_framings(framing: Any) -> None:
    content_type, spell = framing
    assert assemble(content_type, [spell(*COHERE_V1)]) == COHERE_V1_ANSWER
    NonStreamedChatResponse.model_validate(COHERE_V1_ANSWER)
    final = {**COHERE_V1_ANSWER, "finish_reason": "COMPLETE", "meta": {"tokens": {"input_tokens": 1}}}
    end = {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": final}
    assert assemble(content_type, [spell(*COHERE_V1, end)]) == final


def ollama(content: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content} | more.pop("message", {})
    return {"model": "llama3", "created_at": "2025-01-01T00:00:00Z", "message": message, "done": False} | more


def test_ollama_s_chat_adds_up_to_its_answer() -> None:
    calls = [{"function": {"name": name, "arguments": {"x": 1}}} for name in "ff"]
    stream = ndjson(
        ollama("", message={"thinking": "Let me "}),
        ollama("", message={"thinking": "see"}),
        ollama("Grüß "),
        ollama("dich 🙂"),
        ollama("", message={"tool_calls": calls[:1]}),
        ollama("", message={"tool_calls": calls[1:]}),
        ollama("", done=True, done_reason="stop", total_duration=9, prompt_eval_count=3, eval_count=4),
    )
    message = assemble(LINES, [stream])
    assert message == {
        "model": "llama3",
        "created_at": "2025-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "Grüß dich 🙂", "thinking": "Let me see", "tool_calls": calls},
        "done": True,
        "done_reason": "stop",
        "total_duration": 9,
        "prompt_eval_count": 3,
        "eval_count": 4,
    }
    assert usage_of(message) == Usage(3, 4)
    whole = ollama("Hi", done=True, done_reason="stop")
    assert assemble("application/json", [json.dumps(whole).encode()]) == whole


def test_ollama_s_error_within_a_stream_is_told() -> None:
    parser, assembly = FrameReader(LINES), StreamAssembly(max_bytes=1 << 20)
    for event in parser.feed(ndjson(ollama("par"), {"error": "llama runner process has terminated"})):
        assembly.add(event)
    assert assembly.error == ProviderError(None, "llama runner process has terminated", None)
    assert assembly.model == "llama3"
    message = assembly.message()
    assert message is not None
    assert message["message"]["content"] == "par"


def test_texts_that_come_in_chunks_of_their_own_shape_add_up() -> None:
    generated = ndjson({"model": "m", "response": "a", "done": False}, {"model": "m", "response": "b", "done": True})
    assert assemble(LINES, [generated]) == {"model": "m", "response": "ab", "done": True}
    workers = sse({"response": "a", "p": "x"}, {"response": "b", "p": "y", "usage": {"n": 1}})
    assert assemble("text/event-stream", [workers]) == {"response": "ab", "p": "y", "usage": {"n": 1}}
    llama_cpp = sse({"content": "a", "stop": False}, {"content": "b", "stop": True, "tokens_evaluated": 2})
    assert assemble(None, [llama_cpp]) == {"content": "ab", "stop": True, "tokens_evaluated": 2}


def test_an_array_of_generate_answers_adds_up_as_the_same_server_sent_events_do() -> None:
    answers = [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}], "modelVersion": "m"}
        for text in ("Grüß ", "dich 🙂")
    ]
    answers[-1] |= {"usageMetadata": {"promptTokenCount": 1}}
    array = json.dumps(answers, indent=2).encode()
    message = assemble("application/json; charset=UTF-8", [array[:50], array[50:]])
    assert message == assemble("text/event-stream", [sse(*answers)])
    assert GenerateContentResponse.model_validate(message).text == "Grüß dich 🙂"
    failed = json.dumps([answers[0], {"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}}], indent=2)
    broken = assemble("application/json", [failed.encode()])
    assert broken is not None
    assert broken["error"]["status"] == "UNAVAILABLE"


WHOLE = {
    "message": {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text"}]},
    "response": {"id": "r", "object": "response", "model": "g", "output": []},
    "converse": CONVERSED,
    "cohere": COHERE_ANSWER,
    "cohere, first version": COHERE_V1_ANSWER,
    "generate": {"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}], "modelVersion": "m"},
    "chat": {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 1},
    },
}


@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_that_came_whole_though_a_stream_was_asked_for_is_the_message(kind: str) -> None:
    assert assemble("application/json", [json.dumps(WHOLE[kind]).encode()]) == WHOLE[kind]


def test_azure_s_first_chunk_without_choices_says_nothing_but_its_filter_results() -> None:
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{"x": 1}]}
    delta = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "gpt"}
    rest = [{**delta, "choices": [{"index": 0, "delta": {"content": text}}]} for text in "ab"]
    message = assemble("text/event-stream", [sse(first, *rest)])
    assert message is not None
    assert (message["id"], message["model"], message["created"]) == ("c", "gpt", 7)
    assert message["prompt_filter_results"] == [{"x": 1}]
    assert message["choices"][0]["message"]["content"] == "ab"


def test_perplexity_s_citations_are_kept_and_its_growing_message_does_not_double_the_text() -> None:
    def chunk(piece: str, so_far: str, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"content": piece}, "message": {"role": "assistant", "content": so_far}}
        return {"id": "p", "model": "sonar", "citations": ["u"], "choices": [choice], **more}

    message = assemble(
        "text/event-stream", [sse(chunk("a", "a"), chunk("b", "ab", search_results=[{"url": "u"}], usage={"n": 1}))]
    )
    assert message is not None
    assert message["choices"][0]["message"]["content"] == "ab"
    assert (message["citations"], message["search_results"], message["usage"]) == (["u"], [{"url": "u"}], {"n": 1})


@pytest.mark.parametrize("stream", [CONVERSE, list(map(aws_chunk, COHERE)), [ndjson(e) for e in COHERE_V1]])
def test_an_assembly_of_any_format_gives_up_over_its_bound(stream: list[bytes]) -> None:
    assembly, parser = StreamAssembly(max_bytes=300), FrameReader(None)
    for event in parser.feed(b"".join(stream * 3)):
        assembly.add(event)
    assert assembly.overflowed
    assert assembly.message() is None


def test_a_message_with_an_event_too_large_to_read_is_none() -> None:
    events = [ollama("a"), ollama("b" * 2000), ollama("c")]
    assert assemble(LINES, [ndjson(*events)], max_bytes=1000) is None
    assert assemble(LINES, [ndjson(*events)]) is not None


def chat_call(index: int, first: bool, piece: str) -> Any:
    head = {"id": f"c{index}", "type": "function"} if first else {}
    function = {"name": f"f{index}", "arguments": piece} if first else {"arguments": piece}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, **head, "function": function}]}}]}


def message_call(index: int, first: bool, piece: str) -> list[Any]:
    start = {"type": "tool_use", "id": f"c{index}", "name": f"f{index}", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": piece}
    return [
        *([{"type": "content_block_start", "index": index, "content_block": start}] if first else []),
        {"type": "content_block_delta", "index": index, "delta": delta},
    ]


def converse_call(index: int, first: bool, piece: str) -> list[Any]:
    start = {"toolUse": {"toolUseId": f"c{index}", "name": f"f{index}"}}
    delta = {"toolUse": {"input": piece}}
    return [
        *([{"contentBlockStart": {"contentBlockIndex": index, "start": start}}] if first else []),
        {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}},
    ]


def response_call(index: int, first: bool, piece: str) -> list[Any]:
    item = {"type": "function_call", "call_id": f"c{index}", "name": f"f{index}", "arguments": ""}
    return [
        *([{"type": "response.output_item.added", "output_index": index, "item": item}] if first else []),
        {"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece},
    ]


CALLS: dict[str, tuple[Any, Any]] = {
    "chat": (
        lambda *call: [chat_call(*call)],
        lambda m: [
            (c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in m["choices"][0]["message"]["tool_calls"]
        ],
    ),
    "messages": (message_call, lambda m: [(c["id"], c["name"], c["input"]) for c in m["content"]]),
    "responses": (
        response_call,
        lambda m: [(c["call_id"], c["name"], json.loads(c["arguments"])) for c in m["output"]],
    ),
    "converse": (
        converse_call,
        lambda m: [
            (c["toolUse"]["toolUseId"], c["toolUse"]["name"], c["toolUse"]["input"])
            for c in m["output"]["message"]["content"]
        ],
    ),
    "cohere": (
        lambda index, first, piece: [
            cohere_call(
                index,
                "start" if first else "delta",
                function={"arguments": piece} | ({"name": f"f{index}"} if first else {}),
                **({"id": f"c{index}", "type": "function"} if first else {}),
            )
        ],
        lambda m: [
            (c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in m["message"]["tool_calls"]
        ],
    ),
}


@pytest.mark.parametrize("kind", CALLS)
@given(data=st.data())
def test_parallel_tool_calls_add_up_however_their_pieces_are_cut_and_interleaved(
    kind: str, data: st.DataObject
) -> None:
    spell, read = CALLS[kind]
    inputs = data.draw(st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=6)), min_size=1, max_size=4))
    waiting = {}
    for index, value in enumerate(inputs):
        text = json.dumps(value, ensure_ascii=False)
        edges = [0, *sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4))), len(text)]
        waiting[index] = [text[a:b] for a, b in itertools.pairwise(edges)]
    events = [event for index, pieces in waiting.items() for event in spell(index, True, pieces.pop(0))]
    while left := [index for index, pieces in waiting.items() if pieces]:
        index = data.draw(st.sampled_from(left))
        events += spell(index, False, waiting[index].pop(0))
    message = assemble("text/event-stream", [sse(*events)])
    assert read(message) == [(f"c{index}", f"f{index}", value) for index, value in enumerate(inputs)]


ALL = {
    "converse": CONVERSE,
    "cohere": [sse(event) for event in COHERE],
    "cohere, first version": [ndjson(event) for event in COHERE_V1],
    "claude through bedrock": list(map(aws_chunk, INVOKED["claude"][0])),
}


@pytest.mark.parametrize("kind", ALL)
@given(places=st.lists(st.integers(0, 5000), max_size=12), end=st.integers(0, 5000))
def test_a_stream_of_any_format_may_be_cut_anywhere_and_end_anywhere(kind: str, places: list[int], end: int) -> None:
    stream = b"".join(ALL[kind])
    edges = [0, *sorted(place % len(stream) for place in places), len(stream)]
    assert assemble(None, [stream[a:b] for a, b in itertools.pairwise(edges)]) == assemble(None, [stream])
    end %= len(stream)
    # An event is all there when only the line ends after it are missing.
    blank = [len(piece) - len(piece.rstrip(b"\n")) if piece.startswith((b"{", b"event")) else 0 for piece in ALL[kind]]
    ends = [place - more for place, more in zip(itertools.accumulate(map(len, ALL[kind])), blank, strict=True)]
    events = sum(place <= end for place in ends)
    assert assemble(None, [stream[:end]]) == assemble(None, ALL[kind][:events])
