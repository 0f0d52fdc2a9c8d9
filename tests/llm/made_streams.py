"""Streams with the oddities of providers' and gateways' real ones, made up; each with what its clients read."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from streams import ndjson

from otel_wirecap.llm.usage import Usage

SSE = "text/event-stream"


class MadeStream(NamedTuple):
    """A stream.

    Attributes:
        body: its bytes.
        holds: what the assembled message has at some paths.
        usage: what its usage says.
        unreadable: whether an event cannot be read.
        content_type: of the stream.
    """

    body: bytes
    holds: dict[str, Any]
    usage: Usage | None = None
    unreadable: bool = False
    content_type: str = SSE


def data(*events: Any, done: bool = False) -> bytes:
    """Events without names; bytes stand as they are."""
    spelt = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in events]
    return b"".join(b"data: " + one + b"\n\n" for one in spelt) + (b"data: [DONE]\n\n" if done else b"")


def named(*events: Any) -> bytes:
    """Events whose type is in their name alone."""
    return b"".join(
        b"event: %s\ndata: %s\n\n"
        % (one["type"].encode(), json.dumps({name: value for name, value in one.items() if name != "type"}).encode())
        for one in events
    )


def typed(*events: Any) -> bytes:
    """Events whose type is in their name and in their data."""
    return b"".join(b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in events)


# -- OpenAI's chat ---------------------------------------------------------------------------------------------------


def chunk(delta: Any, reason: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def call(**piece: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [piece]})


TOKENS = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
START, END = chunk({"role": "assistant", "content": ""}), chunk({}, "stop")
COUNTS = {**chunk({}), "choices": [], "usage": TOKENS}


def logprob(number: str) -> bytes:
    made = chunk({"content": " wide"})
    made["choices"][0]["logprobs"] = {
        "content": [{"token": " wide", "logprob": "NUMBER", "bytes": None, "top_logprobs": []}]
    }
    return json.dumps(made).replace('"NUMBER"', number).encode()


CHAT = {
    **{
        f"{number} as a number": MadeStream(
            data(START, chunk({"content": "Hello"}), logprob(number), END, COUNTS, done=True),
            {"choices.0.message.content": "Hello wide"}, Usage(5, 3),
        )
        for number in ("NaN", "-Infinity", "Infinity")
    },
    "halves of a character in two events": MadeStream(
        data(START, chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), END, done=True),
        {"choices.0.message.content": "a\U0001f600b"},
    ),
    "half of a character": MadeStream(
        data(START, chunk({"content": "a\ud83d b"}), END, done=True), {"choices.0.message.content": "a\ufffd b"},
    ),
    "bytes that are no UTF-8": MadeStream(
        data(START, chunk({"content": "a"}), json.dumps(chunk({"content": "bQ"})).encode().replace(b"Q", b"\xff"),
             chunk({"content": "c"}), END, done=True),
        {"choices.0.message.content": "ab\ufffdc"},
    ),
    "a control character in a text": MadeStream(
        data(START, json.dumps(chunk({"content": "aQb"})).encode().replace(b"Q", b"\t"), END, done=True),
        {"choices.0.message.content": "a\tb"},
    ),
    "an event that is cut": MadeStream(
        data(START, chunk({"content": "a"}), b'{"id": "c1", "choices": [{"delta": {"cont', END, done=True),
        {"choices.0.message.content": "a"}, unreadable=True,
    ),
    "events that are no objects": MadeStream(
        data(START, b"null", b'"ping"', chunk({"content": "a"}), b"ping", END, done=True),
        {"choices.0.message.content": "a"},
    ),
    "a function's name in pieces": MadeStream(
        data(START, call(index=0, id="1", type="function", function={"name": "edit_ex", "arguments": ""}),
             call(index=0, function={"name": "isting_", "arguments": ""}),
             call(index=0, function={"name": "file", "arguments": '{"a":'}),
             call(index=0, function={"arguments": "1}"}), chunk({}, "tool_calls"), done=True),
        {"choices.0.message.tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "edit_existing_file", "arguments": '{"a":1}'}}]},
    ),
    "a function's name with each piece": MadeStream(
        data(START, call(index=0, id="1", type="function", function={"name": "read", "arguments": ""}),
             call(index=0, id="1", type="function", function={"name": "read", "arguments": '{"a":'}),
             call(index=0, id="1", function={"name": "read", "arguments": "1}"}), chunk({}, "tool_calls"), done=True),
        {"choices.0.message.tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"a":1}'}}]},
    ),
    "an index that two calls have": MadeStream(
        data(START, call(index=0, id="1", type="function", function={"name": "one", "arguments": "{}"}),
             call(index=0, id="2", type="function", function={"name": "two", "arguments": "{}"}), END, done=True),
        {"choices.0.message.tool_calls.1.function.name": "two", "choices.0.message.tool_calls.0.function.name": "one"},
    ),
    "calls without indices": MadeStream(
        data(START, call(id="1", type="function", function={"name": "one", "arguments": "{}"}),
             call(id="2", type="function", function={"name": "two", "arguments": '{"a"'}),
             call(function={"arguments": ":1}"}), END, done=True),
        {"choices.0.message.tool_calls.0.function.arguments": "{}",
         "choices.0.message.tool_calls.1.function.arguments": '{"a":1}'},
    ),
    "choices without an index": MadeStream(
        data(*({**one, "choices": [{"delta": one["choices"][0]["delta"]}]} for one in
               (START, chunk({"content": "a"}), chunk({"content": "b"}))), done=True),
        {"choices.0.message.content": "ab"},
    ),
    "an empty finish reason, before and after the one": MadeStream(
        data(chunk({"role": "assistant", "content": "Hi"}, ""), chunk({"content": " you"}, "stop"),
             chunk({"content": ""}, "", usage=TOKENS), done=True),
        {"choices.0.finish_reason": "stop", "choices.0.message.content": "Hi you"}, Usage(5, 3),
    ),
    "a usage in each chunk, which grows": MadeStream(
        data(*(chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": n}) for n in (1, 2, 3)), END,
             done=True),
        {"choices.0.message.content": "aaa"}, Usage(5, 3),
    ),
    "a second message": MadeStream(
        data(START, chunk({"content": "one"}), END, {**chunk({"content": " two"}), "id": "c2"}, END, done=True),
        {"choices.0.message.content": "one two"},
    ),
    "names of events that say nothing": MadeStream(
        b"".join(b"event: chat.completion.chunk\n" + data(one) for one in (START, chunk({"content": "a"}), END)),
        {"choices.0.message.content": "a", "type": None},
    ),
}  # fmt: skip

# -- Anthropic's messages --------------------------------------------------------------------------------------------


def message_start(ident: str = "m1", **usage: Any) -> dict[str, Any]:
    head = {"id": ident, "type": "message", "role": "assistant", "model": "claude", "content": []}
    told = {"input_tokens": 3, "output_tokens": 1, **usage}
    return {"type": "message_start", "message": {**head, "stop_reason": None, "stop_sequence": None, "usage": told}}


def text_block(index: int, *pieces: str) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}
          for piece in pieces),
        {"type": "content_block_stop", "index": index},
    ]  # fmt: skip


def tool_block(index: int, ident: str, *pieces: str) -> list[dict[str, Any]]:
    block = {"type": "tool_use", "id": ident, "name": "f", "input": {}}
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}
          for piece in pieces),
        {"type": "content_block_stop", "index": index},
    ]  # fmt: skip


def message_end(reason: Any = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5, **usage}}, {"type": "message_stop"}]


MESSAGE = [message_start(), *text_block(0, "Hi", " you"), *tool_block(1, "t1", '{"a":', "1}"), *message_end()]
MESSAGE_HOLDS = {"content.0.text": "Hi you", "content.1.input": {"a": 1}, "stop_reason": "end_turn"}

MESSAGES = {
    "nothing odd": MadeStream(typed(*MESSAGE), MESSAGE_HOLDS, Usage(3, 5)),
    "types in names alone": MadeStream(named(*MESSAGE), MESSAGE_HOLDS, Usage(3, 5)),
    "no names": MadeStream(data(*MESSAGE), MESSAGE_HOLDS, Usage(3, 5)),
    "compaction": MadeStream(
        typed(message_start(), *text_block(0, "Hi"), *message_end(input_tokens=23, iterations=[
            {"type": "compaction", "input_tokens": 180, "output_tokens": 3},
            {"type": "message", "input_tokens": 23, "output_tokens": 5}])),
        {"content.0.text": "Hi"}, Usage(203, 8, billed=(Usage(180, 3), Usage(23, 5))),
    ),
    "counts of the cache at the end": MadeStream(
        typed(message_start(), *text_block(0, "Hi"), *message_end(
            input_tokens=3, cache_read_input_tokens=70, cache_creation_input_tokens=7,
            cache_creation={"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4})),
        {"content.0.text": "Hi"}, Usage(80, 5, 70, 7, cache_written_1h=4),
    ),
    "an index used again": MadeStream(
        typed(message_start(), *text_block(0, "one"), *tool_block(0, "t1", '{"a":1}'), *tool_block(0, "t2", '{"b":2}'),
              *message_end()),
        {"content.0.text": "one", "content.1.input": {"a": 1}, "content.2.input": {"b": 2}}, Usage(3, 5),
    ),
    "a second message": MadeStream(
        typed(message_start(), *text_block(0, "one"), *message_end(),
              message_start("m2"), *text_block(0, "two"), *message_end("tool_use")),
        {"content.0.text": "one", "content.1.text": "two", "id": "m1", "stop_reason": "tool_use"}, Usage(6, 10),
    ),
    "the start twice": MadeStream(
        typed(message_start(), message_start(), *text_block(0, "one"), *message_end()),
        {"content": [{"type": "text", "text": "one"}]}, Usage(3, 5),
    ),
    "a reason that null follows": MadeStream(
        typed(message_start(), *text_block(0, "Hi"), message_end()[0], *message_end(None)), {"stop_reason": "end_turn"},
        Usage(3, 5),
    ),
    "an event that is cut": MadeStream(
        typed(message_start(), *text_block(0, "Hi")) + data(b'{"type": "content_block_del') + typed(*message_end()),
        {"content.0.text": "Hi"}, Usage(3, 5), unreadable=True,
    ),
}  # fmt: skip

# -- OpenAI's responses ----------------------------------------------------------------------------------------------


def response(ident: str, status: str, output: list[Any], tokens: int | None = None) -> dict[str, Any]:
    usage = None if tokens is None else {
        "input_tokens": tokens, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": tokens + 2,
    }  # fmt: skip
    return {
        "id": ident, "object": "response", "created_at": 1, "status": status, "model": "m", "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip


def message_item(ident: str, text: str) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {"id": ident, "type": "message", "role": "assistant", "status": "completed", "content": parts}


def item_events(index: int, ident: str, *pieces: str) -> list[dict[str, Any]]:
    place = {"item_id": ident, "output_index": index, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": message_item(ident, "")},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces),
    ]


def numbered(*events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**one, "sequence_number": number} for number, one in enumerate(events)]


def whole_response(ident: str, *texts: str, tokens: int = 4) -> list[dict[str, Any]]:
    output = [message_item(f"{ident}-{number}", text) for number, text in enumerate(texts)]
    return [
        {"type": "response.created", "response": response(ident, "in_progress", [])},
        *(event for number, text in enumerate(texts) for event in item_events(number, f"{ident}-{number}", text)),
        {"type": "response.completed", "response": response(ident, "completed", output, tokens)},
    ]


RESPONSES = {
    "nothing odd": MadeStream(
        typed(*numbered(*whole_response("r1", "Hi"))), {"output.0.content.0.text": "Hi"}, Usage(4, 2, 1, 0, 1),
    ),
    "types in names alone": MadeStream(
        named(*numbered(*whole_response("r1", "Hi"))), {"output.0.content.0.text": "Hi"}, Usage(4, 2, 1, 0, 1),
    ),
    "cut, types in names alone": MadeStream(
        named(*numbered(*whole_response("r1", "Hi", "you")[:-1])),
        {"output.0.content.0.text": "Hi", "output.1.content.0.text": "you"},
    ),
    "an index used again": MadeStream(
        typed(*numbered(whole_response("r1")[0], *item_events(0, "i1", "one"), *item_events(0, "i2", "t", "wo"))),
        {"output.0.content.0.text": "one", "output.1.content.0.text": "two"},
    ),
    "a second response": MadeStream(
        typed(*numbered(*whole_response("r1", "one"), *whole_response("r2", "two", tokens=6))),
        {"id": "r2", "output.0.content.0.text": "one", "output.1.content.0.text": "two"}, Usage(10, 4, 2, 0, 2),
    ),
    "a second response that is cut": MadeStream(
        typed(*numbered(*whole_response("r1", "one"), *whole_response("r2", "two")[:-1])),
        {"output.0.content.0.text": "one", "output.1.content.0.text": "two"}, Usage(4, 2, 1, 0, 1),
    ),
}  # fmt: skip

# -- Gemini ----------------------------------------------------------------------------------------------------------


def parts(*parts: Any, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"index": 0, "content": content, **more}], "modelVersion": "gemini-3-pro"}


def piece(**call: Any) -> dict[str, Any]:
    return parts({"functionCall": call})


def partial(path: str, **value: Any) -> dict[str, Any]:
    return {"jsonPath": path, **value}


GEMINI_END = {
    "candidates": [{"index": 0, "finishReason": "STOP"}], "modelVersion": "gemini-3-pro",
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "thoughtsTokenCount": 2, "totalTokenCount": 14},
}  # fmt: skip
GEMINI = {
    "arguments in pieces": MadeStream(
        data(piece(name="get_weather", id="f1", willContinue=True),
             piece(partialArgs=[partial("$.location", stringValue="New ", willContinue=True)], willContinue=True),
             piece(partialArgs=[partial("$.location", stringValue="Delhi")], willContinue=True),
             piece(partialArgs=[partial("$.days", numberValue=3), partial("$.opts.unit", stringValue="C"),
                                partial("$.list[1].on", boolValue=True), partial("$.none", nullValue="NULL_VALUE"),
                                partial("$['a b'][0]", stringValue="x")], willContinue=True),
             piece(), GEMINI_END),
        {"candidates.0.content.parts": [{"functionCall": {
            "name": "get_weather", "id": "f1", "args": {
                "location": "New Delhi", "days": 3, "opts": {"unit": "C"}, "list": [None, {"on": True}], "none": None,
                "a b": ["x"]}}}],
         "candidates.0.finishReason": "STOP"},
        Usage(5, 9, 0, 0, 2),
    ),
    "two calls in pieces, and one whole": MadeStream(
        data(piece(name="f", willContinue=True), piece(partialArgs=[partial("$.a", numberValue=1)], willContinue=True),
             piece(), piece(name="f", partialArgs=[partial("$.a", numberValue=2)]), piece(name="g", args={"a": 3}),
             GEMINI_END),
        {"candidates.0.content.parts": [
            {"functionCall": {"name": name, "args": {"a": number}}}
            for name, number in (("f", 1), ("f", 2), ("g", 3))]},
        Usage(5, 9, 0, 0, 2),
    ),
    "an argument whose place is not understood": MadeStream(
        data(piece(name="f", partialArgs=[partial("$..a", numberValue=1)]), GEMINI_END),
        {"candidates.0.content.parts.0.functionCall.partialArgs": [{"jsonPath": "$..a", "numberValue": 1}]},
        Usage(5, 9, 0, 0, 2),
    ),
    "counts that grow": MadeStream(
        data(*({**parts({"text": "a"}), "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": n}}
               for n in (1, 2, 3))),
        {"candidates.0.content.parts": [{"text": "aaa"}]}, Usage(5, 3),
    ),
}  # fmt: skip

# -- others ----------------------------------------------------------------------------------------------------------

AUDIO = [b"abc", b"d", b"efgh"]
SPOKEN = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
HEARD = {"type": "tokens", "input_tokens": 73, "output_tokens": 16, "total_tokens": 89,
         "input_token_details": {"text_tokens": 0, "audio_tokens": 73}}  # fmt: skip
TRANSCRIPT = [{"type": "transcript.text.delta", "delta": piece} for piece in ("Hello", " world")]
MEDIA = {
    "a transcription": MadeStream(
        data(*TRANSCRIPT, {"type": "transcript.text.done", "text": "Hello world", "usage": HEARD}),
        {"text": "Hello world"}, Usage(73, 16, input_audio=73),
    ),
    "a transcription that is cut": MadeStream(data(*TRANSCRIPT), {"text": "Hello world"}),
    "a transcription with speakers, types in names alone": MadeStream(
        named({"type": "transcript.text.segment", "id": "s", "start": 0.0, "end": 1.0, "speaker": "A", "text": "Hello"},
              {"type": "transcript.text.done", "text": "Hello", "usage": {"type": "duration", "seconds": 2}}),
        {"text": "Hello", "segments.0.speaker": "A", "segments.0.text": "Hello"}, Usage(audio_seconds=2),
    ),
    "speech": MadeStream(
        data(*({"type": "speech.audio.delta", "audio": base64.b64encode(one).decode()} for one in AUDIO),
             {"type": "speech.audio.done", "usage": SPOKEN}),
        {"audio": base64.b64encode(b"".join(AUDIO)).decode()}, Usage(5, 7),
    ),
    "images": MadeStream(
        data({"type": "image_generation.partial_image", "b64_json": "AAAA", "partial_image_index": 0},
             *({"type": "image_generation.completed", "b64_json": one, "created_at": 7, "size": "auto", "usage": SPOKEN}
               for one in ("BBBB", "CCCC"))),
        {"created": 7, "data.0.b64_json": "BBBB", "data.1.b64_json": "CCCC"}, Usage(10, 14),
    ),
}  # fmt: skip

INTERACTION = {"id": "i1", "object": "interaction", "model": "gemini-3-pro"}
INTERACTION_TOKENS = {"total_input_tokens": 7, "total_output_tokens": 20, "total_thought_tokens": 22,
                      "total_tokens": 49}  # fmt: skip


def step(kind: str, index: int, **more: Any) -> dict[str, Any]:
    return {"event_type": f"step.{kind}", "index": index, **more}


INTERACTIONS = {
    "an interaction": MadeStream(
        data({"event_type": "interaction.created", "interaction": {**INTERACTION, "status": "in_progress"}},
             step("start", 0, step={"type": "thought"}), step("delta", 0, delta={"type": "thought_signature",
                                                                                  "signature": "s"}), step("stop", 0),
             step("start", 1, step={"type": "model_output"}),
             *(step("delta", 1, delta={"type": "text", "text": piece}) for piece in ("Hi", " you")), step("stop", 1),
             step("start", 2, step={"type": "function_call", "id": "f", "name": "g"}),
             *(step("delta", 2, delta={"type": "arguments_delta", "arguments": piece}) for piece in ('{"a":', "1}")),
             step("stop", 2),
             {"event_type": "interaction.completed",
              "interaction": {**INTERACTION, "status": "completed", "usage": INTERACTION_TOKENS}}, done=True),
        {"status": "completed", "steps.0": {"type": "thought", "signature": "s"},
         "steps.1": {"type": "model_output", "content": [{"type": "text", "text": "Hi you"}]},
         "steps.2": {"type": "function_call", "id": "f", "name": "g", "arguments": {"a": 1}}},
        Usage(7, 42, 0, 0, 22),
    ),
    "an interaction of the first version": MadeStream(
        data({"event_type": "interaction.start", "interaction": {**INTERACTION, "status": "in_progress"}},
             {"event_type": "content.start", "index": 0, "content": {"type": "text"}},
             *({"event_type": "content.delta", "index": 0, "delta": {"type": "text", "text": piece}}
               for piece in ("Hi", " you")), {"event_type": "content.stop", "index": 0},
             {"event_type": "interaction.complete",
              "interaction": {**INTERACTION, "status": "completed", "usage": INTERACTION_TOKENS}}),
        {"status": "completed", "outputs": [{"type": "text", "text": "Hi you"}]}, Usage(7, 42, 0, 0, 22),
    ),
}  # fmt: skip


def cohere(kind: str, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": message}}


COHERE_TOKENS = {"tokens": {"input_tokens": 9, "output_tokens": 2}, "billed_units": {"input_tokens": 3,
                                                                                    "output_tokens": 2}}  # fmt: skip
COHERE = [
    {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}},
    cohere("content-start", content={"type": "text", "text": ""}), cohere("content-delta", content={"text": "Hi"}),
    cohere("content-delta", content={"text": " you"}), {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_TOKENS}},
]  # fmt: skip
OTHERS = {
    f"cohere, {how}": MadeStream(
        spelt(*COHERE), {"message.content.0.text": "Hi you", "finish_reason": "COMPLETE"},
        Usage(9, 2, billed=(Usage(3, 2),)),
    )
    for how, spelt in (("nothing odd", typed), ("types in names alone", named))
} | {
    "ollama, with a number that is none": MadeStream(
        ndjson({"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False},
               {"model": "m", "message": {"role": "assistant", "content": " you"}, "done": True, "score": float("nan"),
                "prompt_eval_count": 4, "eval_count": 2}),
        {"message.content": "Hi you", "done": True}, Usage(4, 2), content_type="application/x-ndjson",
    ),
}  # fmt: skip

KINDS = {
    "chat": CHAT, "messages": MESSAGES, "responses": RESPONSES, "gemini": GEMINI, "media": MEDIA,
    "interactions": INTERACTIONS, "others": OTHERS,
}  # fmt: skip
STREAMS = {f"{kind}: {name}": stream for kind, streams in KINDS.items() for name, stream in streams.items()}
