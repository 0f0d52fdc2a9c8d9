"""A known value that is cut off is masked as far as it came: in chunks, in bodies, in what they add up to."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from otel_wirecap.capture.events import ErrorInfo, ResponseHead, WebsocketMessage
from otel_wirecap.capture.redaction.gate import MARKER, Gate
from tests.capture.test_recorder import NS, Desk, payload_bytes, post

EVENTS = (b"content-type", b"text/event-stream")


def openai(text: str) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}


def anthropic(text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def responses(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": text}


def gemini(text: str) -> dict[str, Any]:
    return {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}]}


def ollama(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "done": False}


FORMATS: dict[str, tuple[Callable[[str], dict[str, Any]], bytes, bytes]] = {
    "openai": (openai, b"text/event-stream", b"data: %s\n\n"),
    "anthropic": (anthropic, b"text/event-stream", b"event: content_block_delta\ndata: %s\n\n"),
    "responses": (responses, b"text/event-stream", b"data: %s\n\n"),
    "gemini": (gemini, b"text/event-stream", b"data: %s\n\n"),
    "ollama": (ollama, b"application/x-ndjson", b"%s\n"),
}


def key() -> str:
    return "k9" + base64.urlsafe_b64encode(secrets.token_bytes(21)).decode().strip("-_")


def leaks(value: str, lines: list[bytes]) -> bool:
    return value[:8].encode() in b"".join(lines)


@pytest.mark.parametrize("end", ["complete", "client_disconnect", "error"])
@pytest.mark.parametrize("sent_by", ["environment", "client"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_stream_adds_up_to(name: str, sent_by: str, end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    event, kind, frame = FORMATS[name]
    value = key()
    headers = []
    if sent_by == "environment":
        monkeypatch.setenv("MISTRAL_API_KEY", value)
    else:
        headers = [(b"authorization", f"Bearer {value}".encode())]
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(b'{"stream": true}', *headers))
    exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", kind)]))
    for text in ["key ", *(value[at : at + 4] for at in range(0, 20, 4))]:
        exchange.chunk(3 * NS, frame % json.dumps(event(text)).encode())
    exchange.end(4 * NS, end)
    records = desk.records()
    assert not leaks(value, desk.lines)
    (answer,) = [record for record in records if record["direction"] == "inbound_response"]
    assert MARKER in json.dumps(answer["payload"])


BODIES = {
    "JSON": (b"application/json", '{{"choices":[{{"message":{{"content":"key {0}"}}}}]}}'),
    "JSON, cut": (b"application/json", '{{"choices":[{{"message":{{"content":"key {0}'),
    "JSON within JSON": (b"application/json", '{{"arguments":"{{\\"text\\":\\"key {0}\\"}}"}}'),
    "text": (b"text/plain", "key {0}"),
    "bytes": (b"application/octet-stream", "\0\1 key {0}"),
    "form": (b"application/x-www-form-urlencoded", "a=b&text=key+{0}"),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("way", ["request", "response"])
def test_a_body_that_ends_within_it(kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = key()
    monkeypatch.setenv("MISTRAL_API_KEY", value)
    content_type, body = BODIES[kind]
    sent = body.format(value[:20]).encode()
    desk = Desk()
    exchange = desk.exchange()
    headers = [(b"content-type", content_type)]
    exchange.begin(post(b"{}" if way == "response" else sent)._replace(headers=headers))
    exchange.response(2 * NS, ResponseHead(200, None, headers))
    exchange.chunk(3 * NS, sent if way == "response" else b"{}")
    exchange.end(4 * NS, "error", ErrorInfo("ReadError", "cut"))
    found = [payload_bytes(record) for record in desk.records() if record["content_type"] == "bytes"]
    assert not leaks(value, [*desk.lines, *found])


def test_a_message_of_a_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    value = key()
    monkeypatch.setenv("MISTRAL_API_KEY", value)
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(b"")._replace(websocket=True))
    exchange.response(2 * NS, ResponseHead(101, None, []))
    exchange.message(3 * NS, WebsocketMessage(asker=False, opcode=1, data=json.dumps({"delta": f"key {value[:20]}"})))
    exchange.end(4 * NS, "closed")
    desk.records()
    assert not leaks(value, desk.lines)


@pytest.mark.parametrize("text", ["we use postgres", "Tell me about Anthropic", '{"name": "postgres"}', "postgres-"])
def test_a_word_that_a_known_value_begins_with_stays(text: str) -> None:
    values = ["postgres-production-1", "anthropic-internal-key"]
    body = Gate(known_values=values).body(text, "application/json", is_json=text.startswith("{"))
    assert str(body.payload.data.decode() if hasattr(body.payload, "data") else body.payload) == (
        text if text != "postgres-" else MARKER
    )
