"""Metrics of exchanges by the conventions, as the SDK's own reader has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import WebSocket
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind
from traced_gateway import Gateway, Spans, gateway_app
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import otel_wirecap
from otel_wirecap import native
from otel_wirecap.tracing.request_metrics import RequestMetrics

CHAT = "/v1/chat/completions"
ASKED = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
EXCHANGES = ("http.", "gen_ai.")

# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ and the metrics page of semantic-conventions-genai.
HTTP = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
GEN_AI = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]


class Meters(NamedTuple):
    provider: MeterProvider
    reader: InMemoryMetricReader

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """The points of each metric of exchanges; none is a point of an earlier read."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        found = json.loads(data.to_json())["resource_metrics"][0]["scope_metrics"]
        return {
            metric["name"]: metric["data"]["data_points"]
            for scope in found
            for metric in scope["metrics"]
            if metric["name"].startswith(EXCHANGES)
        }


@pytest.fixture
def meters() -> Iterator[Meters]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield Meters(provider, reader)
    provider.shutdown()


@pytest.fixture
def start(meters: Meters, spans: Spans, capture_file: Path) -> None:
    otel_wirecap.instrument(
        capture_file=capture_file, tracer_provider=spans.provider, meter_provider=meters.provider,
        capture_backends={"127.0.0.1": "openai"},
    )  # fmt: skip


@pytest.mark.usefixtures("start")
def test_a_stream_is_measured_to_its_end_on_both_legs(
    meters: Meters, spans: Spans, serve: Callable[..., Gateway], backend_url: str
) -> None:
    _, body = serve(gateway_app(backend_url)).ask(CHAT, STREAMED)
    otel_wirecap.uninstrument()
    usage = json.loads([line for line in body.decode().splitlines() if line.startswith("data: {")][-1][6:])["usage"]
    (server,), (client,) = spans.of(SpanKind.SERVER), spans.of(SpanKind.CLIENT)
    points = meters.read()
    tokens = points.pop("gen_ai.client.token.usage")
    ((serving,), (sending,), (operation,), (first,)) = (
        points.pop(name)
        for name in (
            "http.server.request.duration", "http.client.request.duration", "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_to_first_chunk",
        )
    )  # fmt: skip
    assert points == {}
    for point, span in ((serving, server), (sending, client), (operation, client)):
        assert point["count"] == 1
        assert point["sum"] == pytest.approx((span.end_time - span.start_time) / 1e9)
        (exemplar,) = point["exemplars"]
        assert exemplar["span_id"] == span.context.span_id
    assert 0 < first["sum"] < operation["sum"]
    assert serving["attributes"] == {
        "http.request.method": "POST", "http.response.status_code": 200, "http.route": "/v1/{operation}",
        "network.protocol.version": "1.1", "url.scheme": "http",
    }  # fmt: skip
    address = {"server.address": "127.0.0.1", "server.port": int(backend_url.rpartition(":")[2])}
    assert sending["attributes"] == address | {
        "http.request.method": "POST", "http.response.status_code": 200, "network.protocol.version": "1.1",
        "url.scheme": "http",
    }  # fmt: skip
    asked = address | {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "demo-small",
        "gen_ai.response.model": "demo-small",
    }  # fmt: skip
    assert operation["attributes"] == first["attributes"] == asked
    assert {point["attributes"].pop("gen_ai.token.type"): point["sum"] for point in tokens} == {
        "input": usage["prompt_tokens"],
        "output": usage["completion_tokens"],
    }
    assert all(point["attributes"] == asked for point in tokens)
    assert serving["explicit_bounds"] == sending["explicit_bounds"] == HTTP
    assert operation["explicit_bounds"] == first["explicit_bounds"] == GEN_AI
    assert {tuple(point["explicit_bounds"]) for point in tokens} == {tuple(TOKENS)}


@pytest.mark.usefixtures("start")
def test_failures_have_a_type_and_what_does_not_exist_no_point(
    meters: Meters, serve: Callable[..., Gateway], backend_url: str
) -> None:
    gateway = serve(gateway_app(backend_url))
    gateway.ask(CHAT, ASKED | {"model": "demo-rate-limited"})
    gateway.ask("/broken")
    otel_wirecap.uninstrument()
    points = meters.read()
    assert points.keys() == {
        "http.server.request.duration", "http.client.request.duration", "gen_ai.client.operation.duration"
    }  # fmt: skip
    types = {
        name: sorted(str(point["attributes"].get("error.type")) for point in found) for name, found in points.items()
    }
    assert types["http.client.request.duration"] == types["gen_ai.client.operation.duration"] == ["429"]
    assert types["http.server.request.duration"] in (["500", "None"], ["None", "RuntimeError"])


@pytest.mark.usefixtures("start")
def test_websockets_and_what_others_tell_of_are_not_measured(
    meters: Meters, serve: Callable[..., Gateway], backend_url: str
) -> None:
    app = gateway_app(backend_url)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    gateway = serve(app)
    with connect(f"ws://127.0.0.1:{gateway.port}/socket") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv()
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with suppress_http_instrumentation(), httpx.Client(transport=transport) as client:
        client.get("http://backend.example/")
    otel_wirecap.uninstrument()
    assert meters.read() == {}


@pytest.mark.usefixtures("start")
def test_they_are_recorded_in_no_thread_of_the_applications(monkeypatch: pytest.MonkeyPatch, meters: Meters) -> None:
    threads: list[str] = []
    record = RequestMetrics.record

    def recorded(self: RequestMetrics, *arguments: Any) -> None:
        thread = native.current_thread()
        threads.append(thread.name if thread is not None else "the application's")
        record(self, *arguments)

    monkeypatch.setattr(RequestMetrics, "record", recorded)
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.get("http://backend.example/")
    otel_wirecap.uninstrument()
    assert threads == ["otel-wirecap-handover"]
    assert meters.read().keys() == {"http.client.request.duration"}
