"""Processors that wait: neither the application nor the capture waits with them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan
from waiting import MAX_SECONDS

import otel_wirecap
from otel_wirecap import native
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.log import warn_once
from otel_wirecap.tracing import handover
from otel_wirecap.tracing.span import CaptureSpan
from otel_wirecap.tracing.span_identity import SpanIdentity

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
    ours = [record for record in caplog.records if record.name == "otel_wirecap"]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


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
    monkeypatch.setattr(handover, "MAX_WAITING_BYTES", 10 * handover.ITEM_SIZE)
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


def interrupted_at_every_line(action: Callable[[], None], interrupt: Callable[[], None]) -> int:
    """Calls ``action``, and ``interrupt`` at each of its lines in the handover's module, as the garbage collector may.

    Returns:
        how often it was interrupted.
    """
    times = 0
    is_inside = False

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal times, is_inside
        if frame.f_code.co_filename != handover.__file__ or is_inside:
            return None
        is_inside = True
        interrupt()
        is_inside = False
        times += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return times


@pytest.mark.parametrize("what", ["put", "close"])
def test_a_finaliser_may_put_in_the_middle_of_anything(what: str) -> None:
    one = handover.Handover()
    done: list[str] = []
    times: list[int] = []

    def interrupt() -> None:
        one.put(lambda: done.append("finaliser"))

    def run() -> None:
        for _ in range(3):
            if what == "put":
                times.append(interrupted_at_every_line(lambda: one.put(lambda: done.append("put")), interrupt))
                one.close()
            else:
                one.put(lambda: done.append("put"))
                times.append(interrupted_at_every_line(one.close, interrupt))

    host = threading.Thread(target=run, daemon=True)
    host.start()
    host.join(MAX_SECONDS)
    assert not host.is_alive(), "it waits for itself"
    one.close()
    assert min(times) > 5
    assert done.count("put") == 3
    assert done.count("finaliser") == sum(times)


class Touched(NonRecordingSpan):
    """A span that notes in which threads it is touched."""

    def __init__(self) -> None:
        super().__init__(INVALID_SPAN_CONTEXT)
        self.threads: list[native.Thread | None] = []

    def is_recording(self) -> bool:
        self.threads.append(native.current_thread())
        return True

    def set_attributes(self, attributes: Any) -> None:
        self.threads.append(native.current_thread())

    def update_name(self, name: str) -> None:
        self.threads.append(native.current_thread())

    def end(self, end_time: int | None = None) -> None:
        self.threads.append(native.current_thread())


class TouchedMetrics:
    """Notes in which threads measurements are recorded."""

    def __init__(self) -> None:
        self.threads: list[native.Thread | None] = []

    def record(self, *_arguments: object) -> None:
        self.threads.append(native.current_thread())


def test_a_finaliser_that_ends_a_span_touches_nothing_of_the_sdk() -> None:
    """It may run in a thread that holds a lock of the SDK's."""
    one, inner, metrics = handover.Handover(), Touched(), TouchedMetrics()
    identity = SpanIdentity(inner, INVALID_SPAN_CONTEXT, "backend", "GET")
    span = CaptureSpan(identity, 0, one, metrics=metrics)  # type: ignore[arg-type]
    inner.threads.clear()
    span.finish(1, ExchangeFacts(outcome="abandoned"))
    one.close()
    assert len(inner.threads) == 4
    assert len(metrics.threads) == 1
    names = {thread and thread.name for thread in inner.threads + metrics.threads}
    assert names == {"otel-wirecap-handover"}


def test_what_waits_for_a_thread_is_handed_over_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(native, "start_thread", no_thread)
    one = handover.Handover()
    done: list[int] = []
    one.put(lambda: done.append(1))
    one.put(lambda: done.append(2))
    assert not done
    one.close()
    assert done == [1, 2]
