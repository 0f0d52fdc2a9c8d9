"""A fake LLM backend for demonstrations: OpenAI chat and responses, Anthropic messages, Gemini, on one port.

The model's name says what happens:

- ``demo-small``, ``demo-large``: a reply, or a call of the first tool that the request offers;
- ``demo-endless``: a stream of some seconds, to be left in the middle;
- ``demo-overloaded-stream``: a stream that ends in the provider's own error event;
- ``demo-rate-limited``: status 429 in the provider's own shape;
- any other name that begins with ``demo-``, and none: status 404 in the provider's own shape;
- any other name: as ``demo-small``, so that programs run against it as they are.

``python -m otel_wirecap.proxy.demo_backend [--port PORT]`` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import secrets
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from otel_wirecap.errors import WireCaptureError
from otel_wirecap.proxy import demo_replies as replies
from otel_wirecap.proxy.demo_replies import Reply, Tool
from otel_wirecap.proxy.provider_errors import anthropic_error, gemini_error, openai_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_wirecap.proxy.provider_errors import Body

MODELS = frozenset({"demo-small", "demo-large", "demo-endless", "demo-overloaded-stream"})
RATE_LIMITED = "demo-rate-limited"
ENDLESS_ROUNDS = 20
BYTES_A_TOKEN = 4
PACE_SECONDS = 0.012

LIMIT_REACHED = "Rate limit reached for requests. Please try again in 1s."


class _Refused(Exception):  # noqa: N818  # an answer of its own
    """The request gets an error: status 404 or 429."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _API(NamedTuple):
    """How one of the APIs is spoken.

    Attributes:
        function_of: finds the function in an entry of ``tools``.
        schemas: where the function may have the schema of its arguments.
        refusal: makes the body of an error.
        whole: makes the body of a reply.
        events: makes the events of a reply that is streamed, as the request's body wants it.
    """

    function_of: Callable[[Body], Body | None]
    schemas: tuple[str, ...]
    refusal: Callable[[_Refused], Body]
    whole: Callable[[Reply], Body]
    events: Callable[[Reply, Body], Iterable[bytes]]


def create_demo_backend(*, pace: float = PACE_SECONDS) -> Starlette:
    """The fake backend as an ASGI application.

    Args:
        pace: seconds between two events of a stream.
    """
    backend = _Backend(pace)
    routes = {
        "/v1/chat/completions": _CHAT,
        "/v1/responses": _RESPONSES,
        "/v1/messages": _MESSAGES,
        "/{version}/models/{model}:generateContent": _GEMINI,
        "/{version}/models/{model}:streamGenerateContent": _GEMINI,
    }
    return Starlette(
        routes=[Route(path, functools.partial(backend.answer, api), methods=["POST"]) for path, api in routes.items()]
    )


class _Backend:
    def __init__(self, pace: float) -> None:
        self._pace = pace

    async def answer(self, api: _API, request: Request) -> Response:
        """Answers a request of one of the APIs."""
        try:
            body, reply = await _asked(api, request)
        except _Refused as refused:
            return _json(api.refusal(refused), refused.status)
        streams = request.url.path.endswith(":streamGenerateContent")
        if not streams and not body.get("stream"):
            return _json(api.whole(reply))
        if streams and request.query_params.get("alt") != "sse":
            return self._stream(_array(replies.generated_parts(reply)), "application/json")
        return self._stream(api.events(reply, body))

    def _stream(self, events: Iterable[bytes], media_type: str = "text/event-stream") -> Response:
        headers = {"x-request-id": "req_" + secrets.token_hex(8), "cache-control": "no-cache"}
        return StreamingResponse(self._paced(events), media_type=media_type, headers=headers)

    async def _paced(self, events: Iterable[bytes]) -> AsyncIterator[bytes]:
        for event in events:
            for part in _cut_in_a_character(event):
                yield part
                await asyncio.sleep(self._pace)


async def _asked(api: _API, request: Request) -> tuple[Body, Reply]:
    """Reads a request: its body, and what is to be replied.

    Raises:
        _Refused: this model gets an error.
    """
    raw = await request.body()
    try:
        body: Any = json.loads(raw)
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    name = str(request.path_params.get("model") or body.get("model", ""))
    if name == RATE_LIMITED:
        raise _Refused(429, LIMIT_REACHED)
    if name not in MODELS and (not name or name.startswith("demo-")):
        raise _Refused(404, f"The model `{name}` does not exist or you do not have access to it.")
    tools = body.get("tools") or []
    function = api.function_of(tools[0]) if tools else None
    reply = Reply(
        model=name,
        id=secrets.token_hex(12),
        input_tokens=max(1, len(raw) // BYTES_A_TOKEN),
        pieces=replies.PIECES * (ENDLESS_ROUNDS if name == "demo-endless" else 1),
        tool=_call(function, api.schemas) if function else None,
        breaks=name == "demo-overloaded-stream",
    )
    return body, reply


def _call(function: Body, schema: tuple[str, ...]) -> Tool:
    found = (function[name] for name in schema if name in function)
    return Tool.of(str(function.get("name")), next(found, None))


def _first_declaration(tool: Body) -> Body | None:
    declarations = tool.get("functionDeclarations") or tool.get("function_declarations") or [None]
    found: Body | None = declarations[0]
    return found


def _openai_refusal(refused: _Refused) -> Body:
    if refused.status == 429:
        return openai_error(refused.message, "requests", "rate_limit_exceeded")
    return openai_error(refused.message, "invalid_request_error", "model_not_found")


def _anthropic_refusal(refused: _Refused) -> Body:
    kind = "rate_limit_error" if refused.status == 429 else "not_found_error"
    return anthropic_error(refused.message, kind) | replies.REQUEST_ID


def _gemini_refusal(refused: _Refused) -> Body:
    status = "RESOURCE_EXHAUSTED" if refused.status == 429 else "NOT_FOUND"
    return gemini_error(refused.status, refused.message, status)


def _chat_events(reply: Reply, body: Body) -> Iterable[bytes]:
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return replies.chat_events(reply, include_usage=wants_usage)


_CHAT = _API(lambda tool: tool.get("function"), ("parameters",), _openai_refusal, replies.chat_completion, _chat_events)
_RESPONSES = _API(
    lambda tool: tool, ("parameters",), _openai_refusal, replies.response,
    lambda reply, _: replies.response_events(reply),
)  # fmt: skip
_MESSAGES = _API(
    lambda tool: tool, ("input_schema",), _anthropic_refusal, replies.message,
    lambda reply, _: replies.message_events(reply),
)  # fmt: skip
_GEMINI = _API(
    _first_declaration,
    ("parameters", "parametersJsonSchema", "parameters_json_schema"),  # Google's SDK sends the last one
    _gemini_refusal, replies.generated_content,
    lambda reply, _: map(replies.gemini_event, replies.generated_parts(reply)),
)  # fmt: skip


def _json(body: Body, status: int = 200) -> Response:
    headers = {"x-request-id": "req_" + secrets.token_hex(8)}
    if status == 429:
        headers["retry-after"] = "1"
    return JSONResponse(body, status, headers)


def _array(parts: Iterable[Body]) -> Iterator[bytes]:
    """The parts as one JSON array, which is how Gemini streams without ``alt=sse``."""
    before = b"["
    for part in parts:
        yield before + json.dumps(part, ensure_ascii=False).encode()
        before = b"\r\n,\r\n"
    yield b"]"


def _cut_in_a_character(event: bytes) -> tuple[bytes, ...]:
    """An event with a character of several bytes goes out in two chunks, cut within it, as networks do."""
    place = next((number for number, byte in enumerate(event) if byte > 0x7F), None)
    return (event,) if place is None else (event[: place + 1], event[place + 1 :])


def main() -> None:
    """Runs the backend on a loopback port, until it is told to stop."""
    from otel_wirecap.proxy.server import serve

    parser = argparse.ArgumentParser(prog="otel_wirecap.proxy.demo_backend")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    try:
        serve(create_demo_backend(), "127.0.0.1", parser.parse_args().port, what="otel-wirecap demo backend")
    except WireCaptureError as error:
        sys.exit(f"otel-wirecap: {error}")


if __name__ == "__main__":
    main()
