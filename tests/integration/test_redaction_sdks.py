"""Secrets in prompts and answers, through vendors' SDKs and the real proxy: none is written, in any format, on any leg.

The backend repeats what it is asked to, a few characters an event, as text, as reasoning and as a tool's arguments.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_wirecap
from otel_wirecap.reading.reader import read_records

BIN = Path(sys.executable).parent
FORMATS = ("jsonl", "text", "structured", "cbor")
SIZES = (1, 3, 5, 2)
_DELTA = re.compile(
    r'"(?:content|reasoning_content|arguments|text|thinking|partial_json|delta)":\s*"((?:[^"\\]|\\.)*)"'
)


def tokens(text: str) -> Iterator[str]:
    at = number = 0
    while at < len(text):
        yield text[at : at + SIZES[number % len(SIZES)]]
        at, number = at + SIZES[number % len(SIZES)], number + 1


def openai_chat(text: str) -> Iterator[Any]:
    def delta(**said: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": said, "finish_reason": None}
        return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    yield delta(role="assistant", content="")
    yield from (delta(reasoning_content=token) for token in tokens(text))
    yield from (delta(content=token) for token in tokens(text))
    function = {"name": "save", "arguments": ""}
    yield delta(tool_calls=[{"index": 0, "id": "t-1", "type": "function", "function": function}])
    for token in tokens(json.dumps({"note": text})):
        yield delta(tool_calls=[{"index": 0, "function": {"arguments": token}}])


def openai_responses(text: str) -> Iterator[Any]:
    place = {"item_id": "i-1", "output_index": 0, "content_index": 0}
    for number, token in enumerate(tokens(text)):
        event = {
            "type": "response.output_text.delta",
            "sequence_number": number,
            **place,
            "delta": token,
            "logprobs": [],
        }
        yield event


def anthropic_messages(text: str) -> Iterator[Any]:
    message = {
        "id": "m-1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    yield {"type": "message_start", "message": message}
    blocks = (
        ({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking", text),
        ({"type": "text", "text": ""}, "text_delta", "text", text),
        ({"type": "tool_use", "id": "t-1", "name": "save", "input": {}}, "input_json_delta", "partial_json",
         json.dumps({"note": text})),
    )  # fmt: skip
    for index, (block, kind, member, said) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for token in tokens(said):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, member: token}}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    }
    yield {"type": "message_stop"}


def gemini(text: str) -> Iterator[Any]:
    for token in tokens(text):
        yield {"candidates": [{"content": {"parts": [{"text": token}], "role": "model"}, "index": 0}]}


STREAMS: dict[str, Callable[[str], Iterator[Any]]] = {
    "/chat/completions": openai_chat, "/responses": openai_responses, "/messages": anthropic_messages,
    ":streamGenerateContent": gemini,
}  # fmt: skip


class Repeater(BaseHTTPRequestHandler):
    """Repeats the last text of a request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        text = re.findall(r"repeat: ([^\"\\]+)", json.dumps(asked))[-1]
        if asked.get("stream") or "streamGenerateContent" in path:
            events = next(make for end, make in STREAMS.items() if path.endswith(end))(text)
            self._stream(events)
            return
        message = {"role": "assistant", "content": text}
        answer = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
        body = gzip.compress(json.dumps(answer).encode())
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            chunk = f"{name}data: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repeater)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(10)
    server.server_close()


class Planted:
    """Secrets: with a shape, without one but in the environment, and that of the requests."""

    def __init__(self) -> None:
        self.shaped = "ghp_" + secrets.token_hex(20)
        self.known = secrets.token_hex(16)
        self.key = "sk-proj-" + secrets.token_urlsafe(48)

    @property
    def text(self) -> str:
        return f"the one is {self.shaped}, the other {self.known} - and mine {self.key}."

    def pieces(self) -> set[str]:
        return {
            secret[at : at + 8]
            for secret in (self.shaped, self.known, self.key.removeprefix("sk-proj-"))
            for at in range(len(secret) - 7)
        }

    def assert_absent(self, text: str) -> None:
        assert not [piece for piece in self.pieces() if piece in text]


def ask_all(url: str, planted: Planted) -> None:
    """Has every SDK ask, streaming and not; what it gets back is what it asked for."""
    ask = f"repeat: {planted.text}"
    with openai.OpenAI(base_url=url + "/v1", api_key=planted.key, max_retries=0) as client:
        chat: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": ask}]}
        assert client.chat.completions.create(**chat).choices[0].message.content == planted.text
        deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**chat, stream=True)]
        assert "".join(delta.content or "" for delta in deltas) == planted.text
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == planted.text
        calls = [delta.tool_calls[0].function.arguments for delta in deltas if delta.tool_calls]
        assert json.loads("".join(calls)) == {"note": planted.text}
        events = client.responses.create(model="m", input=ask, stream=True)
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == planted.text
    with (
        anthropic.Anthropic(base_url=url + "/anthropic", api_key=planted.key, max_retries=0) as claude,
        claude.messages.stream(model="m", max_tokens=99, messages=[{"role": "user", "content": ask}]) as stream,
    ):
        thinking, said, call = stream.get_final_message().content
        assert (thinking.thinking, said.text, call.input) == (planted.text, planted.text, {"note": planted.text})
    google = genai.Client(api_key=planted.key, http_options={"base_url": url + "/gemini"})
    parts = google.models.generate_content_stream(model="m", contents=ask)
    assert "".join(part.text or "" for part in parts) == planted.text
    google.close()


def texts_of(path: Path, form: str) -> list[str]:
    """What was written: as it stands, and what a reader of it would put together, a leg each."""
    content = path.read_bytes().decode("utf-8", "replace")
    if form == "text":
        return [content, "".join(_DELTA.findall(content))]
    records = list(read_records(path)) if form != "structured" else [json.loads(line) for line in content.splitlines()]
    found = [content, json.dumps(records, default=str)]
    for leg in ("client", "backend"):
        payloads = [record["payload"] for record in records if record["metadata"].get("leg") == leg]
        found.append("".join(_DELTA.findall("".join(payload for payload in payloads if isinstance(payload, str)))))
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_no_secret_of_a_prompt_or_an_answer_is_written_by_the_proxy(form: str, backend: str, tmp_path: Path) -> None:
    planted = Planted()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "WIRE_CAPTURE", "GOOGLE_", "OPENAI_"))}
    command = [str(BIN / "otel-wirecap"), "proxy", "--port", "0", "--capture-file", "capture.log"]
    command += ["--capture-format", form, "--backend", f"openai={backend}", "--backend", f"anthropic={backend}"]
    command += ["--backend", f"gemini={backend}"]
    environment = clean | {"INTERNAL_TOKEN": planted.known, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", told)):
            line = process.stderr.readline()
            assert line, told
            told += line
        try:
            ask_all(found[0], planted)
        finally:
            process.send_signal(signal.SIGTERM)
            told += process.communicate(timeout=30)[1]
    planted.assert_absent(told)
    texts = texts_of(tmp_path / "capture.log", form)
    for text in texts:
        planted.assert_absent(text)
    assert texts[0].count("[REDACTED]") > 20
    for joined in texts[1:] if form == "text" else texts[2:]:  # what is no secret is there
        assert "the one is [REDACTED], the other [REDACTED] - and mine [REDACTED]." in joined


def test_no_secret_is_in_spans_or_in_the_log(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    planted = Planted()
    monkeypatch.setenv("INTERNAL_TOKEN", planted.known)
    caplog.set_level(logging.DEBUG, logger="otel_wirecap")
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel_wirecap.instrument(capture_file=tmp_path / "capture.log", tracer_provider=provider)
    try:
        with openai.OpenAI(base_url=backend + "/v1", api_key=planted.key, max_retries=0) as client:
            ask: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"repeat: {planted.text}"}]}
            client.chat.completions.create(**ask)
            list(client.chat.completions.create(**ask, stream=True))
    finally:
        otel_wirecap.uninstrument()
    spans = exporter.get_finished_spans()
    assert len(spans) == 2
    planted.assert_absent("".join(span.to_json() for span in spans))
    planted.assert_absent("".join(record.getMessage() for record in caplog.records if record.name == "otel_wirecap"))
    planted.assert_absent((tmp_path / "capture.log").read_text())
