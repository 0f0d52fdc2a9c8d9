"""A gateway of the kind that is captured: FastAPI in front, httpx behind; and the spans that a provider exported.

As a program, ``traced_gateway.py BACKEND_URL``, it prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

HANDED_ON = ("authorization", "x-api-key", "user-agent", "traceparent")
HANDED_BACK = ("content-type", "content-encoding")


class Spans(NamedTuple):
    """A provider, and what it exported."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]


def make_spans(**options: Any) -> Spans:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider, exporter)


def gateway_app(backend_url: str) -> FastAPI:
    """Relays what is asked below ``/v1`` to the backend, chunk by chunk."""
    app = FastAPI()

    @app.post("/v1/{operation:path}")
    async def relay(operation: str, request: Request) -> StreamingResponse:
        client = httpx.AsyncClient()
        url = f"{backend_url}/v1/{operation}?{request.url.query}"
        headers = {name: request.headers[name] for name in HANDED_ON if name in request.headers}
        sent = client.build_request("POST", url, content=await request.body(), headers=headers)
        answer = await client.send(sent, stream=True)

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in answer.aiter_raw():
                yield chunk
            await client.aclose()

        back = {name: answer.headers[name] for name in HANDED_BACK if name in answer.headers}
        return StreamingResponse(chunks(), answer.status_code, back)

    @app.api_route("/broken", methods=["GET"])
    async def broken() -> None:
        raise RuntimeError("the handler fails")

    mounted = Starlette(routes=[Route("/items/{item}", lambda _request: PlainTextResponse("there"))])
    app.mount("/mounted", mounted)
    return app


class Gateway:
    """A running gateway; its clients are urllib's, which is not captured."""

    def __init__(self, app: Any) -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, method: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://localhost:{self.port}{path}", None if body is None else json.dumps(body).encode(),
            {name.replace("_", "-"): value for name, value in headers.items()}, method=method,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)


def main(backend_url: str) -> None:
    gateway = Gateway(gateway_app(backend_url))
    sys.stdout.write(f"{gateway.port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    gateway.close()


if __name__ == "__main__":
    main(sys.argv[1])
