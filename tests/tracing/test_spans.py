"""The OpenTelemetry side: the user's provider gets its spans, and the capture needs none."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import otel_wirecap
from otel_wirecap import WireCaptureSpanExporter
from otel_wirecap.config import load_config
from otel_wirecap.tracing.attributes import EVENT_RECORD

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def provider(**options: Any) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False, **options)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def backend(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200 if b"asked" in request.content else 500, json={"model": "answered"})


async def proxy(request: Request) -> JSONResponse:
    async with httpx.AsyncClient(transport=httpx.MockTransport(backend)) as client:
        answer = await client.post("http://backend.example/v1/chat/completions", content=await request.body())
    return JSONResponse(answer.json())


def exchange(traceparent: bool = True) -> None:
    app = Starlette(routes=[Route("/v1/chat/completions", proxy, methods=["POST"])])
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"} if traceparent else {}

    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://proxy.example") as client:
            await client.post("/v1/chat/completions", json={"model": "asked"}, headers=headers)

    asyncio.run(go())


def records(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in found if not record["direction"].startswith("system_")]


def test_the_users_provider_gets_one_span_an_exchange_with_the_right_parents(capture_file: Path) -> None:
    made, exporter = provider()
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=made)
    exchange()
    otel_wirecap.uninstrument()
    spans = exporter.get_finished_spans()
    # The test's own client is captured as well: it calls in process.
    server = next(span for span in spans if span.kind is SpanKind.SERVER)
    inner = next(s for s in spans if s.kind is SpanKind.CLIENT and s.attributes["server.address"] == "backend.example")
    assert f"{server.context.trace_id:032x}" == TRACE
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    assert inner.parent is not None
    assert inner.parent.span_id == server.context.span_id
    for span in (server, inner):
        assert span.attributes["http.request.method"] == "POST"
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["gen_ai.response.model"] == "answered"
        assert span.attributes["wirecap.outcome"] == "complete"
        assert span.end_time > span.start_time
        assert not span.events
    by_span = {record["metadata"]["span_id"] for record in records(capture_file)}
    assert {f"{server.context.span_id:016x}", f"{inner.context.span_id:016x}"} < by_span


def test_an_error_is_the_spans_too(capture_file: Path) -> None:
    made, exporter = provider()
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=made)
    with httpx.Client() as client, pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:9/")
    otel_wirecap.uninstrument()
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ConnectError"


def test_a_sampler_that_drops_every_span_loses_no_record(capture_file: Path) -> None:
    made, exporter = provider(sampler=ALWAYS_OFF)
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=made)
    exchange()
    otel_wirecap.uninstrument()
    assert not exporter.get_finished_spans()
    found = records(capture_file)
    assert len(found) == 6
    assert all(int(record["metadata"]["span_id"], 16) and int(record["metadata"]["trace_id"], 16) for record in found)


def test_without_any_sdk_set_up_the_capture_is_complete_and_keeps_the_callers_trace(capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    exchange()
    otel_wirecap.uninstrument()
    found = records(capture_file)
    assert len(found) == 6
    server = [record for record in found if record["metadata"]["leg"] == "client"]
    assert {record["metadata"]["trace_id"] for record in server} == {TRACE}
    assert len({record["metadata"]["span_id"] for record in found}) == 3


def test_a_span_processor_that_raises_harms_neither_the_application_nor_the_capture(capture_file: Path) -> None:
    class Failing(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            raise RuntimeError("the user's exporter fails")

    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(Failing()))
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=made)
    exchange()
    otel_wirecap.uninstrument()
    assert len(records(capture_file)) == 6


def test_finished_spans_from_elsewhere_become_records_again(capture_file: Path, tmp_path: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    exchange()
    otel_wirecap.uninstrument()
    made, exporter = provider()
    secret = "sk-" + os.urandom(24).hex()
    with made.get_tracer("elsewhere").start_as_current_span("exchange") as span:
        for record in records(capture_file):
            record["metadata"]["note"] = secret
            document = json.dumps(record)
            span.add_event("wirecap." + record["direction"], {EVENT_RECORD: document})
    target = tmp_path / "imported.log"
    sink = WireCaptureSpanExporter(load_config({"capture_file": target}, {}))
    assert sink.export(exporter.get_finished_spans()) is SpanExportResult.SUCCESS
    assert sink.force_flush()
    sink.shutdown()
    assert secret not in target.read_text()
    for before, after in zip(records(capture_file), records(target), strict=True):
        assert after["metadata"]["imported"] == {name: before["metadata"][name] for name in ("process", "pid", "seq")}
        for name in ("timestamp_iso", "direction", "session_id", "model", "payload", "content_length", "content_type"):
            assert after[name] == before[name]


def run(code: str, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WIRE_CAPTURE"))}
    return subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code)],
        env=clean | environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


CALL = """
    import httpx
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"model": "m"}))
    httpx.Client(transport=transport).post("http://backend.example/", json={"model": "m"})
"""


@pytest.mark.telemetry
def test_the_exporter_in_opentelemetrys_own_pipeline_doubles_nothing(capture_file: Path) -> None:
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    off = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    done = run(CALL, launcher, OTEL_TRACES_EXPORTER="wirecap", WIRE_CAPTURE_FILE=str(capture_file), **off)
    assert done.returncode == 0, done.stderr
    assert [record["direction"] for record in records(capture_file)] == ["outbound_request", "inbound_response"]


def test_an_exporter_that_is_made_first_leaves_the_capture_its_settings(
    capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE_CAPTURE_FILE", str(capture_file))
    beside = WireCaptureSpanExporter()
    assert not capture_file.exists()
    said = os.urandom(12).hex()
    made, exporter = provider()
    settings = {"capture_redact_values": [said], "capture_span_payloads": "events", "tracer_provider": made}
    otel_wirecap.instrument(**settings)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"said": said}))
    httpx.Client(transport=transport).post("http://backend.example/", json={"said": said})
    otel_wirecap.uninstrument()
    before = capture_file.read_text()
    assert said not in before
    # It knows what was written here, and takes that no second time, also when the capture is over.
    assert beside.export(exporter.get_finished_spans()) is SpanExportResult.SUCCESS
    assert beside.force_flush()
    beside.shutdown()
    assert capture_file.read_text() == before


def test_a_capture_that_is_open_with_other_settings_says_so(
    capture_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = WireCaptureSpanExporter(load_config({"capture_file": capture_file}, {}))
    otel_wirecap.instrument(capture_file=capture_file)
    otel_wirecap.uninstrument()
    assert caplog.messages == []
    otel_wirecap.instrument(capture_file=capture_file, capture_redact_fields=["note"])
    otel_wirecap.uninstrument()
    first.shutdown()
    assert [str(capture_file) in told and "other settings" in told for told in caplog.messages] == [True]


def test_a_provider_that_is_set_later_gets_its_spans_before_it_is_shut_down(capture_file: Path) -> None:
    done = run(
        f"""
        import otel_wirecap
        otel_wirecap.instrument(capture_file={str(capture_file)!r})
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
        trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        {CALL.strip()}
        """.replace("\n    import httpx", "\n        import httpx")
        .replace("\n    transport", "\n        transport")
        .replace("\n    httpx.C", "\n        httpx.C")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["attributes"]["gen_ai.response.model"] == "m"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WIRE_CAPTURE_MAX_FILES", "x", "capture_max_files"),
        ("WIRE_CAPTURE_FILE", "/proc/none/x.log", "/proc/none/x.log"),
    ],
)
@pytest.mark.telemetry
def test_under_opentelemetry_instrument_trouble_is_told_once_and_the_application_runs_on(
    variable: str, value: str, told: str, tmp_path: Path
) -> None:
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    off = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    environ = {"WIRE_CAPTURE_FILE": str(tmp_path / "capture.log"), variable: value}
    done = run(CALL + "    print('ran on')\n", launcher, **off, **environ)
    assert (done.returncode, done.stdout) == (0, "ran on\n")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr


def test_without_a_file_nothing_is_hooked() -> None:
    before = vars(httpx.Client)["_send_single_request"]
    otel_wirecap.instrument()
    try:
        assert vars(httpx.Client)["_send_single_request"] is before
    finally:
        otel_wirecap.uninstrument()
    assert trace.get_current_span().get_span_context().is_valid is False


def test_a_capture_that_fails_leaves_its_span_the_true_end(capture_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("the recording fails")

    monkeypatch.setattr("otel_wirecap.capture.http.HTTPRecording.response", fail)
    made, exporter = provider()

    def slow(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Slow())

    class Slow(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b"a"
            time.sleep(0.3)
            yield b"b"

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=made)
    with httpx.Client(transport=httpx.MockTransport(slow)) as client:
        client.get("http://backend.example/")
    otel_wirecap.uninstrument()
    (span,) = exporter.get_finished_spans()
    assert span.end_time - span.start_time > 300_000_000
    assert span.attributes["wirecap.outcome"] == "complete"


@pytest.mark.telemetry
def test_at_a_process_s_end_spans_logs_and_metrics_still_reach_opentelemetrys_exporters(capture_file: Path) -> None:
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    signals = {f"OTEL_{signal}_EXPORTER": "console" for signal in ("TRACES", "METRICS", "LOGS")}
    code = CALL.replace("http://backend.example/", "http://backend.example/v1/chat/completions")
    environ = signals | {"WIRE_CAPTURE_FILE": str(capture_file), "WIRE_CAPTURE_SPAN_PAYLOADS": "both"}
    done = run(code, launcher, **environ)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    told, decoder, rest = [], json.JSONDecoder(), done.stdout
    while rest := rest.lstrip():
        document, end = decoder.raw_decode(rest)
        told.append(document)
        rest = rest[end:]
    spans = [one for one in told if one.get("attributes", {}).get("wirecap.leg")]
    assert [span["name"] for span in spans] == ["chat m"]
    directions = ["wirecap." + record["direction"] for record in records(capture_file)]
    assert [event["name"] for event in spans[0]["events"]] == directions
    events = [one["event_name"] for one in told if one.get("event_name")]
    assert events == ["wirecap.system_start", *directions, "wirecap.system_stop"]
    metrics = {
        metric["name"]
        for one in told
        for resource in one.get("resource_metrics", ())
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert {"http.client.request.duration", "gen_ai.client.operation.duration", "wirecap.capture.records"} <= metrics
