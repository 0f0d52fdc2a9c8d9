"""The proxy of ``proxy.py`` with a recorder written into it by hand, as an engineer would who has none to install.

    python benchmarks/peer_proxy.py --recorder loguru --capture capture.log --port 8000 --backend http://…

What is recorded is the same for all of them: the four legs of a request, their heads and bodies, each chunk of a stream
as it comes and as it has been sent, with a time; nothing is masked, decompressed or put together. All serialise with
orjson, so that what differs is the way from there into the file. ``contrib`` is the exception: OpenTelemetry's own
instrumentors of httpx and FastAPI, whose spans hold neither bodies nor chunks.
"""

from __future__ import annotations

import atexit
import base64
import itertools
import json
import logging
import logging.handlers
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import orjson
from fastapi import FastAPI, Request
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, set_span_in_context
from proxy import application, arguments, chat, serve
from span_lines import SpanLines
from starlette.responses import Response, StreamingResponse

MAX_BYTES = 1 << 30
ASKED, SENT, ANSWERED, RELAYED = "client request", "backend request", "backend response", "client response"
Headers = Iterable[tuple[bytes, bytes]]
Put = Callable[[int, str, Headers | None, bytes | None], object]
"""Records something of a leg: its head and body in one, its head alone, a chunk, or, with neither, its end."""


def document(at: int, flow: int, leg: str, headers: Headers | None, data: bytes | None) -> dict[str, object]:
    """A record, for serialising."""
    made: dict[str, object] = {"time": at, "flow": flow, "leg": leg}
    if headers is not None:
        made["headers"] = text_of(headers)
    if data is not None:
        try:
            made["data"] = data.decode()
        except UnicodeDecodeError:  # a chunk may end amid a character
            made["base64"] = base64.b64encode(data).decode()
    elif headers is None:
        made["end"] = True
    return made


def text_of(headers: Headers) -> list[tuple[str, str]]:
    """Headers as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def with_logging(path: str) -> Put:
    """Standard logging and its rotating file: a line a record, with a flush each."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=3, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("wire")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    now = time.time_ns
    return lambda *what: logger.info(orjson.dumps(document(now(), *what)).decode())


def with_loguru(path: str) -> Put:
    """Loguru and a file of its own: a line a record, with a flush each."""
    from loguru import logger

    logger.remove()
    logger.add(path, format="{message}", rotation=MAX_BYTES)
    now = time.time_ns
    return lambda *what: logger.info(orjson.dumps(document(now(), *what)).decode())


def with_spans(path: str) -> Put:
    """OpenTelemetry's SDK: a span a leg, its head as attributes, an event a chunk, without the limit to events."""
    tracer = provider(path, SpanLimits(max_events=SpanLimits.UNSET)).get_tracer("wire")
    open_spans: dict[tuple[int, str], Span] = {}
    flows: dict[int, Context] = {}

    def put(flow: int, leg: str, headers: Headers | None, data: bytes | None) -> None:
        if headers is not None:
            span = tracer.start_span(leg, flows.get(flow), attributes={"flow": flow})
            span.set_attributes({f"http.header.{name}": value for name, value in text_of(headers)})
            if leg == ASKED:
                flows[flow] = set_span_in_context(span)
            open_spans[flow, leg] = span
        else:
            span = open_spans[flow, leg]
        if data is not None:
            span.add_event("data", {"data": data.decode("utf-8", "backslashreplace")})
        if (headers is None) == (data is None):  # all in one, or the end
            span.end()
            del open_spans[flow, leg]
            if leg == RELAYED:
                del flows[flow]

    return put


def at_the_limit(path: str) -> Put:
    """A tuple into a list; every 256 of them are serialised at once and written where they came."""
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    waiting: list[tuple[int, int, str, Headers | None, bytes | None]] = []
    now, keep = time.time_ns, waiting.append

    def write() -> None:
        lines: list[bytes] = []
        size = 0
        for record in waiting:
            lines.append(orjson.dumps(document(*record), option=orjson.OPT_APPEND_NEWLINE))
            size += len(lines[-1])
            if size >= 65536:
                os.write(file, b"".join(lines))
                lines, size = [], 0
        os.write(file, b"".join(lines))
        waiting.clear()

    def put(flow: int, leg: str, headers: Headers | None, data: bytes | None) -> None:
        keep((now(), flow, leg, headers, data))
        if len(waiting) >= 256:
            write()

    atexit.register(write)
    return put


RECORDERS: dict[str, Callable[[str], Put]] = {
    "logging": with_logging, "loguru": with_loguru, "spans": with_spans, "limit": at_the_limit,
}  # fmt: skip


def provider(path: str, limits: SpanLimits | None = None) -> TracerProvider:
    """A provider whose spans go into a file in batches; not the global one, with which FastAPI would make its own."""
    made = TracerProvider(span_limits=limits)
    made.add_span_processor(BatchSpanProcessor(SpanLines(path)))
    return made


def instrument(app: FastAPI, client: str, path: str) -> None:
    """OpenTelemetry's own instrumentors, as they are without options."""
    from opentelemetry.instrumentation import httpx
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    instrumentor: Any = getattr(
        httpx, {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}[client]
    )
    spans = provider(path)
    instrumentor().instrument(tracer_provider=spans)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=spans)


def recorded(put: Put) -> Callable[[Request], Awaitable[Response]]:
    """What ``proxy.chat`` does, and a record of all that comes and goes."""
    flows = itertools.count(1)

    async def chat_recorded(request: Request) -> Response:
        flow = next(flows)
        body = await request.body()
        put(flow, ASKED, request.scope["headers"], body)
        client = request.app.state.client
        outgoing = client.build_request(
            "POST", request.app.state.url, content=body, headers={"content-type": "application/json"}
        )
        put(flow, SENT, outgoing.headers.raw, body)
        if not json.loads(body).get("stream"):
            answer = await client.send(outgoing)
            put(flow, ANSWERED, answer.headers.raw, answer.content)
            whole = Response(answer.content, answer.status_code, media_type="application/json")
            put(flow, RELAYED, whole.raw_headers, answer.content)
            return whole
        answer = await client.send(outgoing, stream=True)
        put(flow, ANSWERED, answer.headers.raw, None)

        async def relay() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    put(flow, ANSWERED, None, chunk)
                    yield chunk
                    put(flow, RELAYED, None, chunk)
            finally:
                put(flow, ANSWERED, None, None)
                put(flow, RELAYED, None, None)
                await answer.aclose()

        stream = StreamingResponse(relay(), answer.status_code, media_type="text/event-stream")
        put(flow, RELAYED, stream.raw_headers, None)
        return stream

    return chat_recorded


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--recorder", choices=[*RECORDERS, "contrib"], required=True)
    parser.add_argument("--capture", required=True)
    told = parser.parse_args()
    if told.recorder == "contrib":
        app = application(told, chat)
        instrument(app, told.client, told.capture)
    else:
        app = application(told, recorded(RECORDERS[told.recorder](told.capture)))
    serve(app, told)
