"""Beside other instrumentation of the same libraries, put in and taken out in either order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selection import mostly
from wire import Server, serving

PROGRAM = """
    import asyncio, json, sys, threading, time
    import aiohttp, httpx, httpx2, uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    import otel_wirecap

    other, put_first, taken_first, backend = sys.argv[1:]
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = FastAPI()
    before = (httpx.Client._send_single_request, httpx2.AsyncClient._send_single_request, aiohttp.ClientRequest.send)

    class Contrib:
        def __init__(self):
            from opentelemetry.instrumentation import aiohttp_client, asgi, fastapi, httpx as http
            self.clients = [http.HTTPXClientInstrumentor(), http.HTTPX2ClientInstrumentor(),
                            aiohttp_client.AioHttpClientInstrumentor()]
            self.fastapi = fastapi.FastAPIInstrumentor
        def put(self):
            trace.set_tracer_provider(provider)
            for client in self.clients:
                client.instrument()
            self.fastapi.instrument_app(app)
        def take(self):
            for client in self.clients:
                client.uninstrument()
            self.fastapi.uninstrument_app(app)

    class ContribASGI:
        def put(self):
            from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
            trace.set_tracer_provider(provider)
            app.add_middleware(OpenTelemetryMiddleware)
        def take(self):
            pass

    class Logfire:
        def put(self):
            import logfire
            logfire.configure(send_to_logfire=False, console=False, metrics=False,
                              additional_span_processors=[SimpleSpanProcessor(exporter)])
            logfire.instrument_httpx()
            logfire.instrument_aiohttp_client()
            logfire.instrument_fastapi(app)
        def take(self):
            pass

    class Native:
        def put(self):
            trace.set_tracer_provider(provider)
        def take(self):
            pass

    class Ours:
        def put(self):
            otel_wirecap.instrument(capture_file="capture.log")
        def take(self):
            otel_wirecap.uninstrument()

    kinds = {"contrib": Contrib, "contrib asgi": ContribASGI, "logfire": Logfire, "fastapi": Native}
    others, ours = kinds[other](), Ours()
    for one in (ours, others) if put_first == "ours" else (others, ours):
        one.put()

    @app.get("/{client}")
    async def relay(client: str, request: Request):
        async def chunks():
            if client == "httpx":
                async with httpx.AsyncClient() as http, http.stream("GET", backend + "/stream") as response:
                    async for chunk in response.aiter_raw():
                        yield chunk
            elif client == "httpx2":
                async with httpx2.AsyncClient() as http, http.stream("GET", backend + "/stream") as response:
                    async for chunk in response.aiter_raw():
                        yield chunk
            else:
                async with aiohttp.ClientSession() as http, http.get(backend + "/stream") as response:
                    async for chunk in response.content.iter_any():
                        yield chunk
        return StreamingResponse(chunks(), media_type="text/event-stream",
                                 headers={"seen": request.headers.get("traceparent", "none")})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    import urllib.request
    bodies, seen = [], []
    for client in ("httpx", "httpx2", "aiohttp"):
        with urllib.request.urlopen(f"{url}/{client}") as answer:
            bodies.append(answer.read().decode())
            seen.append(answer.headers["seen"])
    server.should_exit = True
    thread.join()
    for one in (ours, others) if taken_first == "ours" else (others, ours):
        one.take()

    spans = [{"name": s.name, "kind": s.kind.name, "trace": f"{s.context.trace_id:032x}",
              "id": f"{s.context.span_id:016x}", "parent": s.parent and f"{s.parent.span_id:016x}",
              "ours": "wirecap.leg" in (s.attributes or {})} for s in exporter.get_finished_spans()]

    async def afterwards():
        async with aiohttp.ClientSession() as http, http.get(backend + "/document") as response:
            return (await response.read()).decode()

    after = [httpx.get(backend + "/document").text, httpx2.get(backend + "/document").text, asyncio.run(afterwards())]
    now = (httpx.Client._send_single_request, httpx2.AsyncClient._send_single_request, aiohttp.ClientRequest.send)
    print(json.dumps({"bodies": bodies, "seen": seen, "after": after, "spans": spans,
                      "restored": all(a is b for a, b in zip(before, now))}))
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    "other", mostly(pytest.mark.thorough, ["contrib", "contrib asgi", "logfire", "fastapi"], "contrib")
)
@pytest.mark.parametrize("put_first", mostly(pytest.mark.thorough, ["ours", "others"], "others"))
@pytest.mark.parametrize("taken_first", ["ours", "others"])
@pytest.mark.telemetry
def test_both_work_nothing_is_doubled_and_parents_are_right(
    other: str, put_first: str, taken_first: str, server: Server, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), other, put_first, taken_first, server.url]
    environ = os.environ | {"PYTHONPATH": os.getcwd(), "LOGFIRE_IGNORE_NO_CONFIG": "1"}  # noqa: PTH109
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(set(told["bodies"])) == len(set(told["after"])) == 1
    assert told["seen"] == ["none"] * 3  # what the application sees of the request is what the client sent
    assert told["restored"]

    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    requests = [r["metadata"] for r in records if r["direction"].endswith("bound_request")]
    assert [r["leg"] for r in requests] == ["client", "backend"] * 3
    spans: dict[str, dict[str, Any]] = {span["id"]: span for span in told["spans"]}
    for client, backend in zip(requests[::2], requests[1::2], strict=True):
        assert client["request_id"] == backend["request_id"]
        assert client["trace_id"] == backend["trace_id"]
        above = [backend["span_id"]]
        while spans[above[-1]]["parent"] is not None:
            above.append(spans[above[-1]]["parent"])
        if other == "fastapi":
            assert client["span_id"] in above
            continue
        # Theirs is what it is without us, the root; what the request causes is below it, our span of the request, too.
        assert spans[above[-1]]["kind"] == "SERVER"
        assert not spans[above[-1]]["ours"]
        assert spans[client["span_id"]]["parent"] == above[-1]
    ours = [span for span in told["spans"] if span["ours"]]
    assert len(ours) == len(requests)
    assert len({span["trace"] for span in told["spans"]}) == 3


INCOMING = """
    import asyncio, json, sys, threading, time, urllib.request
    import httpx, uvicorn
    from opentelemetry import trace
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    import otel_wirecap

    backend, how, reads = sys.argv[1:]
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    otel_wirecap.instrument(capture_file="capture.log")

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        if reads == "before":
            await receive()
        async with httpx.AsyncClient() as http:
            answer = await http.get(backend + "/document")
        if reads == "after":
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer.content})

    if how != "raw":
        app = OpenTelemetryMiddleware(app, excluded_urls="excluded")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/{how}"
    for headers in {}, {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers)).read()
    server.should_exit = True
    thread.join()
    otel_wirecap.uninstrument()
    print(json.dumps([{"kind": s.kind.name, "trace": f"{s.context.trace_id:032x}", "id": f"{s.context.span_id:016x}",
                       "parent": s.parent and f"{s.parent.span_id:016x}", "ours": "wirecap.leg" in (s.attributes or {})}
                      for s in exporter.get_finished_spans()]))
"""


@pytest.mark.parametrize("how", ["traced", "excluded", "raw"])
@pytest.mark.parametrize("reads", mostly(pytest.mark.thorough, ["before", "after", "never"], "never"))
@pytest.mark.telemetry
def test_a_flow_is_in_one_trace_that_of_the_client_if_it_names_one(
    how: str, reads: str, server: Server, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(INCOMING), server.url, how, reads]
    environ = os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    spans = {span["id"]: span for span in json.loads(done.stdout.splitlines()[-1])}
    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    requests = [r["metadata"] for r in records if r["direction"].endswith("bound_request")]
    assert [r["leg"] for r in requests] == ["client", "backend"] * 2
    for (client, backend), outside in zip(
        zip(requests[::2], requests[1::2], strict=True), (None, "b" * 16), strict=True
    ):
        assert client["trace_id"] == backend["trace_id"]
        assert (client["trace_id"] == "a" * 32) == (outside is not None)
        above = spans[client["span_id"]]["parent"]
        if how == "traced":
            assert spans[backend["span_id"]]["parent"] == above
            assert spans[above]["kind"] == "SERVER"
            above = spans[above]["parent"]
        else:
            assert spans[backend["span_id"]]["parent"] == client["span_id"]
        assert above == outside
