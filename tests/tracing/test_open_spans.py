"""Spans are found by their exchanges' ids, as long as these run and not longer."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import wait_until
from writer_processes import writers_of

import otel_wirecap
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.tracing.spans import OpenSpans, open_spans


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def ask(number: int = 1) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    with httpx.Client(transport=transport) as client:
        for _ in range(number):
            client.post("http://127.0.0.1:1/v1/chat/completions", json={"model": "m"})


@pytest.mark.parametrize("home", ["process", "thread"])
def test_there_are_as_many_as_exchanges_run(
    home: str, capture_file: Path, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    before = len(open_spans)
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, capture_writer=home)
    ask(20)
    otel_wirecap.uninstrument()
    assert len(open_spans) == before
    assert len(exporter.get_finished_spans()) == 20


def test_spans_that_nobody_hears_of_are_not_in_the_book(capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file, capture_writer="thread")
    most = 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal most
        most = max(most, len(open_spans))
        return httpx.Response(200, json={})

    before = len(open_spans)
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get("http://127.0.0.1:1/")
    otel_wirecap.uninstrument()
    assert most == before


def test_spans_end_although_the_writer_is_killed(
    capture_file: Path, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    otel_wirecap.instrument(
        capture_file=capture_file, tracer_provider=provider, capture_writer="process", capture_flush_interval=0.1
    )
    runtime = active()
    assert runtime is not None
    wait_until(writers_of)
    assert runtime.exporter.force_flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGSTOP)
    ask(5)
    os.kill(pid, signal.SIGKILL)
    ask(5)
    otel_wirecap.uninstrument()
    assert len(exporter.get_finished_spans()) == 10
    assert all(span.end_time and span.end_time >= (span.start_time or 0) for span in exporter.get_finished_spans())


def test_the_span_of_a_response_that_is_dropped_ends(
    capture_file: Path, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"x"

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
    before = len(open_spans)
    client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless())))
    response = client.send(client.build_request("GET", "http://127.0.0.1:1/"), stream=True)
    assert next(response.iter_raw()) == b"x"
    assert len(open_spans) == before + 1
    del response
    gc.collect()
    runtime = active()
    assert runtime is not None
    assert runtime.exporter.force_flush()
    assert len(open_spans) == before
    otel_wirecap.uninstrument()
    assert len(exporter.get_finished_spans()) == 1


class Span:
    """Counts its ends."""

    start_time = 1000

    def __init__(self) -> None:
        self.ends: list[int] = []

    def finish(self, end_time: int, _facts: Any) -> None:
        self.ends.append(end_time)
        raise ValueError("a processor of the user's")


def test_only_the_first_answer_counts_and_what_it_raises_stays_inside() -> None:
    spans, span = OpenSpans(), Span()
    spans.add("ex_1", span, began_ns=7)  # type: ignore[arg-type]
    for _ in range(2):
        spans.ended("ex_1", 10, ExchangeFacts(outcome="complete"))
    spans.ended("ex_2", 10, ExchangeFacts(outcome="complete"))
    assert span.ends == [1003]
    assert not len(spans)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_none() -> None:
    open_spans.add("ex_1", Span(), began_ns=7)  # type: ignore[arg-type]
    try:
        child = os.fork()
        if not child:
            os._exit(len(open_spans))
        assert os.waitpid(child, 0)[1] == 0
    finally:
        open_spans.ended("ex_1", 10, ExchangeFacts(outcome="complete"))
