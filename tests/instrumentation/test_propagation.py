"""The trace context on its way to a backend: sent where it is wanted, captured as sent, not left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from websockets.sync.client import connect
from websockets.sync.server import serve as serve_websocket
from wire import Server, serving

import otel_wirecap

Read = Callable[[], list[dict[str, Any]]]
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def get_httpx(url: str, **headers: str) -> None:
    with httpx.Client() as client:
        client.get(url, headers=headers, follow_redirects=True)


def get_httpx2(url: str, **headers: str) -> None:
    async def go() -> None:
        async with httpx2.AsyncClient() as client:
            await client.get(url, headers=headers, follow_redirects=True)

    asyncio.run(go())


def get_aiohttp(url: str, **headers: str) -> None:
    async def go() -> None:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            await response.read()

    asyncio.run(go())


GETS = pytest.mark.parametrize("get", [get_httpx, get_httpx2, get_aiohttp])


def traceparent(span: ReadableSpan) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def on_the_wire(server: Server) -> list[str | None]:
    """The trace context of each request that the server got."""
    return [dict(got.headers).get("traceparent") for got in server.received]


def recorded_headers(records: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    """What the capture says was sent: the headers of the request, or those that its response's record corrects."""
    sent: dict[str, list[list[str]]] = {}
    for record in records:
        metadata = record["metadata"]
        if record["direction"] == "outbound_request":
            sent[metadata["exchange_id"]] = metadata["headers"]
        elif "request_headers" in metadata:
            sent[metadata["exchange_id"]] = metadata["request_headers"]
    return [[(name.lower(), value) for name, value in headers] for headers in sent.values()]


@GETS
def test_each_hop_names_its_own_span_and_the_capture_has_what_was_sent(
    get: Callable[..., None], server: Server, provider: TracerProvider, exporter: InMemorySpanExporter,
    capture_file: Path, read_capture: Read,
) -> None:  # fmt: skip
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
    get(server.url + "/redirect/2")
    otel_wirecap.uninstrument()
    assert on_the_wire(server) == [traceparent(span) for span in exporter.get_finished_spans()]
    assert len(set(on_the_wire(server))) == 3
    received = [[(name.lower(), value) for name, value in got.headers] for got in server.received]
    assert recorded_headers(read_capture()) == received


@GETS
@pytest.mark.parametrize(
    ("wanted", "given", "sent"),
    [("auto", None, "ours"), ("auto", GIVEN, GIVEN), ("always", None, "ours"), ("always", GIVEN, "ours"),
     ("never", None, None), ("never", GIVEN, GIVEN)],
)  # fmt: skip
@pytest.mark.sampled(6, rest="thorough")
def test_what_is_wanted_is_sent(
    wanted: str, given: str | None, sent: str | None, get: Callable[..., None], server: Server,
    provider: TracerProvider, exporter: InMemorySpanExporter, capture_file: Path, read_capture: Read,
) -> None:  # fmt: skip
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, capture_propagate=wanted)
    get(server.url + "/document", **({} if given is None else {"traceparent": given}))
    otel_wirecap.uninstrument()
    (span,) = exporter.get_finished_spans()
    expected = traceparent(span) if sent == "ours" else sent
    assert on_the_wire(server) == [expected]
    (headers,) = recorded_headers(read_capture())
    assert [value for name, value in headers if name == "traceparent"] == ([] if expected is None else [expected])


@GETS
@pytest.mark.parametrize("recording", [None, ALWAYS_OFF], ids=["no provider", "sampler that drops"])
def test_where_nothing_records_the_request_is_the_application_s(
    recording: Any, get: Callable[..., None], server: Server, capture_file: Path
) -> None:
    get(server.url + "/document")
    provider = None if recording is None else TracerProvider(sampler=recording, shutdown_on_exit=False)
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, capture_propagate="always")
    get(server.url + "/document")
    otel_wirecap.uninstrument()
    assert server.received[0] == server.received[1]


@pytest.mark.parametrize(("wanted", "is_sent"), [("auto", False), ("always", True)])
def test_public_providers_get_it_only_always(
    wanted: str, is_sent: bool, provider: TracerProvider, capture_file: Path
) -> None:
    seen: list[bool] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append("traceparent" in request.headers)
        return httpx.Response(200)

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, capture_propagate=wanted)
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.post("https://api.anthropic.com/v1/messages", json={})
    otel_wirecap.uninstrument()
    assert seen == [is_sent]


def test_the_application_s_request_is_as_before(provider: TracerProvider, capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, capture_propagate="always")
    seen: list[list[tuple[bytes, bytes]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.raw)
        if len(seen) > 2:
            raise httpx.ConnectError("gone")
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for headers in ({}, {"TraceParent": GIVEN}, {}):
            request = client.build_request("GET", "http://backend.example/", headers=headers)
            before = request.headers.multi_items()
            try:
                response = client.send(request)
                assert response.request is request
            except httpx.ConnectError:
                pass
            assert request.headers.multi_items() == before
    otel_wirecap.uninstrument()
    assert all(b"traceparent" in {name.lower() for name, _ in headers} for headers in seen)


def test_baggage_stays_at_home(server: Server, provider: TracerProvider, capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
    token = context.attach(baggage.set_baggage("customer", "somebody"))
    try:
        get_httpx(server.url + "/document")
    finally:
        context.detach(token)
    otel_wirecap.uninstrument()
    (got,) = server.received
    assert {"traceparent"} == {name for name, _ in got.headers if name in {"traceparent", "baggage"}}


def test_a_websocket_s_upgrade_carries_it(
    provider: TracerProvider, exporter: InMemorySpanExporter, capture_file: Path, read_capture: Read
) -> None:
    seen: list[str | None] = []
    with serve_websocket(lambda one: seen.append(one.request.headers.get("traceparent")), "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
        with connect(f"ws://127.0.0.1:{running.socket.getsockname()[1]}/") as websocket:
            list(websocket)
        otel_wirecap.uninstrument()
        running.shutdown()
    (span,) = exporter.get_finished_spans()
    assert seen == [traceparent(span)]
    start = next(record for record in read_capture() if record["direction"] == "websocket_start")
    assert ["traceparent", traceparent(span)] in start["metadata"]["headers"]


class Failing(TextMapPropagator):
    """A propagator that raises."""

    def inject(self, *_arguments: Any, **_keywords: Any) -> None:
        raise RuntimeError("nothing is injected today")

    def extract(self, *_arguments: Any, **_keywords: Any) -> Any:
        return context.get_current()

    @property
    def fields(self) -> set[str]:
        return set()


def test_a_propagator_that_raises_harms_nobody(
    server: Server, provider: TracerProvider, capture_file: Path, read_capture: Read
) -> None:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Failing())
    try:
        otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
        get_httpx(server.url + "/document")
        otel_wirecap.uninstrument()
    finally:
        propagate.set_global_textmap(before)
    assert on_the_wire(server) == [None]
    assert [record["direction"] for record in read_capture()] == ["outbound_request", "inbound_response"]
