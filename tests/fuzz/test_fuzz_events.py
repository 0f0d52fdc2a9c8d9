"""The events of streams and what they add up to, whatever comes over the wire."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from typing import Any

import orjson
import pytest
from damage import assert_linear, cuts, damaged, fuzz, in_pieces
from hypothesis import given, strategies as st

from otel_wirecap.capture.streams import StreamReader
from otel_wirecap.frames.framing import STREAM_TYPES, FrameReader
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.frames.sse import SSELexer
from otel_wirecap.llm.answers import answered_model
from otel_wirecap.llm.assembly import StreamAssembly
from tests.frames.reading import events, feed

LIMIT = 600

CHAT = {
    "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "x_groq": {"usage": {"a": 1}},
    "choices": [{
        "index": 0, "finish_reason": None, "logprobs": {"content": [{"token": "a"}]},
        "delta": {
            "role": "assistant", "content": "Hi", "reasoning_content": "hm", "reasoning_details": [{"type": "text"}],
            "tool_calls": [{"index": 0, "id": "t1", "function": {"name": "f", "arguments": '{"a":'}}],
        },
    }],
    "usage": {"prompt_tokens": 1},
}  # fmt: skip
ANTHROPIC = [
    {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}, "citations": []}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a":1'}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"a": 1}}},
    {"type": "message_delta", "delta": {"stop_reason": "end"}, "usage": {"output_tokens": 2}},
    {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
]
RESPONSES = [
    {"type": "response.created", "response": {"model": "m", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "content": [{"text": ""}]}},
    {"type": "response.content_part.added", "output_index": 0, "content_index": 0, "part": {"type": "output_text"}},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hi"},
    {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": {"a": 1}},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{"},
    {"type": "response.reasoning_summary_text.done", "output_index": 2, "summary_index": 1, "text": "so"},
    {"type": "response.failed", "response": {"error": {"code": 1, "message": "no"}, "output": [{}]}},
]
GEMINI = {
    "candidates": [{
        "index": 0, "content": {"role": "model", "parts": [{"text": "Hi", "thought": True, "thoughtSignature": "s"}]},
        "logprobsResult": {"chosenCandidates": [{"token": "a"}]},
    }],
    "modelVersion": "m", "usageMetadata": {"totalTokenCount": 1}, "response": None,
}  # fmt: skip
CONVERSE = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockStart": {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}},
    {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"a":1}'}}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm", "signature": "s"}}}},
    {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"text": "Hi", "citation": {"title": "a"}}}},
    {"metadata": {"usage": {"inputTokens": 1}}, "messageStop": {"stopReason": "end_turn"}},
]
COHERE = [
    {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": ""}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "hm"}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hi"}}}, "logprobs": {"text": "a"}},
    {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}},
    {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no", "usage": {"tokens": {}}}},
    {"event_type": "text-generation", "is_finished": False, "text": "Hi"},
    {"event_type": "tool-calls-chunk", "is_finished": False, "tool_call_delta": {"index": 0, "parameters": "{"}},
    {"event_type": "citation-generation", "is_finished": False, "citations": [{"start": 0}]},
    {"event_type": "stream-end", "is_finished": True, "response": {"text": "Hi"}, "finish_reason": "COMPLETE"},
]
OTHERS = [
    {"model": "m", "message": {"role": "assistant", "content": "Hi", "tool_calls": [{"function": {}}]}, "done": False},
    {"model": "m", "response": "Hi", "logprobs": [{"token": "a"}], "done": True},
    {"outputs": [{"text": "Hi", "stop_reason": None}]},
    {"type": "message", "content": [{"type": "text", "text": "Hi"}], "model": "m"},
]
EVENTS = [
    CHAT,
    GEMINI,
    *CONVERSE,
    *COHERE,
    *OTHERS,
    {"response": GEMINI, "traceId": "t"},
    *ANTHROPIC,
    *RESPONSES,
    {"error": "no"},
    {"object": "error"},
]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.just(1 << 63)
    | st.floats(allow_nan=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CHAT, "text", "delta", "a"]), inner),
    max_leaves=6,
)


@st.composite
def twisted(draw: st.DrawFn, known: Any) -> Any:
    """A JSON value of which some parts are of another kind than anybody expects."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    if isinstance(known, dict):
        return {name: draw(twisted(value)) for name, value in known.items() if draw(st.integers(0, 11))}
    if isinstance(known, list):
        return [draw(twisted(value)) for value in known for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2))))]
    return known


def spelled(event: Any, ending: str, *, name: bool) -> bytes:
    kind = event.get("type", "") if isinstance(event, dict) else "error"
    head = f"event: {kind}{ending}" if name else ""
    return f"{head}data: {json.dumps(event)}{ending}{ending}".encode()


def framed(event: Any, kind: str) -> bytes:
    """A frame of an AWS event stream."""
    headers = b"".join(
        b"%c%b\x07%b%b" % (len(name), name, struct.pack("!H", len(value)), value)
        for name, value in ((b":message-type", kind.encode()), (b":event-type", b"chunk"))
    )
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    start = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = start + struct.pack("!I", zlib.crc32(start)) + headers + payload
    return body + struct.pack("!I", zlib.crc32(body))


twisted_events = st.sampled_from(EVENTS).flatmap(twisted)
streams = st.lists(
    st.builds(spelled, twisted_events, st.sampled_from(("\n", "\r\n", "\r")), name=st.booleans()), max_size=5
).map(b"".join)
lines = st.lists(twisted_events.map(lambda event: json.dumps(event).encode() + b"\n"), max_size=5).map(b"".join)
arrays = st.lists(twisted_events, max_size=5).map(lambda events: json.dumps(events, indent=1).encode())
frames = st.lists(
    st.builds(framed, twisted_events, st.sampled_from(("event", "exception", "error", "x"))), max_size=5
).map(b"".join)
any_streams = streams | lines | arrays | frames
content_types = st.sampled_from(["", *sorted(STREAM_TYPES)])


def parsed(pieces: list[bytes], limit: int = 1 << 24) -> tuple[list[tuple[str, bytes]], bool]:
    lexer, held = SSELexer(limit), bytearray()
    found: list[Frame] = []
    for piece in pieces:
        found += feed(lexer, held, piece)
        assert len(held) <= limit + 2
    return events(found + feed(lexer, held, b"", is_end=True)), lexer.overflowed


def reference(data: bytes) -> list[tuple[str, bytes]]:
    """The rules of the standard, read off it line by line; an event that is cut off is told."""
    found: list[tuple[str, bytes]] = []
    name, lines = b"", list[bytes]()
    for line in [*re.split(b"\r\n|\n|\r", data), b""]:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if lines:
                found.append((name.decode("utf-8", "replace"), b"\n".join(lines)))
            name, lines = b"", []
        elif field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return found


@fuzz
@given(damaged(streams), cuts)
def test_events_are_those_of_the_standard_wherever_they_are_cut(data: bytes, places: list[int]) -> None:
    assert parsed(in_pieces(data, places)) == parsed([data]) == (reference(data), False)


@fuzz
@given(damaged(streams), cuts, st.integers(0, LIMIT))
def test_what_is_too_large_is_dropped_and_told_wherever_it_is_cut(data: bytes, places: list[int], limit: int) -> None:
    found, overflowed = parsed([data], limit)
    assert parsed(in_pieces(data, places), limit) == (found, overflowed)
    assert overflowed or found == reference(data)
    assert all(len(content) <= limit for _, content in found)


@fuzz
@given(damaged(any_streams), content_types, cuts, st.integers(0, LIMIT))
def test_what_comes_does_not_depend_on_the_cuts_in_any_framing(
    data: bytes, content_type: str, places: list[int], limit: int
) -> None:
    def read(pieces: list[bytes]) -> tuple[list[Frame], bool]:
        parser = FrameReader(content_type, max_frame_bytes=limit)
        return [event for piece in pieces for event in parser.feed(piece)] + parser.close(), parser.overflowed

    assert read(in_pieces(data, places)) == read([data])


@fuzz
@given(
    damaged(any_streams), st.sampled_from(["", *sorted(STREAM_TYPES)]), st.booleans(), st.sampled_from((50, 1 << 20))
)
def test_no_stream_breaks_the_assembly_and_what_it_makes_is_json(
    data: bytes, content_type: str, assemble: bool, most: int
) -> None:
    reader = StreamReader(content_type, assemble=assemble, max_bytes=most)
    reader.feed(data)
    message = reader.close()
    assert message is None or (assemble and isinstance(orjson.loads(orjson.dumps(message)), dict))
    assert reader.assembly.model is None or isinstance(reader.assembly.model, str)
    error = reader.assembly.error
    assert error is None or all(part is None or isinstance(part, str) for part in error)


@fuzz
@given(st.lists(st.sampled_from(EVENTS).flatmap(twisted), max_size=8), st.integers(0, 4000))
def test_the_assembly_keeps_no_more_than_it_may_and_gives_up_over_it(events: list[Any], most: int) -> None:
    assembly = StreamAssembly(max_bytes=most)
    for event in events:
        answered_model(event)
        assembly.add(Frame("", orjson.dumps(event)))
        assert assembly._assembly is None or assembly._assembly.size <= most
    assert not assembly.overflowed or assembly.message() is None


@pytest.mark.parametrize("piece", [b"a", b"\r", b"\n", b"data:\n", b"data: x\r", b"\xef\xbb\xbf", b"data: x\n\n", b":"])
def test_events_take_work_in_proportion_to_their_bytes(piece: bytes) -> None:
    assert_linear(lambda size: lambda: parsed([piece[i : i + 1] for i in range(len(piece))] * size))
    assert_linear(lambda size: lambda: parsed([piece * size]))


@pytest.mark.parametrize("piece", [b"a", b'"', b"\\", b"\n", b"{", b'{"', b"}", b'{"a":1}\n', framed(CHAT, "event")])
@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/json", "application/vnd.amazon.eventstream"]
)
def test_events_of_other_framings_take_work_in_proportion_to_their_bytes(piece: bytes, content_type: str) -> None:
    def fed(pieces: list[bytes]) -> None:
        parser = FrameReader(content_type)
        for one in pieces:
            parser.feed(one)
        parser.close()

    small = max(10, 200 // len(piece))
    assert_linear(lambda size: lambda: fed([piece[i : i + 1] for i in range(len(piece))] * size), small)
    assert_linear(lambda size: lambda: fed([piece * size]), small)


@pytest.mark.parametrize("event", [CHAT, GEMINI, ANTHROPIC[2], RESPONSES[3], RESPONSES[4]])
def test_assembling_takes_work_in_proportion_to_the_events(event: dict[str, Any]) -> None:
    def run(count: int) -> Any:
        data = spelled(event, "\n", name=False)
        reader = StreamReader("text/event-stream", assemble=True, max_bytes=1 << 24)
        return lambda: [*(reader.feed(data) for _ in range(count)), reader.close()]

    assert_linear(run)
