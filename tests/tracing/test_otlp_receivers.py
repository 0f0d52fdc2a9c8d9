"""What collectors get by OTLP: good spans, payloads only when asked for, no secret, and what the capture has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from collected_gateway import (
    CONTRIB,
    SECONDS,
    Planted,
    ask_with_sdks,
    assert_whole,
    collected_gateway,
    environ,
    records_of,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_collectors import COLLECTORS, GRPC, HTTP, OURS, Item, Received, as_told
from redaction_backend import Backend, Words

pytestmark = pytest.mark.telemetry

SCHEMA = "https://opentelemetry.io/schemas/1.41.1"

ALWAYS = {
    "http.request.method", "http.response.status_code", "network.protocol.version", "server.address", "server.port",
    "wirecap.request_id", "wirecap.exchange_id", "wirecap.leg", "wirecap.outcome", "wirecap.session_id",
    "wirecap.session_source", "wirecap.key_name", "gen_ai.request.model", "gen_ai.response.model",
    "gen_ai.conversation.id",
}  # fmt: skip
OF_SERVERS = {"url.scheme", "url.path", "client.address", "user_agent.original", "http.route"}
OF_ATTEMPTS = {
    "url.full", "wirecap.attempt", "wirecap.backend", "gen_ai.operation.name", "gen_ai.provider.name",
    "gen_ai.request.max_tokens", "gen_ai.response.id", "gen_ai.response.finish_reasons",
}  # fmt: skip


class Told(NamedTuple):
    """What one run of the gateway left behind, here and there."""

    wanted: str
    planted: Planted
    path: Path
    records: list[dict[str, Any]]
    received: Received
    stderr: str


RUNS = [(GRPC, "off"), (GRPC, "events"), (GRPC, "logs"), (GRPC, "both"), (HTTP, "off"), (HTTP, "both")]


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    protocol, wanted = request.param
    path = tmp_path_factory.mktemp("collected") / "capture.log"
    planted = Planted.make()
    words = Words("Let me see.", f"The other one is {planted.answer}.", json.dumps({"key": planted.answer}))
    backend = Backend(words)
    try:
        with COLLECTORS[protocol]() as received:
            env = environ(
                path,
                OTEL_EXPORTER_OTLP_ENDPOINT=received.endpoint,
                OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB,
                OPENAI_API_KEY=planted.openai,
                ANTHROPIC_API_KEY=planted.anthropic,
                **({} if wanted == "off" else {"WIRE_CAPTURE_SPAN_PAYLOADS": wanted}),
            )
            with collected_gateway(backend.url, env) as gateway:
                ask_with_sdks(gateway.url, planted)
            yield Told(wanted, planted, path, records_of(path), received, gateway.done.stderr)
    finally:
        backend.close()


def every_run(*wanted: str) -> Any:
    runs = [run for run in RUNS if not wanted or run[1] in wanted]
    return pytest.mark.parametrize("told", runs, ids=" ".join, indirect=True, scope="module")


@every_run()
def test_the_capture_is_whole_and_nothing_is_said(told: Told) -> None:
    assert_whole(told.records)
    assert told.stderr == ""


@every_run()
def test_spans_are_well_formed_and_linked(told: Told) -> None:
    spans = told.received.our_spans()
    assert Counter(span.it.kind for span in spans) == {Span.SPAN_KIND_SERVER: 4, Span.SPAN_KIND_CLIENT: 4}
    assert len({span.it.span_id for span in spans}) == 8
    assert len({span.it.trace_id for span in spans}) == 4
    for span in spans:
        assert (len(span.it.trace_id), len(span.it.span_id)) == (16, 8)
        assert 0 < span.it.start_time_unix_nano < span.it.end_time_unix_nano
        assert (span.it.dropped_attributes_count, span.it.dropped_events_count) == (0, 0)
        assert (span.schema_url, bool(span.scope.version)) == (SCHEMA, True)
        assert span.resource["service.name"] == "gateway"
        assert span.it.status.code == Status.STATUS_CODE_UNSET
        if span.it.kind == Span.SPAN_KIND_SERVER:
            assert span.it.parent_span_id == b""
            continue
        assert_below_its_server(span, told.received)


def spans_above(span: Item, received: Received) -> list[Item]:
    """A span, and those above it: all of one trace, none begun later."""
    by_id = {one.it.span_id: one for one in received.spans}
    above = [span]
    while above[-1].it.parent_span_id:
        above.append(by_id[above[-1].it.parent_span_id])
        assert above[-1].it.start_time_unix_nano <= span.it.start_time_unix_nano
    assert {one.it.trace_id for one in above} == {span.it.trace_id}
    return above


def assert_below_its_server(span: Item, received: Received) -> None:
    """The spans above an attempt's are all there, of one trace, and one of them is that of its client's request."""
    above = spans_above(span, received)  # FastAPI's own may be between
    ours = [one for one in above if one.scope.name == OURS]
    assert [one.it.kind for one in ours] == [Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER]
    assert len({one.attributes["wirecap.request_id"] for one in ours}) == 1


@every_run()
def test_spans_tell_what_was_asked_and_answered(told: Told) -> None:
    attempts: dict[tuple[str, bool], dict[str, Any]] = {}
    for span in told.received.our_spans():
        attributes = span.attributes
        assert attributes.keys() >= ALWAYS
        if span.it.kind == Span.SPAN_KIND_SERVER:
            assert attributes.keys() >= OF_SERVERS
            assert span.it.name == "POST /v1/{operation}" == f"POST {attributes['http.route']}"
            continue
        assert attributes.keys() >= OF_ATTEMPTS
        assert span.it.name == "chat m-1"
        operation = attributes["url.full"].rpartition("/v1/")[2].rstrip("?")
        attempts[operation, attributes.get("gen_ai.request.stream", False)] = attributes
    assert attempts.keys() == {(path, stream) for path in ("chat/completions", "messages") for stream in (True, False)}
    for (path, stream), attributes in attempts.items():
        is_openai = path == "chat/completions"
        expected = {
            "http.request.method": "POST", "http.response.status_code": 200, "server.address": "127.0.0.1",
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.response.model": "m-2",
            "gen_ai.request.max_tokens": 99,
            "gen_ai.response.id": "c1" if is_openai else "msg_1",
            "gen_ai.response.finish_reasons": ["tool_calls" if is_openai else "tool_use"],
            "wirecap.key_name": "OPENAI_API_KEY" if is_openai else "ANTHROPIC_API_KEY",
            "wirecap.leg": "backend", "wirecap.attempt": 1, "wirecap.outcome": "complete",
        }  # fmt: skip
        assert {name: attributes[name] for name in expected} == expected
        assert attributes.get("gen_ai.request.temperature") == (0.5 if is_openai else None)
        assert ("gen_ai.response.time_to_first_chunk" in attributes) is stream
        if not (is_openai and stream):  # whose client did not ask for usage
            tokens = [attributes[f"gen_ai.usage.{kind}_tokens"] for kind in ("input", "output")]
            assert tokens == [11, 22]


@every_run()
def test_metrics_arrive(told: Told) -> None:
    names = {"http.server.request.duration", "http.client.request.duration", "gen_ai.client.operation.duration"}
    assert told.received.metrics >= names | {"gen_ai.client.token.usage", "wirecap.capture.records"}


@every_run()
def test_no_secret_arrives(told: Told) -> None:
    everything = b"\n".join(told.received.data)
    for secret in told.planted:
        assert secret.encode() not in everything
        assert secret not in told.path.read_text(encoding="utf-8")
    # What is said around the secrets: found in the same way, where it was asked for.
    for said in (b"Hello there, this is my token", b"The other one is"):
        assert (said in everything) is (told.wanted != "off")
    # Piece by piece it does not arrive either.
    pieces: dict[str, str] = {}
    for document in documents(told):
        record = json.loads(document)
        if record["direction"].endswith("stream_chunk"):
            exchange = record["metadata"]["exchange_id"]
            pieces[exchange] = pieces.get(exchange, "") + record["payload"]
    assert len(pieces) == (0 if told.wanted == "off" else 4)
    for streamed in pieces.values():
        lines = [line.removeprefix("data: ") for line in streamed.splitlines() if line.startswith("data: {")]
        joined = "".join(text for line in lines for text in said_in(json.loads(line)))
        assert "The other one is" in joined
        assert told.planted.answer not in joined


def said_in(document: Any) -> Iterator[str]:
    """What a stream's event adds to the answer."""
    for name, inner in document.items() if isinstance(document, dict) else ():
        if isinstance(inner, str) and name in {"content", "text", "arguments", "partial_json"}:
            yield inner
    for inner in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from said_in(inner)


def documents(told: Told) -> Iterator[str]:
    for span in told.received.our_spans():
        for event in span.it.events:
            yield event.attributes[0].value.string_value
    for log in told.received.our_logs():
        yield log.it.body.string_value


@every_run("off", "logs")
def test_spans_carry_no_payload_unless_asked_to(told: Told) -> None:
    assert [event for span in told.received.our_spans() for event in span.it.events] == []


@every_run("off", "events")
def test_no_log_record_is_told_unless_asked_for(told: Told) -> None:
    assert told.received.our_logs() == []


@every_run("events", "both")
def test_each_record_of_an_exchange_is_an_event_of_its_span(told: Told) -> None:
    assert told.received.records_in_events() == as_told(told.records[1:-1], told.path)


@every_run("logs", "both")
def test_each_record_is_a_log_record(told: Told) -> None:
    assert told.received.records_in_logs() == as_told(told.records, told.path)
    for log in told.received.our_logs():
        assert (log.schema_url, log.resource["service.name"]) == (SCHEMA, "gateway")
        assert log.it.severity_text == "INFO"


@every_run()
def test_spans_and_records_name_each_other(told: Told) -> None:
    spans = {span.it.span_id.hex(): span for span in told.received.our_spans()}
    exchanges = {record["metadata"].get("span_id"): record for record in told.records[1:-1]}
    assert spans.keys() == exchanges.keys()
    for span_id, record in exchanges.items():
        attributes, metadata = spans[span_id].attributes, record["metadata"]
        assert spans[span_id].it.trace_id.hex() == metadata["trace_id"]
        for name in ("request_id", "exchange_id", "leg", "session_id"):
            assert attributes[f"wirecap.{name}"] == (record["session_id"] if name == "session_id" else metadata[name])


def test_among_the_spans_of_other_instrumentation_ours_are_linked(tmp_path: Path) -> None:
    """OpenTelemetry's instrumentation of FastAPI and httpx runs as well."""
    planted = Planted.make()
    backend = Backend(Words("Let me see.", f"It is {planted.answer}.", "{}"))
    path = tmp_path / "capture.log"
    try:
        with COLLECTORS[GRPC]() as received:
            env = environ(path, OTEL_EXPORTER_OTLP_ENDPOINT=received.endpoint)
            with collected_gateway(backend.url, env, SECONDS) as gateway:
                ask_with_sdks(gateway.url, planted)
    finally:
        backend.close()
    assert_whole(records_of(path))
    assert len({span.scope.name for span in received.spans}) > 2
    attempts = [span for span in received.our_spans() if span.it.kind == Span.SPAN_KIND_CLIENT]
    assert len(attempts) == 4
    servers = {
        span.attributes["wirecap.request_id"]: span
        for span in received.our_spans()
        if span.it.kind == Span.SPAN_KIND_SERVER
    }
    for span in attempts:
        outermost = spans_above(span, received)[-1]
        assert (outermost.it.kind, outermost.scope.name != OURS) == (Span.SPAN_KIND_SERVER, True)
        assert spans_above(servers[span.attributes["wirecap.request_id"]], received)[-1] is outermost


LARGE = {"model": "m-1", "messages": [{"role": "user", "content": "word " * 9_000}]}


def test_large_payloads_come_in_messages_that_collectors_take(tmp_path: Path) -> None:
    """By gRPC those of 4 MB at most, unless they are told to take more; here are 6 MB of spans and as much of logs."""
    backend = Backend(Words("Let me see.", "It is long.", "{}"))
    path = tmp_path / "capture.log"
    try:
        with COLLECTORS[GRPC]() as received:
            env = environ(
                path,
                OTEL_EXPORTER_OTLP_ENDPOINT=received.endpoint,
                OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB,
                OTEL_BSP_MAX_EXPORT_BATCH_SIZE="16",
                OTEL_BLRP_MAX_EXPORT_BATCH_SIZE="50",
                WIRE_CAPTURE_SPAN_PAYLOADS="both",
            )
            with collected_gateway(backend.url, env) as gateway, httpx.Client(timeout=SECONDS) as client:
                for _ in range(70):
                    assert client.post(f"{gateway.url}/v1/chat/completions", json=LARGE).status_code == 200
    finally:
        backend.close()
    records = records_of(path)
    assert sum(len(json.dumps(record)) for record in records) > 6_000_000
    assert gateway.done.stderr == ""
    assert received.records_in_events() == as_told(records[1:-1], path)
    assert received.records_in_logs() == as_told(records, path)
