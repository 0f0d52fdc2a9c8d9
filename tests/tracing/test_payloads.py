"""Payloads for collectors: only when asked for, redacted, capped, and records again where they arrive."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from traced_gateway import Gateway, Spans, gateway_app, make_spans
from waiting import wait_until

import otel_wirecap
from otel_wirecap import WireCaptureSpanExporter
from otel_wirecap.config import load_config
from otel_wirecap.tracing.attributes import EVENT_RECORD

CHAT = "/v1/chat/completions"
BODY = {"model": "demo-small", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


class Logs(NamedTuple):
    provider: LoggerProvider
    exporter: InMemoryLogRecordExporter

    def all(self) -> list[Any]:
        return [data.log_record for data in self.exporter.get_finished_logs()]

    def records(self) -> list[Any]:
        """Those of exchanges."""
        return [record for record in self.all() if not record.event_name.startswith("wirecap.system_")]


@pytest.fixture
def logs() -> Iterator[Logs]:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield Logs(provider, exporter)
    provider.shutdown()


def captured(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if not record["direction"].startswith("system_")]


def on_spans(spans: Spans) -> list[tuple[str, dict[str, Any]]]:
    """Name and attributes of each event, in the order of the records' numbers."""
    events = [event for span in spans.exporter.get_finished_spans() for event in span.events]
    told = [(event.name, dict(event.attributes or {})) for event in events]
    return sorted(told, key=lambda one: int(one[1]["wirecap.seq"]))


def stream(path: Path, spans: Spans, logs: Logs, chunks: list[bytes], **settings: Any) -> None:
    """One streamed exchange of a script with a backend."""
    otel_wirecap.instrument(
        capture_file=path, tracer_provider=spans.provider, logger_provider=logs.provider, **settings
    )
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=iter(chunks)))
    try:
        with (
            httpx.Client(transport=transport) as client,
            client.stream("POST", "http://backend.example" + CHAT, json=BODY) as response,
        ):
            for _ in response.iter_raw():
                pass
    finally:
        otel_wirecap.uninstrument()


@pytest.mark.parametrize("wanted", ["off", "events", "logs", "both"])
def test_the_records_themselves_go_where_they_are_wanted_and_nowhere_else(
    wanted: str, spans: Spans, logs: Logs, capture_file: Path, backend_url: str, serve: Callable[..., Gateway]
) -> None:
    secret = secrets.token_hex(20)
    otel_wirecap.instrument(
        capture_file=capture_file, tracer_provider=spans.provider, logger_provider=logs.provider,
        **({} if wanted == "off" else {"capture_span_payloads": wanted}),
    )  # fmt: skip
    said = BODY | {"messages": [{"role": "user", "content": f"my key is {secret}"}]}
    serve(gateway_app(backend_url)).ask(CHAT, said, authorization=f"Bearer {secret}")
    wait_until(lambda: len(spans.exporter.get_finished_spans()) == 2)  # the server ends its leg when the client has all
    otel_wirecap.uninstrument()
    records = captured(capture_file)
    events = on_spans(spans)
    if wanted in {"events", "both"}:
        assert [json.loads(attributes["wirecap.record"]) for _, attributes in events] == records
        assert [name for name, _ in events] == ["wirecap." + record["direction"] for record in records]
        assert {attributes["wirecap.capture_file"] for _, attributes in events} == {str(capture_file)}
    else:
        assert events == []
    told = logs.records()
    if wanted in {"logs", "both"}:
        assert [json.loads(record.body) for record in told] == records
        for record, written in zip(told, records, strict=True):
            assert record.event_name == "wirecap." + written["direction"]
            assert f"{record.trace_id:032x}" == written["metadata"]["trace_id"]
            assert f"{record.span_id:016x}" == written["metadata"]["span_id"]
            assert abs(record.timestamp / 1e9 - written["timestamp_unix"]) < 1e-5
            assert record.attributes["wirecap.seq"] == written["metadata"]["seq"]
    else:
        assert told == []
    everything = "".join(span.to_json() for span in spans.exporter.get_finished_spans())
    everything += "".join(record.body for record in told)
    assert secret not in everything
    assert ("my key is" in everything) is (wanted != "off")


def test_opentelemetrys_own_variable_asks_for_content(
    spans: Spans, logs: Logs, capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "EVENT_ONLY")
    stream(capture_file, spans, logs, [b"data: 1\n\n"])
    assert on_spans(spans) == []
    assert len(logs.records()) == len(captured(capture_file))


def test_log_records_tell_of_the_capture_itself_too_so_that_numbers_without_a_hole_prove_all_is_there(
    spans: Spans, logs: Logs, capture_file: Path
) -> None:
    stream(capture_file, spans, logs, [b"data: 1\n\n"], capture_span_payloads="logs")
    written = [json.loads(line) for line in capture_file.read_bytes().splitlines()]
    assert [json.loads(record.body) for record in logs.all()] == written
    assert [record.attributes["wirecap.seq"] for record in logs.all()] == list(range(1, len(written) + 1))
    assert (logs.all()[0].event_name, logs.all()[-1].event_name) == ("wirecap.system_start", "wirecap.system_stop")
    assert {record.trace_id for record in logs.all() if "system" in record.event_name} == {0}


def test_of_a_long_stream_a_span_keeps_request_and_end_and_logs_keep_all(
    spans: Spans, logs: Logs, capture_file: Path
) -> None:
    stream(capture_file, spans, logs, [b"data: %d\n\n" % n for n in range(1000)], capture_span_payloads="both")
    (span,) = spans.exporter.get_finished_spans()
    assert span.dropped_events == 0
    found = [event.name.removeprefix("wirecap.") for event in span.events]
    assert Counter(found) == {"outbound_request": 1, "stream_start": 1, "stream_chunk": 100, "stream_end": 1}
    assert (found[0], found[-1]) == ("outbound_request", "stream_end")
    assert (span.attributes or {})["wirecap.payloads_left_out"] == 900
    assert len(logs.records()) == len(captured(capture_file)) == 1003


def test_a_large_record_is_cut_and_says_where_the_whole_one_is(spans: Spans, logs: Logs, capture_file: Path) -> None:
    stream(capture_file, spans, logs, [b"data: %s\n\n" % (b"word " * 20_000)] * 40, capture_span_payloads="both")
    whole = {record["metadata"]["seq"]: record for record in captured(capture_file)}
    documents = [(attributes, attributes[EVENT_RECORD]) for _, attributes in on_spans(spans)]
    documents += [(record.attributes, record.body) for record in logs.records()]
    cut = 0
    for attributes, document in documents:
        assert len(document) <= 1 << 16
        told, written = json.loads(document), whole[int(attributes["wirecap.seq"])]
        if "truncated" in told["metadata"]:
            cut += 1
            assert written["payload"].startswith(told["payload"])
            assert len(told["payload"]) > 1000
            assert "truncated" not in written["metadata"]  # the capture has it whole
        else:
            assert told == written
    assert cut > 40
    on_span = sum(len(attributes[EVENT_RECORD]) for _, attributes in on_spans(spans))
    assert on_span < (1 << 20) + (1 << 16)
    assert on_spans(spans)[-1][0] == "wirecap.stream_end"


def test_what_a_span_carries_is_measured_in_bytes_whatever_the_script(
    spans: Spans, logs: Logs, capture_file: Path
) -> None:
    chunk = "data: " + "你" * 20_000 + "\n\n"
    stream(capture_file, spans, logs, [chunk.encode()] * 40, capture_span_payloads="events")
    assert sum(len(attributes[EVENT_RECORD].encode()) for _, attributes in on_spans(spans)) < (1 << 20) + (1 << 16)


def test_an_unsampled_span_carries_nothing_and_its_log_records_are_told(logs: Logs, capture_file: Path) -> None:
    spans = make_spans(sampler=ALWAYS_OFF)
    stream(capture_file, spans, logs, [b"data: 1\n\n"], capture_span_payloads="both")
    assert spans.exporter.get_finished_spans() == ()
    records = captured(capture_file)
    assert [f"{record.span_id:016x}" for record in logs.records()] == [r["metadata"]["span_id"] for r in records]


def test_span_events_become_records_again_elsewhere_and_are_not_doubled_at_home(
    spans: Spans, logs: Logs, capture_file: Path, tmp_path: Path
) -> None:
    home = WireCaptureSpanExporter(load_config({"capture_file": capture_file}, {}))
    stream(capture_file, spans, logs, [b"data: 1\n\n", b"data: 2\n\n"], capture_span_payloads="events")
    assert home.force_flush()
    before = captured(capture_file)
    assert len(before) == 5
    home.export(spans.exporter.get_finished_spans())
    home.shutdown()
    assert captured(capture_file) == before
    target = tmp_path / "elsewhere.log"
    elsewhere = WireCaptureSpanExporter(load_config({"capture_file": target}, {}))
    elsewhere.export(spans.exporter.get_finished_spans())
    elsewhere.shutdown()
    after = captured(target)
    numbers = ("process", "pid", "seq")
    for old, new in zip(before, after, strict=True):
        assert new["metadata"].pop("imported") == {name: old["metadata"].pop(name) for name in numbers}
        for name in numbers:
            del new["metadata"][name]
        assert new == old


def test_a_document_that_a_provider_s_limit_cut_is_told_as_lost_where_it_is_read(
    logs: Logs, capture_file: Path, tmp_path: Path
) -> None:
    spans = make_spans(span_limits=SpanLimits(max_attribute_length=300))
    stream(capture_file, spans, logs, [b"data: 1\n\n"], capture_span_payloads="events")
    target = tmp_path / "elsewhere.log"
    elsewhere = WireCaptureSpanExporter(load_config({"capture_file": target}, {}))
    elsewhere.export(spans.exporter.get_finished_spans())
    elsewhere.shutdown()
    told = [json.loads(line) for line in target.read_text().splitlines()]
    gaps = [record["payload"]["reason"] for record in told if record["direction"] == "system_gap"]
    assert len(gaps) + len(captured(target)) == len(captured(capture_file))
    assert gaps


def test_a_log_pipeline_that_raises_costs_the_capture_nothing(spans: Spans, capture_file: Path) -> None:
    class Failing(LoggerProvider):
        def get_logger(self, *_arguments: Any, **_keywords: Any) -> Any:
            class Logger:
                def emit(self, *_arguments: Any, **_keywords: Any) -> None:
                    raise RuntimeError("no log today")

            return Logger()

    failing = Logs(Failing(shutdown_on_exit=False), InMemoryLogRecordExporter())
    stream(capture_file, spans, failing, [b"data: 1\n\n"], capture_span_payloads="both")
    directions = [record["direction"] for record in captured(capture_file)]
    assert directions == ["outbound_request", "stream_start", "stream_chunk", "stream_end"]
    assert len(on_spans(spans)) == 4
