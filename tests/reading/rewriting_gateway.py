"""A gateway that changes what passes through it, as the path's first part says; and traffic through it, captured.

``capture(folder)`` serves it under ``otel-wirecap run``, with a backend behind it, and sends what it is given.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

WORDS = ("Every ", "byte ", "arrives.")
SESSION = "conversation-1"


# -- the gateway, in a process of its own ------------------------------------------------------------


def prompted(body: Any, _: int) -> Any:
    """Puts a message in front, renames, drops, adds and changes a parameter."""
    body["messages"].insert(0, {"role": "system", "content": "Be brief."})
    body["max_completion_tokens"] = body.pop("max_tokens")
    del body["top_k"]
    return body | {"temperature": 0.5, "user": "gateway"}


def stamped(body: Any, number: int) -> Any:
    """A system prompt that is another one each time."""
    body["messages"].insert(0, {"role": "system", "content": f"You are helpful. Request {number}."})
    return body


def shuffled(body: Any, number: int) -> Any:
    """Tools in an order that changes."""
    return body | {"tools": body["tools"][:: -1 if number % 2 else 1]}


def respelt(body: Any, number: int) -> Any:
    """The members of a tool's schema in an order that changes."""
    for tool in body["tools"]:
        schema = tool["function"]["parameters"]
        tool["function"]["parameters"] = dict(sorted(schema.items(), reverse=number % 2 == 0))
    return body


def unmarked(body: Any, _: int) -> Any:
    """Without the marks that tell Anthropic what to cache."""
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else ():
            part.pop("cache_control", None)
    return body


def translated(body: Any, _: int) -> Any:
    """Anthropic's request as one for OpenAI's chat, with one thing lost."""
    messages = [{"role": "system", "content": body["system"]}]
    for message in body["messages"]:
        parts = message["content"]
        if isinstance(parts, str):
            messages.append(message)
            continue
        calls = [part for part in parts if part["type"] == "tool_use"]
        if calls:
            messages.append({"role": "assistant", "content": None, "tool_calls": [
                {"id": part["id"], "type": "function",
                 "function": {"name": part["name"], "arguments": json.dumps(part["input"])}} for part in calls
            ]})  # fmt: skip
        messages += [
            {"role": "tool", "tool_call_id": part["tool_use_id"], "content": part["content"]}
            for part in parts if part["type"] == "tool_result"
        ]  # fmt: skip
    tools = [
        {"type": "function", "function": {
            "name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]
        }} for tool in body["tools"]
    ]  # fmt: skip
    told = {"model": body["model"], "messages": messages, "tools": tools, "max_completion_tokens": body["max_tokens"]}
    return told | ({"stop": body["stop_sequences"]} if "lossless" in body.get("metadata", {}) else {})


def answer_translated(body: bytes) -> bytes:
    answer = json.loads(body)
    choice = answer["choices"][0]
    return json.dumps({
        "id": "msg_1", "type": "message", "role": "assistant", "model": answer["model"], "stop_reason": "end_turn",
        "content": [{"type": "text", "text": choice["message"]["content"]}],
        "usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 3},
    }).encode()  # fmt: skip


REQUESTS = {
    "prompted": prompted, "stamped": stamped, "shuffled": shuffled, "respelt": respelt, "unmarked": unmarked,
    "translated": translated,
}  # fmt: skip
RESPONSES = {
    "translated": answer_translated,
    "commented": lambda body: body.replace(b"data: {", b": a comment\n\ndata: {"),
    "censored": lambda body: body.replace(b"byte ", b"bit "),
    "recut": lambda body: body,
}
numbers: dict[str, int] = {}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    import httpx

    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    how, _, path = scope["path"].strip("/").partition("/")
    numbers[how] = numbers.get(how, 0) + 1
    if how in REQUESTS:
        body = json.dumps(REQUESTS[how](json.loads(body), numbers[how])).encode()
    if how == "translated":
        path = "v1/chat/completions"
    headers = {"content-type": "application/json"} | ({"x-gateway": "1"} if how == "prompted" else {})
    url = f"{os.environ['BACKEND']}/{path}"
    async with httpx.AsyncClient() as client, client.stream("POST", url, content=body, headers=headers) as response:
        kind = response.headers["content-type"].encode()
        status = 200 if how == "pardoned" else response.status_code
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        if how in RESPONSES:
            await send({"type": "http.response.body", "body": RESPONSES[how](await response.aread())})
            return
        async for chunk in response.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


# -- the backend and the client, in the tests' process -----------------------------------------------


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        usage = {"prompt_tokens": 100, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 40}}
        if body.get("user") == "over quota":
            self._answer(429, "application/json", [json.dumps({"error": {"type": "rate_limit"}}).encode()])
        elif self.path == "/v1/messages":
            answer = {
                "type": "message", "role": "assistant", "model": body["model"], "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "".join(WORDS)}],
                "usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 3},
            }  # fmt: skip
            self._answer(200, "application/json", [json.dumps(answer).encode()])
        elif body.get("stream"):
            deltas = [{"content": word} for word in WORDS]
            events = [
                {"object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]}
                for delta in deltas
            ]
            events[-1]["choices"][0]["finish_reason"] = "stop"
            self._answer(200, "text/event-stream", [f"data: {json.dumps(event)}\n\n".encode() for event in events])
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
            self._answer(200, "application/json", [json.dumps(answer).encode()])

    def _answer(self, status: int, kind: str, pieces: list[bytes]) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in [*pieces, b""]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def log_message(self, *_: object) -> None:
        pass


def capture(folder: Path, requests: list[tuple[str, dict[str, Any]]]) -> Path:
    """The capture of these requests, each a path and a body, sent one after the other in one session."""
    path = folder / "gateway.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as backend, contextlib.ExitStack() as stack:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        stack.callback(backend.shutdown)
        command = [
            sys.executable,
            "-m",
            "otel_wirecap",
            "run",
            "--capture-file",
            str(path),
            "--",
            sys.executable,
            __file__,
        ]
        root = str(Path(__file__).parents[2])
        environ |= {"BACKEND": f"http://127.0.0.1:{backend.server_port}", "PYTHONPATH": root}
        process = stack.enter_context(subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True))
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            for where, body in requests:
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}{where}", json.dumps(body).encode(),
                    {"content-type": "application/json", "x-session-id": SESSION},
                )  # fmt: skip
                with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=60) as answer:
                    answer.read()
        finally:
            process.terminate()
            process.wait(60)
    return path


def main() -> None:
    import asyncio
    import socket

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="error", lifespan="off", server_header=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
