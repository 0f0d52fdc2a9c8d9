"""How exchanges end: what a stream said decides, on both legs, whoever closes, and whatever the settings are."""

from __future__ import annotations

import gzip
import itertools
import json
from typing import Any, NamedTuple

import pytest
from test_recorder import JSON, NS, Desk, post, whole

from otel_wirecap.capture.events import ErrorInfo, Outcome, ResponseHead, WebsocketClose
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.frames.aws_message import STRING, AWSMessage, Header, headers_of

SSE, LINES, AWS, ARRAY = (
    "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream", "application/json",
)  # fmt: skip


def framed(content_type: str, *events: Any) -> bytes:
    """Events as a stream of a type has them; of a pair the first is the name."""
    return b"".join(map(FRAMES[content_type], events))


def sse(event: Any) -> bytes:
    name, event = event if isinstance(event, tuple) else ("", event)
    data = event if isinstance(event, str) else json.dumps(event)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def aws(event: dict[str, Any]) -> bytes:
    ((kind, payload),) = event.items()
    how = "exception" if kind.endswith("Exception") else "event"
    names = {b":message-type": how, b":exception-type" if how == "exception" else b":event-type": kind}
    headers = headers_of(Header(name, STRING, value.encode()) for name, value in names.items())
    return AWSMessage(headers, json.dumps(payload).encode()).encoded()


FRAMES: dict[str, Any] = {
    SSE: sse, LINES: lambda event: json.dumps(event).encode() + b"\n", AWS: aws,
    ARRAY: lambda event: json.dumps(event).encode() + b",",
}  # fmt: skip


BUSY = {"error": {"message": "overloaded", "type": "server_error", "code": "busy"}}


class Format(NamedTuple):
    """A provider's stream: how it goes on, how it ends, what may follow its end mark, and an error within it."""

    content_type: str
    path: str
    middle: list[Any]
    end: list[Any]
    after: list[Any]
    error: Any = BUSY


def chat(content: str | None = None, reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": index, "delta": {"content": content}, "finish_reason": reason}], **more}


def part(text: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}]}, **more}], "modelVersion": "m"}


MESSAGE = {"type": "message_start", "message": {"id": "msg", "type": "message", "content": [], "stop_reason": None}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
RESPONSE = {"type": "response.created", "response": {"id": "resp", "status": "in_progress", "error": None}}
TEXT = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "hi"}
USAGE = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}

CHAT, MESSAGES, GENERATE = "/v1/chat/completions", "/v1/messages", "/v1beta/models/m:streamGenerateContent"
FORMATS: dict[str, Format] = {
    "chat": Format(SSE, CHAT, [chat("hi"), chat("there")], [chat(None, "stop")], [USAGE, "[DONE]"]),
    "chat, the mark alone": Format(SSE, CHAT, [chat("hi")], ["[DONE]"], []),
    "chat, empty reasons": Format(SSE, CHAT, [chat("hi", "")], [chat("", "length")], [chat("", "", **USAGE)]),
    "chat, two choices": Format(
        SSE, CHAT, [chat("hi"), chat("ho", index=1), chat(None, "stop")], [chat(None, "stop", index=1)], ["[DONE]"]
    ),
    "chat, JSON lines": Format(LINES, CHAT, [chat("hi")], [chat(None, "tool_calls")], [USAGE]),
    "texts": Format(
        SSE, "/v1/completions", [{"choices": [{"index": 0, "text": "hi", "finish_reason": None}]}],
        [{"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}], ["[DONE]"],
    ),
    "old texts": Format(
        SSE, "/v1/complete", [("completion", {"completion": "hi", "stop_reason": None})],
        [("completion", {"completion": "", "stop_reason": "stop_sequence"})], [],
    ),
    "anthropic": Format(
        SSE, MESSAGES, [("message_start", MESSAGE), ("content_block_delta", DELTA),
                        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}],
        [("message_stop", {"type": "message_stop"})], [("ping", {"type": "ping"})], ("error", OVERLOADED),
    ),
    "anthropic, names alone": Format(
        SSE, MESSAGES, [("message_start", MESSAGE), DELTA], [("message_stop", {})], [], ("error", OVERLOADED)
    ),
    "responses": Format(
        SSE, "/v1/responses", [("response.created", RESPONSE), TEXT],
        [{"type": "response.completed", "response": {"status": "completed", "error": None, "output": []}}],
        [], ("error", {"type": "error", "code": "server_error", "message": "oops"}),
    ),
    "responses, incomplete": Format(
        SSE, "/v1/responses", [RESPONSE, TEXT],
        [{"type": "response.incomplete", "response": {"status": "incomplete", "error": None}}], [],
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "busy", "message": "no"}}},
    ),
    "gemini": Format(SSE, GENERATE, [part("hi")], [part("", finishReason="STOP")], [{"usageMetadata": {}}]),
    "gemini, blocked": Format(
        SSE, GENERATE, [{"usageMetadata": {"promptTokenCount": 1}}], [{"promptFeedback": {"blockReason": "SAFETY"}}], []
    ),
    "gemini, an array": Format(
        ARRAY, GENERATE, [part("hi")], [part("", finishReason="MAX_TOKENS")], [],
        {"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}},
    ),
    "gemini, Code Assist": Format(
        SSE, "/v1internal:streamGenerateContent", [{"response": part("hi")}],
        [{"response": part("", finishReason="STOP")}], [],
    ),
    "ollama": Format(
        LINES, "/api/chat", [{"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": False}],
        [{"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}], [],
        {"error": "model runner has unexpectedly stopped"},
    ),
    "ollama, generate": Format(
        LINES, "/api/generate", [{"model": "m", "response": "hi", "done": False}],
        [{"model": "m", "response": "", "done": True}], [], {"error": "an error was encountered"},
    ),
    "speech": Format(
        SSE,
        "/v1/audio/speech",
        [{"type": "speech.audio.delta", "audio": "AAAA"}],
        [{"type": "speech.audio.done", "usage": {"input_tokens": 1, "output_tokens": 1}}],
        [],
    ),
    "transcriptions": Format(
        SSE,
        "/v1/audio/transcriptions",
        [{"type": "transcript.text.delta", "delta": "hi"}],
        [{"type": "transcript.text.done", "text": "hi"}],
        ["[DONE]"],
    ),
    "images": Format(
        SSE,
        "/v1/images/generations",
        [{"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "AAAA"}],
        [{"type": "image_generation.completed", "b64_json": "BBBB"}],
        [],
    ),
    "interactions": Format(
        SSE,
        "/v1beta/interactions",
        [{"event_type": "interaction.created", "interaction": {"id": "i", "status": "in_progress"}}],
        [{"event_type": "interaction.completed", "interaction": {"id": "i", "status": "completed"}}],
        [("done", "[DONE]")],
        {"event_type": "error", "error": {"code": "busy", "message": "no"}},
    ),
    "llama.cpp": Format(
        SSE, "/completion", [{"content": "hi", "stop": False}], [{"content": "", "stop": True}], []
    ),
    "workers ai": Format(SSE, "/ai/run/m", [{"response": "hi"}], ["[DONE]"], []),
    "cohere": Format(
        SSE, "/v2/chat", [("message-start", {"type": "message-start", "id": "i"}),
                          {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hi"}}}}],
        [("message-end", {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})], ["[DONE]"],
        {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "no room"}},
    ),
    "cohere v1": Format(
        LINES, "/v1/chat", [{"is_finished": False, "event_type": "text-generation", "text": "hi"}],
        [{"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": {}}], [],
    ),
    "converse": Format(
        AWS, "/model/m/converse-stream",
        [{"messageStart": {"role": "assistant"}},
         {"contentBlockDelta": {"delta": {"text": "hi"}, "contentBlockIndex": 0}}],
        [{"messageStop": {"stopReason": "end_turn"}}], [{"metadata": {"usage": {"inputTokens": 1, "outputTokens": 1}}}],
        {"throttlingException": {"message": "Too many requests"}},
    ),
    "titan": Format(
        SSE, "/model/m/invoke-with-response-stream", [{"outputText": "hi", "completionReason": None}],
        [{"outputText": "", "completionReason": "FINISH"}], [],
    ),
    "llama at Bedrock": Format(
        SSE, "/model/m/invoke-with-response-stream", [{"generation": "hi", "stop_reason": None}],
        [{"generation": "", "stop_reason": "stop"}], [],
    ),
    "mistral at Bedrock": Format(
        SSE, "/model/m/invoke-with-response-stream", [{"outputs": [{"text": "hi", "stop_reason": None}]}],
        [{"outputs": [{"text": "", "stop_reason": "stop"}]}], [],
    ),
}  # fmt: skip
"""Formats whose every stream has an end mark."""

UNASSEMBLED: dict[str, Format] = {
    "TGI": Format(
        SSE, "/generate_stream", [{"token": {"text": "hi"}, "generated_text": None}],
        [{"token": {"text": "!"}, "generated_text": "hi!"}], [],
    ),
    "runs": Format(
        SSE, "/v1/threads/t/runs", [("thread.message.delta", {"delta": {"content": []}})],
        [("thread.run.completed", {"id": "run", "status": "completed"})], [("done", "[DONE]")],
    ),
    "replicate": Format(SSE, "/p/stream", [("output", "hi"), {"output": "x"}], [("done", {})], []),
}  # fmt: skip

LEFT: dict[str, list[Outcome]] = {
    "client": ["client_disconnect", "cancelled", "error"],
    "backend": ["closed", "cancelled", "abandoned", "error"],
}
"""The ends of connections that are not the clean end of the side that answers."""

CLOSED_BY = {
    ("client", "client_disconnect"): "client",
    **{("client", outcome): "proxy" for outcome in ("cancelled", "error")},
    **{("backend", outcome): "proxy" for outcome in ("closed", "cancelled", "abandoned")},
    ("backend", "error"): "backend",
}


def legs(
    body: bytes,
    form: Format,
    ends: dict[str, Outcome],
    *,
    cut: int = 7,
    only: str = "",
    encoded: bool = False,
    error: str = "ReadError",
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Has a stream pass on both legs, or on one alone; the metadata of each leg's end."""  # fmt: skip
    desk, flow = Desk(**options), LiveFlow("flow")
    headers = [(b"content-type", form.content_type.encode())]
    if encoded:
        body = gzip.compress(body)
        headers.append((b"content-encoding", b"gzip"))
    exchanges: dict[str, LiveExchange] = {}
    for leg in ("client", "backend"):
        if only in {"", leg}:
            exchange = exchanges[leg] = desk.exchange(leg, flow, wants_end=True)
            exchange.begin(post(b'{"model":"m","stream":true,"messages":[]}', path=form.path))
    for leg in ("backend", "client"):
        if leg in exchanges:
            exchanges[leg].response(2 * NS, ResponseHead(200, None, headers))
    for begin in range(0, len(body), cut):
        for leg in ("backend", "client"):
            if leg in exchanges:
                exchanges[leg].chunk(3 * NS + begin, body[begin : begin + cut])
    for leg, exchange in exchanges.items():
        outcome = ends[leg]
        exchange.end(4 * NS, outcome, ErrorInfo(error, "broken") if outcome == "error" else None)
    records = desk.records()
    found = {r["metadata"]["leg"]: r["metadata"] for r in records if r["direction"].endswith("stream_end")}
    assembled = [r["metadata"] for r in records if r["metadata"].get("assembled")]
    for metadata in assembled:
        assert (metadata["outcome"], metadata.get("error")) == tuple(
            found["backend"].get(name) for name in ("outcome", "error")
        )
    for exchange_id, _, facts in desk.ends:
        (leg,) = (leg for leg, exchange in exchanges.items() if exchange.id == exchange_id)
        assert facts.outcome == found[leg]["outcome"], "the span says what the record says"
        assert facts.error_type == (found[leg].get("error") or {}).get("type")
    assert len(desk.ends) == len(exchanges)
    return found


def variants(content_type: str) -> list[dict[str, Any]]:
    """Ways in which the same stream passes: none of them may matter."""
    return [
        {},
        {"cut": 100_000},
        {"only": "client"},
        {"only": "backend", "capture_assemble_streams": False},
        {"encoded": True, "cut": 50},
        {"capture_assemble_streams": False, "capture_redaction": "off", "capture_allow_secrets": True},
        {"capture_max_payload_bytes": 1024},
    ]


def all_endings(form: Format, body: bytes) -> list[tuple[str, str, dict[str, Any]]]:
    """Leg, end of its connection and metadata of its end, for all ways to pass and to end."""
    found = []
    for variant in variants(form.content_type):
        for client, backend in itertools.zip_longest(
            ["complete", *LEFT["client"]], ["complete", *LEFT["backend"]], fillvalue="complete"
        ):
            ends: dict[str, Any] = {"client": client, "backend": backend}
            told = legs(body, form, ends, **variant)
            found += [(leg, ends[leg], metadata) for leg, metadata in told.items()]
    assert {(leg, end) for leg, end, _ in found} > set(CLOSED_BY)
    return found


ALL = FORMATS | UNASSEMBLED


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("with_rest", [True, False])
@pytest.mark.sampled(16, rest="thorough")
def test_a_stream_that_gave_its_end_mark_is_complete_whoever_closes(name: str, with_rest: bool) -> None:
    form = ALL[name]
    body = framed(form.content_type, *form.middle, *form.end, *(form.after if with_rest else ()))
    for leg, end, metadata in all_endings(form, begun(form, body)):
        assert metadata["outcome"] == "complete", (leg, end)
        assert "error" not in metadata
        assert metadata.get("closed_by") == CLOSED_BY.get((leg, end)), (leg, end)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.sampled(12, rest="thorough")
def test_a_stream_without_its_end_mark_ends_as_its_connection_or_is_truncated(name: str) -> None:
    form = ALL[name]
    body = begun(form, framed(form.content_type, *form.middle))
    for leg, end, metadata in all_endings(form, body):
        if end == "complete" and name in FORMATS:
            assert (metadata["outcome"], metadata["error"]["type"]) == ("error", "truncated_stream")
        else:
            assert metadata["outcome"] == end
            assert metadata.get("error", {}).get("type") == ("ReadError" if end == "error" else None)
        assert metadata.get("closed_by") == CLOSED_BY.get((leg, end)), (leg, end)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.sampled(16, rest="thorough")
def test_a_providers_error_ends_a_stream(name: str, first: bool) -> None:
    form = ALL[name]
    events = [form.error] if first else [*form.middle, form.error]
    if first and name == "cohere":
        events = [form.middle[0], form.error]
    for leg, end, metadata in all_endings(form, begun(form, framed(form.content_type, *events))):
        assert (metadata["outcome"], metadata["error"]["type"]) == ("complete", "provider"), (leg, end)
        assert metadata["error"]["message"], (leg, end)


def begun(form: Format, body: bytes) -> bytes:
    return b"[" + body[:-1] if form.content_type == ARRAY else body


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b'error: {"code":400,"message":"too long","type":"exceeds"}\n\n',
         {"message": "too long", "provider_type": "exceeds", "provider_code": "400"}),
        (sse(chat("hi")) + b"error: no room\n\n", {"message": "no room"}),
        (b'{"error":{"message":"no"}}', {"message": "no"}),
        (b': ping\n\n{"error":{"message":"no"}}', {"message": "no"}),
        (sse(chat("hi")) + b'{\n  "error": {"message": "no"}\n}\n', {"message": "no"}),
        (b"event: error\ndata: all is lost\n\n", {"message": "all is lost"}),
        (b'event: error\ndata: {"message": "lost", "code": "x"}\n\n', {"message": "lost", "provider_code": "x"}),
        (sse({"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "down"}}]}),
         {"message": "down", "provider_code": "502"}),
        (sse(chat("hi")) + sse(chat(None, "error")), {"message": "finish_reason: error"}),
        (sse([{"error": {"status": "UNAVAILABLE", "message": "no"}}]),
         {"message": "no", "provider_type": "UNAVAILABLE"}),
        (sse({"object": "error", "message": "m", "code": 40303}), {"message": "m", "provider_code": "40303"}),
    ],
)  # fmt: skip
def test_an_error_of_any_form_is_the_providers(stream: bytes, error: dict[str, str]) -> None:
    form = FORMATS["chat"]
    for variant in variants(SSE):
        for metadata in legs(stream, form, {"client": "complete", "backend": "complete"}, **variant).values():
            assert (metadata["outcome"], metadata["error"]) == ("complete", {"type": "provider", **error})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": {"message": "no", "type": "server_error", "code": None}},
         {"message": "no", "provider_type": "server_error"}),
        ({"error": "no"}, {"message": "no"}),
        ({"choices": [{"message": {"content": ""}, "error": {"message": "down", "code": 502}}]},
         {"message": "down", "provider_code": "502"}),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}, {"message": "finish_reason: error"}),
        ({"object": "response", "status": "failed", "error": {"code": "busy", "message": "no"}, "output": []},
         {"message": "no", "provider_code": "busy"}),
        ({"object": "response", "status": "failed", "error": None, "output": []},
         {"message": "", "provider_type": "response.failed"}),
        (OVERLOADED, {"message": "Overloaded", "provider_type": "overloaded_error"}),
        ([{"candidates": []}, {"error": {"status": "UNAVAILABLE", "message": "no"}}],
         {"message": "no", "provider_type": "UNAVAILABLE"}),
        ({"choices": [{"message": {"content": "an error"}, "finish_reason": "stop"}], "error": None}, None),
        ({"object": "response", "status": "completed", "error": None, "output": []}, None),
    ],
)  # fmt: skip
def test_an_error_in_a_whole_answer_is_the_providers(answer: Any, error: dict[str, str] | None) -> None:
    desk = Desk()
    whole(desk, post(), json.dumps(answer).encode())
    (metadata,) = (r["metadata"] for r in desk.records() if r["direction"] == "inbound_response")
    assert metadata["outcome"] == "complete"
    assert metadata.get("error") == (error and {"type": "provider", **error})


def test_an_answer_whose_status_tells_of_the_error_has_no_second_one() -> None:
    desk = Desk()
    whole(desk, post(), b'{"error":{"message":"no"}}', JSON, status=429)
    (metadata,) = (r["metadata"] for r in desk.records() if r["direction"] == "inbound_response")
    assert "error" not in metadata


@pytest.mark.parametrize(
    ("path", "content_type", "body", "outcome"),
    [
        (CHAT, SSE, b"", "error"),
        (CHAT, SSE, b": ping\n\n", "error"),
        (MESSAGES, SSE, b'event: ping\ndata: {"type": "ping"}\n\n', "error"),
        ("/unknown", SSE, b"", "complete"),
        ("/unknown", SSE, b'data: {"token": "hi"}\n\n', "complete"),
        (CHAT, SSE, b'data: {"token": "hi"}\n\n', "complete"),
        (CHAT, SSE, b"data: hi\n\n", "complete"),
        (CHAT, "text/plain", b"hi", "complete"),
        (CHAT, "application/json", b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}', "complete"),
        (MESSAGES, "application/json", b'{"type":"message","content":[]}', "complete"),
        ("/v1/responses", "application/json", b'{"object":"response","status":"queued","output":[]}', "complete"),
    ],
)
def test_what_is_no_stream_of_a_known_format_ends_as_its_connection(
    path: str, content_type: str, body: bytes, outcome: str
) -> None:
    form = Format(content_type, path, [], [], [])
    told = legs(body, form, {"client": "complete", "backend": "complete"})
    assert {metadata["outcome"] for metadata in told.values()} == {outcome}


def test_an_end_mark_that_may_have_been_lost_is_not_missed() -> None:
    form = FORMATS["chat"]
    body = framed(SSE, *form.middle) + sse(chat("x" * 3000, "stop"))
    told = legs(body, form, {"client": "complete", "backend": "complete"}, capture_max_payload_bytes=1024)
    assert {metadata["outcome"] for metadata in told.values()} == {"complete"}
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(b'{"stream":true}'))
    exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", SSE.encode())]))
    exchange.chunk(3 * NS, framed(SSE, *form.middle))
    desk.put, kept = lambda *_event: False, desk.put  # type: ignore[method-assign]
    exchange._put = desk.put  # a queue that is full
    exchange.chunk(3 * NS, sse(chat(None, "stop")))
    exchange._put = kept
    exchange.end(4 * NS, "complete")
    metadata = desk.records()[-2]["metadata"]
    assert (metadata["outcome"], metadata["lost_chunks"]) == ("complete", 1)


def test_bytes_that_cannot_be_decoded_end_as_their_connection() -> None:
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(b'{"stream":true}'))
    headers = [(b"content-type", SSE.encode()), (b"content-encoding", b"gzip")]
    exchange.response(2 * NS, ResponseHead(200, None, headers))
    exchange.chunk(3 * NS, gzip.compress(framed(SSE, *FORMATS["chat"].middle))[:-8] + b"no gzip at all")
    exchange.end(4 * NS, "complete")
    (metadata,) = (r["metadata"] for r in desk.records() if r["direction"] == "stream_end")
    assert (metadata["outcome"], metadata["incomplete"]) == ("complete", "undecodable")


@pytest.mark.parametrize(
    ("error", "by"), [("ReadTimeout", "proxy"), ("ServerTimeoutError", "proxy"), ("RemoteProtocolError", "backend")]
)
def test_who_closed_a_backends_connection_is_told_by_the_error(error: str, by: str) -> None:
    form = FORMATS["chat"]
    for body in (framed(SSE, *form.middle), framed(SSE, *form.middle, *form.end)):
        told = legs(body, form, {"client": "complete", "backend": "error"}, error=error)
        assert told["backend"]["closed_by"] == by


@pytest.mark.parametrize(("leg", "asker", "by"), [
    ("client", True, "client"), ("client", False, "proxy"), ("backend", True, "proxy"), ("backend", False, "backend"),
])  # fmt: skip
def test_who_closed_a_websocket(leg: str, asker: bool, by: str) -> None:
    desk = Desk()
    exchange = desk.exchange(leg)
    exchange.begin(post(None)._replace(websocket=True))
    exchange.response(2 * NS, ResponseHead(101, None, []))
    exchange.end(3 * NS, "complete", None, WebsocketClose(1000, "", asker))
    (metadata,) = (r["metadata"] for r in desk.records() if r["direction"] == "websocket_end")
    assert metadata["closed_by"] == by


def test_a_capture_that_failed_says_so_whatever_it_saw() -> None:
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(b'{"stream":true}'))
    exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", SSE.encode())]))
    exchange.chunk(3 * NS, b"data: [DONE]\n\n")
    exchange.fail(4 * NS, ValueError("broken"))
    desk.failures.clear()
    (metadata,) = (r["metadata"] for r in desk.records() if r["direction"] == "stream_end")
    assert (metadata["outcome"], metadata["error"]["type"]) == ("error", "CaptureFailure")
    assert "closed_by" not in metadata


@pytest.mark.parametrize("last", [0, 1])
def test_a_stream_of_two_choices_has_ended_with_the_last_of_them(last: int) -> None:
    form = FORMATS["chat"]
    middle = [chat("hi"), chat("ho", index=1), chat(None, "stop", index=1 - last)]
    ends: dict[str, Any] = {"client": "client_disconnect", "backend": "closed"}
    for variant in variants(SSE):
        for metadata in legs(framed(SSE, *middle), form, ends, **variant).values():
            assert metadata["outcome"] != "complete"
        for metadata in legs(framed(SSE, *middle, chat(None, "stop", index=last)), form, ends, **variant).values():
            assert metadata["outcome"] == "complete"


def test_a_leg_that_goes_on_alone_knows_the_choices_that_were_open() -> None:
    desk, flow = Desk(), LiveFlow("flow")
    backend, client = desk.exchange("backend", flow), desk.exchange("client", flow)
    for exchange in (backend, client):
        exchange.begin(post(b'{"stream":true}'))
        exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", SSE.encode())]))
    for event in (chat("hi"), chat("ho", index=1)):
        for exchange in (backend, client):
            exchange.chunk(3 * NS, sse(event))
    for event in desk.events:
        desk.process.recorder.feed(event)
    desk.events.clear()
    desk.process.recorder.tick(4 * NS, everything=True)
    client.chunk(5 * NS, sse(chat(None, "stop")))
    client.end(6 * NS, "client_disconnect")
    backend.end(6 * NS, "closed")
    ends = {r["metadata"]["leg"]: r["metadata"] for r in desk.records() if r["direction"].endswith("stream_end")}
    assert {leg: metadata["outcome"] for leg, metadata in ends.items()} == {
        "client": "client_disconnect", "backend": "closed",
    }  # fmt: skip
