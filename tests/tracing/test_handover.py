"""Processors that wait: neither the application nor the capture waits with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_wirecap
from otel_wirecap import native
from otel_wirecap.log import warn_once
from otel_wirecap.tracing import handover

REQUESTS = 20


class Waiting(InMemorySpanExporter):
    """A collector that does not answer until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may.wait(60)
        return super().export(spans)


class WaitingLogs(InMemoryLogRecordExporter):
    def __init__(self, may: threading.Event) -> None:
        super().__init__()
        self._may = may

    def export(self, batch: Any) -> Any:
        self._may.wait(60)
        return super().export(batch)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    warn_once.forget()
    exporter = Waiting()
    yield exporter
    exporter.may.set()


def start(capture_file: Path, waiting: Waiting) -> None:
    spans, logs = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    spans.add_span_processor(SimpleSpanProcessor(waiting))
    logs.add_log_record_processor(SimpleLogRecordProcessor(WaitingLogs(waiting.may)))
    otel_wirecap.instrument(
        capture_file=capture_file, capture_span_payloads="both", tracer_provider=spans, logger_provider=logs
    )


def ask() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"model": "m"}))
    with httpx.Client(transport=transport) as client:
        for _ in range(REQUESTS):
            client.post("http://backend.example/v1/chat/completions", json={"model": "m"})


def directions(path: Path) -> list[str]:
    return [json.loads(line)["direction"] for line in path.read_bytes().splitlines()]


def told_by_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "otel_wirecap"]


WHOLE = ["system_start", *["outbound_request", "inbound_response"] * REQUESTS, "system_stop"]


def test_a_processor_that_waits_for_a_collector_costs_the_capture_nothing(
    capture_file: Path, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handover, "CLOSE_SECONDS", 0.1)
    start(capture_file, waiting)
    ask()
    otel_wirecap.uninstrument()
    assert directions(capture_file) == WHOLE
    assert waiting.get_finished_spans() == ()
    (told,) = told_by_us(caplog)
    assert "are lost at the end" in told


def test_what_a_collector_takes_late_is_all_there_at_the_end(capture_file: Path, waiting: Waiting) -> None:
    start(capture_file, waiting)
    ask()
    waiting.may.set()
    otel_wirecap.uninstrument()
    assert directions(capture_file) == WHOLE
    spans = waiting.get_finished_spans()
    assert len(spans) == REQUESTS
    assert [span.start_time for span in spans] == sorted(span.start_time or 0 for span in spans)


def test_what_waits_is_bounded_and_what_is_left_out_is_told_once(
    capture_file: Path, waiting: Waiting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handover, "MOST_WAITING_BYTES", 10 * handover.ITEM_SIZE)
    monkeypatch.setattr(handover, "CLOSE_SECONDS", 0.1)
    start(capture_file, waiting)
    ask()
    otel_wirecap.uninstrument()
    assert directions(capture_file) == WHOLE
    assert ["are left out" in message for message in told_by_us(caplog)] == [True, False]


FORKING = """
    import os, httpx, otel_wirecap
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))))
    otel_wirecap.instrument(tracer_provider=provider)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    def ask(model):
        httpx.Client(transport=transport).post("http://backend.example/v1/chat/completions", json={"model": model})
    ask("parent")
    child = os.fork()
    ask("child" if child == 0 else "parent")
    if child:
        os.waitpid(child, 0)
"""


def test_a_forked_child_hands_over_what_is_its_own(capture_file: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WIRE_CAPTURE"))}
    environ |= {"WIRE_CAPTURE_FILE": str(capture_file)}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKING)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split("\n")) == ["", "chat child", "chat parent", "chat parent"]


def test_the_thread_ends_with_its_capture_and_another_one_hands_over_what_comes_later() -> None:
    def threads() -> set[int]:
        return {ident for ident, thread in native._threads.items() if thread.name == "otel-wirecap-handover"}

    before = threads()
    one = handover.Handover()
    done: list[int] = []
    for number in range(3):
        one.put(lambda number=number: done.append(number))
        one.close()
        assert done == [*range(number + 1)]
        deadline = time.monotonic() + 30
        while threads() - before:
            assert time.monotonic() < deadline, "it goes on for ever"
            time.sleep(0.01)
