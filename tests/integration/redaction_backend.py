"""A backend that answers as five providers do: token by token where a stream is asked for, compressed where it may."""

from __future__ import annotations

import gzip
import json
import re
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple

PIECE = 3
"""Characters of a delta: no secret is whole in any."""

NAMES = ("openai", "anthropic", "gemini", "mistral", "cohere")


class Words(NamedTuple):
    """What every answer says."""

    thought: str
    text: str
    arguments: str


def pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def named(events: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    return (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


# -- OpenAI chat, Mistral ----------------------------------------------------------------------------------------------


def call(arguments: str, **more: Any) -> dict[str, Any]:
    return {"id": "call_123456789", "type": "function", "function": {"name": "look_up", "arguments": arguments}, **more}


def chat(words: Words) -> dict[str, Any]:
    message = {
        "role": "assistant", "content": words.text, "reasoning_content": words.thought,
        "tool_calls": [call(words.arguments)],
    }  # fmt: skip
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m-2",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33},
    }  # fmt: skip


def chat_stream(words: Words) -> Iterator[bytes]:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        told = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-2", "choices": [choice]}
        return f"data: {json.dumps(told, separators=(',', ':'))}\n\n".encode()

    yield event({"role": "assistant", "content": ""})
    for piece in pieces(words.thought):
        yield event({"reasoning_content": piece})
    for piece in pieces(words.text):
        yield event({"content": piece})
    yield event({"tool_calls": [call("", index=0)]})
    for piece in pieces(words.arguments):
        yield event({"tool_calls": [{"index": 0, "function": {"name": "", "arguments": piece}}]})
    yield event({}, "tool_calls")
    yield b"data: [DONE]\n\n"


# -- OpenAI responses --------------------------------------------------------------------------------------------------


def response(words: Words, *, done: bool = True) -> dict[str, Any]:
    output = [
        {"id": "rs1", "type": "reasoning", "summary": [{"type": "summary_text", "text": words.thought}]},
        {
            "id": "msg1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": words.text, "annotations": []}],
        },
        {
            "id": "fc1", "type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": words.arguments,
            "status": "completed",
        },
    ]  # fmt: skip
    return {
        "id": "resp1", "object": "response", "created_at": 1, "model": "m-2", "output": output if done else [],
        "status": "completed" if done else "in_progress", "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def responses_stream(words: Words) -> Iterator[bytes]:
    def events() -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": response(words, done=False)}
        for piece in pieces(words.thought):
            yield {
                "type": "response.reasoning_summary_text.delta", "item_id": "rs1", "output_index": 0,
                "summary_index": 0, "delta": piece,
            }  # fmt: skip
        for piece in pieces(words.text):
            yield {
                "type": "response.output_text.delta", "item_id": "msg1", "output_index": 1, "content_index": 0,
                "delta": piece, "logprobs": [],
            }  # fmt: skip
        for piece in pieces(words.arguments):
            yield {
                "type": "response.function_call_arguments.delta", "item_id": "fc1", "output_index": 2, "delta": piece,
            }  # fmt: skip
        yield {"type": "response.completed", "response": response(words)}

    return named({**event, "sequence_number": number} for number, event in enumerate(events()))


# -- Anthropic ---------------------------------------------------------------------------------------------------------


def message(words: Words) -> dict[str, Any]:
    content = [
        {"type": "thinking", "thinking": words.thought, "signature": "c2lnbmVk"},
        {"type": "text", "text": words.text},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": json.loads(words.arguments)},
    ]
    usage = {"input_tokens": 11, "output_tokens": 22}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m-2", "content": content,
        "stop_reason": "tool_use", "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def message_stream(words: Words) -> Iterator[bytes]:
    def events() -> Iterator[dict[str, Any]]:
        whole = message(words)
        yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
        deltas = (
            ("thinking_delta", "thinking", words.thought), ("text_delta", "text", words.text),
            ("input_json_delta", "partial_json", words.arguments),
        )  # fmt: skip
        for index, ((kind, member, text), block) in enumerate(zip(deltas, whole["content"], strict=True)):
            empty = {**block, "input": {}} if kind == "input_json_delta" else {**block, member: ""}
            yield {"type": "content_block_start", "index": index, "content_block": empty}
            for piece in pieces(text):
                yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, member: piece}}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 22}}
        yield {"type": "message_stop"}

    return named(events())


# -- Gemini ------------------------------------------------------------------------------------------------------------


def answer(*parts: dict[str, Any]) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"index": 0, "content": content}], "modelVersion": "m-2", "responseId": "r1"}


def function_call(words: Words) -> dict[str, Any]:
    return {"functionCall": {"name": "look_up", "args": json.loads(words.arguments)}}


def generate(words: Words) -> dict[str, Any]:
    return answer({"text": words.thought, "thought": True}, {"text": words.text}, function_call(words))


def generate_stream(words: Words) -> Iterator[bytes]:
    parts = [
        *({"text": piece, "thought": True} for piece in pieces(words.thought)),
        *({"text": piece} for piece in pieces(words.text)),
        function_call(words),
    ]
    return (f"data: {json.dumps(answer(part))}\r\n\r\n".encode() for part in parts)


# -- Cohere ------------------------------------------------------------------------------------------------------------


def cohere(words: Words) -> dict[str, Any]:
    told = {
        "role": "assistant", "tool_plan": words.thought, "content": [{"type": "text", "text": words.text}],
        "tool_calls": [call(words.arguments)],
    }  # fmt: skip
    return {"id": "c1", "finish_reason": "TOOL_CALL", "message": told}


def cohere_stream(words: Words) -> Iterator[bytes]:
    def events() -> Iterator[dict[str, Any]]:
        yield {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}}
        for piece in pieces(words.thought):
            yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}
        yield {
            "type": "content-start", "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": ""}}},
        }  # fmt: skip
        for piece in pieces(words.text):
            yield {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
        yield {"type": "tool-call-start", "index": 1, "delta": {"message": {"tool_calls": call("")}}}
        for piece in pieces(words.arguments):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": 1, "delta": delta}
        yield {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}}

    return named(events())


# -- the server --------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    words: ClassVar[Words]
    requests: ClassVar[list[tuple[str, bytes]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.requests.append((str(self.headers), body))
        path = self.path.partition("?")[0]
        path = re.sub(r"^/to/\w+", "", path)  # as proxies send it that do not know /to/NAME
        asked = json.loads(body)
        if path == "/v1/chat/completions":
            whole, stream = chat, chat_stream
        elif path == "/v1/responses":
            whole, stream = response, responses_stream
        elif path == "/v1/messages":
            whole, stream = message, message_stream
        elif path == "/v2/chat":
            whole, stream = cohere, cohere_stream
        else:
            whole, stream = generate, generate_stream
        may_compress = "gzip" in self.headers.get("accept-encoding", "")
        if asked.get("stream") or path.endswith(":streamGenerateContent"):
            # One of the streams is compressed, event by event.
            self._stream(
                stream(self.words), zlib.compressobj(wbits=31) if may_compress and path == "/v1/messages" else None
            )
        else:
            self._whole(json.dumps(whole(self.words)).encode(), compress=may_compress)

    def _whole(self, body: bytes, *, compress: bool) -> None:
        body = gzip.compress(body) if compress else body
        self.send_response(200)
        self.send_header("content-type", "application/json")
        if compress:
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[bytes], packer: Any) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        if packer is not None:
            self.send_header("content-encoding", "gzip")
        self.end_headers()
        for event in events:
            self._chunk(event if packer is None else packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH))
        if packer is not None:
            self._chunk(packer.flush())
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Backend:
    """The backend, served until it is closed.

    Attributes:
        url: where.
        requests: headers and body of every request.
    """

    def __init__(self, words: Words) -> None:
        self.requests: list[tuple[str, bytes]] = []
        handler = type("Handler", (_Handler,), {"words": words, "requests": self.requests})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
