"""What is captured is chosen: by leg, by URL, by pausing. The exporters' own traffic never is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from wire import Server, serving

import otel_wirecap
from otel_wirecap.config import EXCLUDED_URLS_VARIABLES
from otel_wirecap.instrumentation.runtime import active

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def relay(url: str) -> Any:
    """An application that asks ``url`` twice and answers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(url, json={"model": "m"})
        async with aiohttp.ClientSession() as session, session.post(url, json={"model": "m"}):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return otel_wirecap.WireCaptureMiddleware(app)


def call(app: Any, path: str = "/chat") -> None:
    async def go() -> None:
        made = httpx.Request("GET", "http://proxy.example" + path)
        await httpx.ASGITransport(app).handle_async_request(made)

    asyncio.run(go())


def seen(settings: dict[str, Any], capture_file: Path, read_capture: Read, url: str) -> tuple[list[str], int]:
    """The legs that were captured of one relayed request, and of how many flows."""
    otel_wirecap.instrument(capture_file=capture_file, **settings)
    try:
        call(relay(url))
    finally:
        otel_wirecap.uninstrument()
    requests = [r["metadata"] for r in read_capture() if r["direction"].endswith("bound_request")]
    return [metadata["leg"] for metadata in requests], len({metadata["request_id"] for metadata in requests})


@pytest.mark.parametrize(
    ("settings", "legs"),
    [
        ({}, ["client", "backend", "backend"]),
        ({"capture_legs": "client"}, ["client"]),
        ({"capture_legs": "backend"}, ["backend", "backend"]),
        ({"capture_exclude": "proxy.example"}, ["backend", "backend"]),
        ({"capture_exclude": "proxy.example/ch*"}, ["backend", "backend"]),
        ({"capture_exclude": "/chat"}, ["backend", "backend"]),
        ({"capture_exclude": "127.0.0.1:*"}, ["client"]),
        ({"capture_exclude": "/doc*,/chat"}, []),
        ({"capture_exclude": "PROXY.Example"}, ["backend", "backend"]),
        ({"capture_exclude": "http://127.0.0.1:*"}, ["client"]),
        ({"capture_include": "proxy.example"}, ["client"]),
        ({"capture_include": "127.0.0.1"}, ["backend", "backend"]),
        ({"capture_include": "*", "capture_exclude": "*/document"}, ["client"]),
    ],
)
@pytest.mark.sampled(5, rest="thorough")
def test_legs_and_urls_are_chosen_and_what_is_left_stays_one_flow(
    settings: dict[str, Any], legs: list[str], server: Server, capture_file: Path, read_capture: Read
) -> None:
    captured, flows = seen(settings, capture_file, read_capture, server.url + "/document")
    assert captured == legs
    assert flows == (1 if legs else 0)
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("expressions", "settings", "legs"),
    [
        ("/chat,unheard-of", {}, ["backend", "backend"]),
        ("example/chat$", {}, ["backend", "backend"]),
        (r"127\.0\.0\.1:\d+/doc", {}, ["client"]),
        ("/cha[t]{1,2}$", {"capture_include": "*"}, ["backend", "backend"]),
        ("/chat$", {"capture_exclude": "127.0.0.1:*"}, []),
    ],
)
@pytest.mark.parametrize("variable", EXCLUDED_URLS_VARIABLES)
@pytest.mark.sampled(4, rest="thorough")
def test_opentelemetrys_variables_count_beside_the_globs(
    variable: str, expressions: str, settings: dict[str, Any], legs: list[str],
    server: Server, capture_file: Path, read_capture: Read, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, expressions)
    assert seen(settings, capture_file, read_capture, server.url + "/document")[0] == legs


def test_a_pause_leaves_out_what_begins_in_it_and_says_so(
    server: Server, capture_file: Path, read_capture: Read
) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    app = relay(server.url + "/document")
    call(app, "/before")
    otel_wirecap.pause()
    otel_wirecap.pause()
    call(app, "/meanwhile")
    otel_wirecap.resume()
    otel_wirecap.resume()
    call(app, "/after")
    otel_wirecap.uninstrument()
    text = capture_file.read_text()
    assert "/meanwhile" not in text
    assert len([r for r in read_capture() if r["direction"] == "outbound_request"]) == 4
    system = [line for line in text.splitlines() if '"direction":"system_' in line]
    assert ["system_pause" in system[1], "system_resume" in system[2], len(system)] == [True, True, 4]
    assert '"exchanges_passed_over":3' in system[2]


def test_what_runs_when_a_pause_begins_is_captured_to_its_end(
    server: Server, capture_file: Path, read_capture: Read
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        otel_wirecap.pause()
        async with httpx.AsyncClient() as client:
            await client.post(server.url + "/document", json={"model": "m"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    otel_wirecap.instrument(capture_file=capture_file)
    call(otel_wirecap.WireCaptureMiddleware(app))
    otel_wirecap.uninstrument()
    assert [r["direction"] for r in read_capture()] == [
        "inbound_request", "outbound_request", "inbound_response", "outbound_response",
    ]  # fmt: skip


def test_a_signal_handler_of_the_application_pauses_and_resumes(server: Server, tmp_path: Path) -> None:
    program = """
        import signal, sys
        import otel_wirecap, httpx
        signal.signal(signal.SIGUSR1, lambda *_: otel_wirecap.pause())
        signal.signal(signal.SIGUSR2, lambda *_: otel_wirecap.resume())
        otel_wirecap.instrument(capture_file="capture.log")
        with httpx.Client() as client:
            for line in sys.stdin:
                print(client.get(line.strip()).status_code, flush=True)
        otel_wirecap.uninstrument()
        signal.raise_signal(signal.SIGUSR1)  # without a capture it does nothing
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(path: str) -> str:
            process.stdin.write(f"{server.url}/document?{path}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        def send(number: signal.Signals, word: str) -> None:
            process.send_signal(number)
            deadline = time.monotonic() + 60
            while word not in (tmp_path / "capture.log").read_text() and time.monotonic() < deadline:
                time.sleep(0.05)

        assert ask("one") == "200"
        send(signal.SIGUSR1, "system_pause")
        assert ask("two") == "200"
        send(signal.SIGUSR2, "system_resume")
        assert ask("three") == "200"
        process.stdin.close()
        assert process.wait(60) == 0
    text = (tmp_path / "capture.log").read_text()
    assert ["one" in text, "?two" in text, "three" in text] == [True, False, True]


class Exporting(SpanExporter):
    """Posts to a collector with each of the hooked clients, as an exporter that is built on one would."""

    def __init__(self, url: str) -> None:
        self.url = url

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        httpx.post(self.url, content=b"spans")

        async def go() -> None:
            async with aiohttp.ClientSession() as session, session.post(self.url, data=b"spans"):
                pass

        asyncio.run(go())
        return SpanExportResult.SUCCESS


def test_what_exporters_send_is_not_captured(server: Server, capture_file: Path, read_capture: Read) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Exporting(server.url + "/document")))
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider)
    httpx.get(server.url + "/document?asked")
    runtime = active()
    assert runtime is not None
    runtime.exporter.force_flush()
    assert provider.force_flush()
    otel_wirecap.uninstrument()
    provider.shutdown()
    assert [got.body for got in server.received[1:3]] == [b"spans", b"spans"]
    requests = [r["metadata"]["url"] for r in read_capture() if r["direction"] == "outbound_request"]
    assert requests == [server.url + "/document?asked"]


def test_an_sdk_that_makes_spans_itself_is_captured_all_the_same(server: Server, captured: Read) -> None:
    with suppress_http_instrumentation():
        httpx.get(server.url + "/document?asked")
    with suppress_instrumentation():
        httpx.get(server.url + "/document?kept-out")
    requests = [r["metadata"]["url"] for r in captured() if r["direction"] == "outbound_request"]
    assert requests == [server.url + "/document?asked"]
