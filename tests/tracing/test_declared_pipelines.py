"""Our exporter beside OTLP's, named in the environment or declared in a file: both have all, and nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from collected_gateway import (
    BIN,
    CONTRIB,
    SECONDS,
    Planted,
    ask_with_sdks,
    assert_whole,
    collected_gateway,
    environ,
    records_of,
)
from opentelemetry.sdk.trace.export import SpanExportResult
from otlp_collectors import COLLECTORS, GRPC, HTTP, Received, as_told
from redaction_backend import Backend, Words
from traced_gateway import Spans

import otel_wirecap
from otel_wirecap import WireCaptureSpanExporter

pytestmark = pytest.mark.telemetry


@pytest.fixture
def planted() -> Planted:
    return Planted.make()


@pytest.fixture
def backend(planted: Planted) -> Iterator[Backend]:
    backend = Backend(Words("Let me see.", f"It is {planted.answer}.", json.dumps({"city": "Paris"})))
    yield backend
    backend.close()


def assert_both_have_all(path: Path, received: Received, planted: Planted) -> None:
    records = records_of(path)
    assert_whole(records)
    assert received.records_in_events() == as_told(records[1:-1], path)
    spans = {span.it.span_id.hex() for span in received.our_spans()}
    assert spans == {record["metadata"]["span_id"] for record in records[1:-1]}
    assert len(received.our_spans()) == len(spans) == 8
    for secret in planted:
        assert secret.encode() not in b"".join(received.data)


@pytest.mark.parametrize("names", ["wirecap,otlp", "otlp,wirecap"])
def test_both_exporters_by_name(names: str, planted: Planted, backend: Backend, capture_file: Path) -> None:
    with COLLECTORS[GRPC]() as received:
        env = environ(
            capture_file,
            OTEL_TRACES_EXPORTER=names,
            OTEL_EXPORTER_OTLP_ENDPOINT=received.endpoint,
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB,
            WIRE_CAPTURE_SPAN_PAYLOADS="events",
        )
        with collected_gateway(backend.url, env) as gateway:
            ask_with_sdks(gateway.url, planted)
    assert gateway.done.stderr == ""
    assert_both_have_all(capture_file, received, planted)
    assert received.our_logs() == []


DECLARED = """
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: gateway
propagator:
  composite:
    - tracecontext:
    - baggage:
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_{protocol}:
            endpoint: {traces}
    - simple:
        exporter:
          wirecap:
            capture_file: ${{CAPTURES}}/capture.log
logger_provider:
  processors:
    - batch:
        exporter:
          otlp_{protocol}:
            endpoint: {logs}
meter_provider:
  readers:
    - periodic:
        exporter:
          otlp_{protocol}:
            endpoint: {metrics}
instrumentation/development:
  python:
    wirecap:
      capture_file: ${{CAPTURES}}/capture.log
      capture_span_payloads: both
      capture_backends:
        "{backend}": openai
      capture_max_files: 2
"""


def declared(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment that names a file with the configuration, and nothing else."""
    path = tmp_path / "otel.yaml"
    path.write_text(text)
    env = environ(tmp_path, OTEL_CONFIG_FILE=str(path), CAPTURES=str(tmp_path))
    ours = ("WIRE_CAPTURE", "OTEL_TRACES", "OTEL_LOGS", "OTEL_METRICS", "OTEL_SERVICE")
    return {name: value for name, value in env.items() if not name.startswith(ours)}


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_declared_configuration(protocol: str, planted: Planted, backend: Backend, tmp_path: Path) -> None:
    with COLLECTORS[protocol]() as received:
        signals = {
            signal: received.endpoint + (f"/v1/{signal}" if protocol == HTTP else "")
            for signal in ("traces", "logs", "metrics")
        }
        host = backend.url.removeprefix("http://")
        text = DECLARED.format(protocol=protocol.partition("/")[0], backend=host, **signals)
        env = declared(tmp_path, text) | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": CONTRIB}
        with collected_gateway(backend.url, env) as gateway:
            ask_with_sdks(gateway.url, planted)
    path = tmp_path / "capture.log"
    assert "otel-wirecap" not in gateway.done.stderr
    assert_both_have_all(path, received, planted)
    assert received.records_in_logs() == as_told(records_of(path), path)
    assert "wirecap.capture.records" in received.metrics
    assert {span.resource["service.name"] for span in received.our_spans()} == {"gateway"}
    assert records_of(path)[0]["payload"]["settings"]["capture_max_files"] == 2
    assert {record["backend"] for record in records_of(path) if record["direction"] == "outbound_request"} == {"openai"}


WRONG = """
file_format: "1.0"
tracer_provider:
  processors:
    - simple:
        exporter:
          wirecap:
            capture_fiel: ${{CAPTURES}}/capture.log
instrumentation/development:
  python:
    wirecap:
      capture_file: ${{CAPTURES}}/capture.log
      {name}: {value}
"""


@pytest.mark.parametrize(("name", "value", "told"), [("capture_format", "xml", "'xml'"), ("captur", "1", "captur")])
def test_a_declared_setting_that_is_wrong_is_told_and_the_application_runs_on(
    name: str, value: str, told: str, tmp_path: Path
) -> None:
    env = declared(tmp_path, WRONG.format(name=name, value=value))
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "-c", "print('ran on')"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    ours = [line for line in done.stderr.splitlines() if line.startswith("otel-wirecap: ")]
    assert len(ours) == 2
    assert ours[0].startswith("otel-wirecap: the span exporter 'wirecap' is off: ")
    assert "capture_fiel" in ours[0]
    assert ours[1].startswith("otel-wirecap: capture is off: ")
    assert told in ours[1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "capture.log").exists()


def test_the_exporter_takes_settings_by_name(spans: Spans, capture_file: Path, tmp_path: Path) -> None:
    settings = {"capture_span_payloads": "events", "tracer_provider": spans.provider}
    otel_wirecap.instrument(capture_file=capture_file, **settings)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    httpx.Client(transport=transport).post("http://backend.example/", json={})
    otel_wirecap.uninstrument()
    told = spans.exporter.get_finished_spans()

    (tmp_path / "settings.yaml").write_text(f"logging:\n  capture_file: {tmp_path / 'file.log'}\n")
    for path, given in (
        (tmp_path / "name.log", {"capture_file": str(tmp_path / "name.log"), "capture_max_files": 3}),
        (tmp_path / "file.log", {"config": str(tmp_path / "settings.yaml"), "capture_max_files": 3}),
    ):
        exporter = WireCaptureSpanExporter(**given)
        assert exporter.export(told) is SpanExportResult.SUCCESS
        exporter.shutdown()
        assert exporter.export(told) is SpanExportResult.SUCCESS
        start, *rest, stop = records_of(path)
        assert start["payload"]["settings"]["capture_max_files"] == 3
        assert [record["direction"] for record in rest] == ["outbound_request", "inbound_response"]
        assert stop["direction"] == "system_stop"


def test_an_exporter_whose_file_cannot_be_written_is_off(
    spans: Spans, capture_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with spans.provider.get_tracer("elsewhere").start_as_current_span("exchange") as span:
        span.add_event("wirecap.inbound_request", {"wirecap.record": "{}"})
    exporter = WireCaptureSpanExporter(capture_file=str(tmp_path))
    told = spans.exporter.get_finished_spans()
    assert [exporter.export(told) for _ in range(2)] == [SpanExportResult.FAILURE, SpanExportResult.SUCCESS]
    assert [
        message.startswith("otel-wirecap: the span exporter 'wirecap' is off: ") for message in caplog.messages
    ] == [True]
