"""Whatever the user's tracing decides, or where there is none: the capture is complete, and says whose trace it is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, SpanKind
from traced_gateway import Gateway, Spans, gateway_app, make_spans

import otel_wirecap

CHAT = "/v1/chat/completions"
BODY = {"model": "demo-small", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Serve = Callable[..., Gateway]


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_complete(records: list[dict[str, Any]], answer: bytes, *, trace: str | None = None) -> None:
    """One request on both legs, both streams to the byte, no gap, every record with ids, all of one trace."""
    directions = Counter(record["direction"] for record in records)
    assert not directions["system_gap"]
    once = ("inbound_request", "outbound_request", "stream_start", "stream_end", "inbound_response")
    assert all(directions[name] == 1 for name in (*once, "outbound_stream_start", "outbound_stream_end"))
    for chunk in ("stream_chunk", "outbound_stream_chunk"):
        assert "".join(r["payload"] for r in records if r["direction"] == chunk).encode() == answer
    numbers = [record["metadata"]["seq"] for record in records]
    assert numbers == list(range(1, len(numbers) + 1))
    traffic = [record["metadata"] for record in records if not record["direction"].startswith("system_")]
    ids = {(metadata["leg"], metadata["trace_id"], metadata["span_id"]) for metadata in traffic}
    assert len(ids) == 2
    assert all(int(trace_id, 16) and int(span_id, 16) for _, trace_id, span_id in ids)
    assert len({trace_id for _, trace_id, _ in ids}) == 1
    if trace is not None:
        assert {trace_id for _, trace_id, _ in ids} == {trace}


def exchange(serve: Serve, backend_url: str, capture_file: Path, provider: Any, **headers: str) -> bytes:
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
    try:
        status, answer = serve(gateway_app(backend_url)).ask(CHAT, BODY, **headers)
    finally:
        otel_wirecap.uninstrument()
    assert status == 200
    assert answer
    return answer


UNSAMPLED, SAMPLED = (f"00-{TRACE}-{PARENT}-{flags}" for flags in ("00", "01"))


@pytest.mark.parametrize(
    ("sampler", "traceparent", "told"),
    [
        (ALWAYS_ON, None, 2),
        (ALWAYS_ON, UNSAMPLED, 2),
        (ALWAYS_OFF, None, 0),
        (ALWAYS_OFF, SAMPLED, 0),
        (ParentBased(ALWAYS_ON), UNSAMPLED, 0),
        (ParentBased(ALWAYS_OFF), SAMPLED, 2),
        (ParentBased(ALWAYS_OFF), None, 0),
        (TraceIdRatioBased(0.0), None, 0),
    ],
)
@pytest.mark.sampled(3, rest="telemetry")
def test_samplers(
    sampler: Any, traceparent: str | None, told: int, serve: Serve, backend_url: str, capture_file: Path
) -> None:
    spans = make_spans(sampler=sampler)
    headers = {} if traceparent is None else {"traceparent": traceparent}
    answer = exchange(serve, backend_url, capture_file, spans.provider, **headers)
    assert_complete(records_of(capture_file), answer, trace=None if traceparent is None else TRACE)
    assert len(spans.exporter.get_finished_spans()) == told


@pytest.mark.parametrize("traceparent", [None, SAMPLED, "00-not-a-trace", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()], ids=["none", "NoOp"])
@pytest.mark.sampled(3, rest="telemetry")
def test_no_provider(
    provider: Any, traceparent: str | None, serve: Serve, backend_url: str, capture_file: Path
) -> None:
    headers = {} if traceparent is None else {"traceparent": traceparent}
    answer = exchange(serve, backend_url, capture_file, provider, **headers)
    assert_complete(records_of(capture_file), answer, trace=TRACE if traceparent == SAMPLED else None)


def test_no_propagator(serve: Serve, backend_url: str, capture_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As declarative configuration leaves it that names none: nothing is read from headers, not even a context."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator([]))
    spans = make_spans()
    answer = exchange(serve, backend_url, capture_file, spans.provider, traceparent=SAMPLED)
    assert_complete(records_of(capture_file), answer)
    assert [span.parent is None for span in spans.of(SpanKind.SERVER)] == [True]


def test_the_sdk_switched_off(
    serve: Serve, backend_url: str, capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    spans = make_spans()
    answer = exchange(serve, backend_url, capture_file, spans.provider, traceparent=SAMPLED)
    assert_complete(records_of(capture_file), answer, trace=TRACE)
    assert not spans.exporter.get_finished_spans()


def test_limits_of_spans_shorten_spans_only(serve: Serve, backend_url: str, capture_file: Path) -> None:
    limits = SpanLimits(max_attributes=3, max_attribute_length=5, max_events=1)
    spans = make_spans(span_limits=limits)
    answer = exchange(serve, backend_url, capture_file, spans.provider)
    assert_complete(records_of(capture_file), answer)
    finished = spans.exporter.get_finished_spans()
    assert [len(span.attributes or {}) for span in finished] == [3, 3]


def test_a_provider_that_is_shut_down(serve: Serve, backend_url: str, capture_file: Path) -> None:
    spans = make_spans()
    spans.provider.shutdown()
    answer = exchange(serve, backend_url, capture_file, spans.provider)
    assert_complete(records_of(capture_file), answer)


class Processor:
    """A span processor that raises at the moments it is told to."""

    def __init__(self, *moments: str) -> None:
        self.moments = moments

    def on_start(self, *_arguments: Any, **_keywords: Any) -> None:
        if "start" in self.moments:
            raise RuntimeError("start")

    def _on_ending(self, *_arguments: Any) -> None:
        """The SDK's, not ours."""

    def on_end(self, *_arguments: Any) -> None:
        if "end" in self.moments:
            raise RuntimeError("end")

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


@pytest.mark.parametrize(("moments", "told"), [(["end"], 2), (["start"], 0), (["start", "end"], 0)])
def test_a_processor_that_raises_loses_nothing(
    moments: list[str], told: int, serve: Serve, backend_url: str, capture_file: Path
) -> None:
    spans = make_spans()
    spans.provider.add_span_processor(Processor(*moments))  # type: ignore[arg-type]  # it is one by its methods
    answer = exchange(serve, backend_url, capture_file, spans.provider)
    assert_complete(records_of(capture_file), answer)
    assert len(spans.exporter.get_finished_spans()) == told


def test_two_providers_do_not_meet(spans: Spans, serve: Serve, backend_url: str, capture_file: Path) -> None:
    """The application's own spans are of one provider, ours of another: each gets its own, in one trace."""
    other = make_spans()
    app = gateway_app(backend_url)

    @app.middleware("http")
    async def traced(request: Any, call_next: Any) -> Any:
        with other.provider.get_tracer("app").start_as_current_span("the application's"):
            return await call_next(request)

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    _, answer = serve(app).ask(CHAT, BODY)
    otel_wirecap.uninstrument()
    assert_complete(records_of(capture_file), answer)
    (between,) = other.exporter.get_finished_spans()
    (server,), (client,) = spans.of(SpanKind.SERVER), spans.of(SpanKind.CLIENT)
    assert between.parent is not None
    assert client.parent is not None
    assert (between.parent.span_id, client.parent.span_id) == (server.context.span_id, between.context.span_id)


def test_suppression(serve: Serve, spans: Spans, backend_url: str, capture_file: Path) -> None:
    """What is suppressed entirely is left out on purpose; what makes its own span is captured without one of ours."""
    app = gateway_app(backend_url)

    @app.middleware("http")
    async def suppressing(request: Any, call_next: Any) -> Any:
        suppress = suppress_instrumentation if "all" in request.url.query else suppress_http_instrumentation
        with suppress():
            return await call_next(request)

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    gateway = serve(app)
    _, answer = gateway.ask(CHAT + "?http", BODY)
    gateway.ask(CHAT + "?all", BODY)
    otel_wirecap.uninstrument()
    records = [r for r in records_of(capture_file) if not r["direction"].startswith("system_")]
    first = records[0]["metadata"]["request_id"]
    by_flow = Counter((r["metadata"]["request_id"] == first, r["metadata"]["leg"]) for r in records)
    assert by_flow.keys() == {(True, "client"), (True, "backend"), (False, "client")}
    chunks = [r["payload"] for r in records if r["direction"] == "stream_chunk"]
    assert "".join(chunks).encode() == answer
    assert (len(spans.of(SpanKind.SERVER)), len(spans.of(SpanKind.CLIENT))) == (2, 0)


class RaisingProcessor(SpanProcessor):
    def __init__(self, where: str, error: type[BaseException]) -> None:
        def fail(*_arguments: object) -> None:
            raise error("not today")

        setattr(self, where, fail)


class RaisingLogs(LogRecordProcessor):
    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def on_emit(self, log_record: Any) -> None:
        raise self._error("not today")

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError, SystemExit])
@pytest.mark.parametrize("where", ["_on_ending", "on_end", "logs"])
@pytest.mark.sampled(3, rest="telemetry")
def test_processors_that_raise_end_neither_the_capture_nor_what_another_one_gets(
    where: str, error: type[BaseException], serve: Serve, backend_url: str, capture_file: Path
) -> None:
    """Not even with what would end the thread that they are called in."""
    spans, logs = make_spans(), LoggerProvider(shutdown_on_exit=False)
    if where == "logs":
        logs.add_log_record_processor(RaisingLogs(error))
    else:
        spans.provider.add_span_processor(RaisingProcessor(where, error))
    otel_wirecap.instrument(
        capture_file=capture_file, capture_span_payloads="both", tracer_provider=spans.provider, logger_provider=logs
    )
    gateway = serve(gateway_app(backend_url))
    answers = [gateway.ask(CHAT, BODY) for _ in range(2)]
    otel_wirecap.uninstrument()
    assert [status for status, _ in answers] == [200, 200]
    records = records_of(capture_file)
    assert (records[0]["direction"], records[-1]["direction"]) == ("system_start", "system_stop")
    by_flow: dict[str, list[dict[str, Any]]] = {}
    for record in records[1:-1]:
        by_flow.setdefault(record["metadata"]["request_id"], []).append(record)
    assert len(by_flow) == 2
    assert [record["metadata"]["seq"] for record in records] == list(range(1, len(records) + 1))
    for directions in (Counter(record["direction"] for record in flow) for flow in by_flow.values()):
        assert directions["outbound_stream_end"] == directions["stream_end"] == directions["inbound_request"] == 1
    finished = spans.of(SpanKind.SERVER) + spans.of(SpanKind.CLIENT)
    assert len(finished) == (0 if where == "_on_ending" else 4)


PROGRAM = """
    import sys, httpx, otel_wirecap
    from opentelemetry import trace
    chunks = (b"data: %d\\n\\n" % number for number in range(1001))
    stream = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=stream, content=chunks))
    otel_wirecap.instrument(capture_file=sys.argv[1])
    def set_provider():
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        trace.set_tracer_provider(provider)
    if sys.argv[2] == "before":
        set_provider()
    with httpx.Client(transport=transport) as client:
        with client.stream("POST", "http://backend.example/v1/chat/completions", json={"stream": True}) as response:
            for number, _ in enumerate(response.iter_raw()):
                if number == 500 and sys.argv[2] == "within":
                    set_provider()
"""


@pytest.mark.parametrize(("when", "told"), [("never", 0), ("before", 1), ("within", 0)])
@pytest.mark.sampled(1, rest="telemetry")
def test_a_provider_that_is_set_later_or_never(when: str, told: int, capture_file: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(capture_file), when]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count('"trace_id"') == told
    directions = Counter(record["direction"] for record in records_of(capture_file))
    assert directions["stream_chunk"] == 1001
    assert directions.keys() == {
        "system_start", "outbound_request", "stream_start", "stream_chunk", "stream_end", "system_stop"
    }  # fmt: skip
