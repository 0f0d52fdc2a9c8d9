"""Malformed input, unusual use, calls in the wrong order: nothing is harmed, and nothing is lost silently."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from quart import Quart
from wire import DOCUMENT, Server, serving

import otel_wirecap
from otel_wirecap.capture.events import EventKind
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.storage import registry

Records = list[dict[str, Any]]
Finish = Callable[[], Records]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def scope(path: str = "/chat", headers: Any = ((b"host", b"proxy.example"),)) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80),
    }  # fmt: skip


async def receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def nowhere(message: Any) -> None:
    """A server's ``send``; it reads the headers as a server would, once."""
    list(message.get("headers", ()))


async def answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def call(app: Any, **options: Any) -> None:
    asyncio.run(otel_wirecap.WireCaptureMiddleware(app)(scope(**options), receive, nowhere))


def all_records(path: Path) -> Records:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("settings", [{}, {"capture_exclude": "/health"}])
@pytest.mark.parametrize("host", [b"[", b"a:99999999", b"[::1", b"\xff:x"])
def test_a_host_that_is_none_takes_no_exchange_out_of_the_capture(
    settings: dict[str, Any], host: bytes, capture_file: Path, read_capture: Finish
) -> None:
    ended = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=provider, **settings)
    call(answers, headers=[(b"host", host)])
    otel_wirecap.uninstrument()
    assert [r["direction"] for r in read_capture()] == ["inbound_request", "outbound_response"]
    assert len(ended.get_finished_spans()) == 1


def test_a_hook_that_fails_before_its_exchange_begins_leaves_a_gap(
    capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    runtime = active()
    assert runtime is not None
    monkeypatch.setattr(runtime, "wants", lambda *_: 1 / 0)
    call(answers)
    otel_wirecap.uninstrument()
    _, gap, stop = all_records(capture_file)
    assert gap["payload"] == {"lost_exchanges": 1, "reason": "capture_failure", "error": "ZeroDivisionError"}
    assert (stop["payload"]["lost_events"], stop["payload"]["lost_exchanges"]) == (0, 1)


def test_a_hook_that_fails_later_leaves_a_gap_that_names_its_exchange(
    capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    runtime = active()
    assert runtime is not None
    put = runtime.put
    monkeypatch.setattr(runtime, "put", lambda *event: 1 / 0 if event[0] == EventKind.RESPONSE else put(*event))
    call(answers)
    stats = otel_wirecap.stats()
    assert stats is not None
    assert (stats.lost_events, stats.lost_exchanges) == ({}, {"capture_failure": 1})
    otel_wirecap.uninstrument()
    found = all_records(capture_file)
    (gap,) = [record["payload"] for record in found if record["direction"] == "system_gap"]
    (exchange_id,) = {record["metadata"]["exchange_id"] for record in found if "exchange_id" in record["metadata"]}
    assert gap == {
        "lost_exchanges": 1,
        "reason": "capture_failure",
        "error": "ZeroDivisionError",
        "exchange_id": exchange_id,
    }


def test_a_location_that_leads_nowhere_costs_the_response_nothing(captured: Finish) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "http://[::1"}, content=b"over there")

    with httpx.Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get("http://backend.example/")
    (response,) = [r for r in captured() if r["direction"] == "inbound_response"]
    assert (response["payload"], response["metadata"]["outcome"]) == ("over there", "complete")


def test_the_same_with_aiohttp(captured: Finish) -> None:
    async def go() -> bytes:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: http://[::1\r\ncontent-length: 10\r\n\r\nover there")
            await writer.drain()
            writer.close()

        backend = await asyncio.start_server(handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{backend.sockets[0].getsockname()[1]}/"
        async with (
            backend,
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return await response.read()

    assert asyncio.run(go()) == b"over there"
    (response,) = [r for r in captured() if r["direction"] == "inbound_response"]
    assert (response["payload"], response["metadata"]["outcome"]) == ("over there", "complete")


def test_a_redirect_that_one_request_passed_on_is_not_followed_by_the_next(server: Server, captured: Finish) -> None:
    pool = ThreadPoolExecutor(1)
    client = httpx.Client()

    async def gateway(scope: Any, receive: Any, send: Any) -> None:
        asked = otel_wirecap.carry(functools.partial(client.get, server.url + scope["path"]))
        await asyncio.get_running_loop().run_in_executor(pool, asked)
        await answers(scope, receive, send)

    call(gateway, path="/redirect/1")
    call(gateway, path="/document")
    pool.shutdown()
    client.close()
    asked = [r["metadata"] for r in captured() if r["direction"] == "outbound_request"]
    assert [(metadata["attempt"], "redirect_of" in metadata) for metadata in asked] == [(1, False), (1, False)]
    assert len({metadata["request_id"] for metadata in asked}) == 2


def test_headers_that_can_be_read_but_once_are_left_for_all(captured: Finish) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        headers = iter([(b"content-type", b"text/event-stream")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: x\n\n"})

    call(app, headers=iter([(b"host", b"proxy.example")]))
    assert seen == [(b"host", b"proxy.example")]
    assert "outbound_stream_chunk" in [record["direction"] for record in captured()]


def test_headers_that_are_none_are_the_server_s_to_refuse(captured: Finish) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [("text", "text")]})
        await send({"type": "http.response.body", "body": b"ok"})

    call(app)
    assert captured()[-1]["metadata"]["error"]["type"] == "CaptureFailure"


def test_what_is_sent_to_a_client_that_has_left_is_not_recorded_as_sent(captured: Finish) -> None:
    class Connection:
        """As uvicorn's cycle: it says that the client is gone, and drops what is sent then."""

        disconnected = False

        async def send(self, message: Any) -> None:
            """Drops it."""

    connection = Connection()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(10):
            connection.disconnected = number >= 2
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": number < 9})

    asyncio.run(otel_wirecap.WireCaptureMiddleware(app)(scope(), receive, connection.send))
    end = captured()[-1]
    assert (end["metadata"]["outcome"], end["payload"]["total_chunks"]) == ("client_disconnect", 2)


def test_the_wrapped_application_is_the_application(captured: Finish) -> None:
    app = Quart("any")
    wrapped = otel_wirecap.instrument_app(app)
    key = secrets.token_hex(8)
    wrapped.secret_key = key
    assert (app.secret_key, wrapped.secret_key, isinstance(wrapped, Quart)) == (key, key, True)


# --- carry ---


def carried_in_a_request(make: Callable[[], Any]) -> Any:
    """What ``make`` gives within a request that is over when it comes back."""
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(make())
        await answers(scope, receive, send)

    call(app)
    return kept[0]


def test_whatever_makes_a_coroutine_can_be_carried(server: Server, captured: Finish) -> None:
    async def ask() -> bytes:
        async with httpx.AsyncClient() as client:
            return (await client.get(server.url + "/document")).content

    class Asking:
        async def __call__(self) -> bytes:
            return await ask()

    kinds: list[Any] = [ask, functools.partial(ask), lambda: ask(), Asking()]  # it is the lambda that counts
    for kind in kinds:
        carried = carried_in_a_request(functools.partial(otel_wirecap.carry, kind))
        assert asyncio.run(carried()) == DOCUMENT
    records = captured()
    flows = {r["metadata"]["request_id"] for r in records if r["direction"] == "inbound_request"}
    assert {r["metadata"]["request_id"] for r in records if r["direction"] == "outbound_request"} == flows
    assert len(flows) == len(kinds)


@pytest.mark.parametrize("capturing", [True, False])
def test_a_generator_function_is_refused_whether_capture_runs_or_not(capturing: bool, capture_file: Path) -> None:
    def generates() -> Iterator[int]:
        yield 1

    async def generates_too() -> Any:
        yield 1

    if capturing:
        otel_wirecap.instrument(capture_file=capture_file)
    for function in (generates, generates_too):
        with pytest.raises(TypeError, match=r"carry: .*generates.* is a generator function; expected"):
            otel_wirecap.carry(function)
    otel_wirecap.uninstrument()


def test_a_coroutine_that_ends_in_another_context_ends_quietly(
    captured: Finish, caplog: pytest.LogCaptureFixture
) -> None:
    async def forever() -> None:
        await asyncio.sleep(60)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    carried = carried_in_a_request(lambda: otel_wirecap.carry(forever))

    async def go() -> None:
        serving = otel_wirecap.WireCaptureMiddleware(application)(scope(), receive, nowhere)
        for coroutine in (carried(), serving):
            contextvars.copy_context().run(coroutine.send, None)
            coroutine.close()  # as the garbage collector does

    asyncio.run(go())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- beginning and ending in any order ---


def test_a_start_that_came_to_nothing_stands_in_nobody_s_way(
    server: Server, capture_file: Path, read_capture: Finish, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    otel_wirecap.instrument()
    otel_wirecap.instrument(capture_file=tmp_path)  # a directory
    otel_wirecap.instrument(capture_file=capture_file)
    httpx.get(server.url + "/document")
    otel_wirecap.uninstrument()
    assert len(read_capture()) == 2
    told = [record.getMessage() for record in caplog.records if record.name == "otel_wirecap"]
    assert [line.partition(" is off: ")[2][:25] for line in told] == [
        "neither capture_file nor ", "cannot write the capture ",
    ]  # fmt: skip


def test_a_second_start_says_whose_settings_count(capture_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    otel_wirecap.instrument(capture_file=capture_file)
    otel_wirecap.instrument()
    otel_wirecap.instrument(capture_file="other.log")
    otel_wirecap.uninstrument()
    assert [record.getMessage() for record in caplog.records] == [
        f"otel-wirecap: capture runs already, into {capture_file}; it keeps its settings"
    ]


def test_uninstrument_ends_what_one_client_began(server: Server, capture_file: Path, read_capture: Finish) -> None:
    with httpx.Client() as client:
        otel_wirecap.instrument_client(client, capture_file=capture_file)
        client.get(server.url + "/document")
        otel_wirecap.uninstrument()
        client.get(server.url + "/document")
    assert active() is None
    assert len(read_capture()) == 2


def test_many_threads_begin_one_capture(capture_file: Path) -> None:
    barrier = threading.Barrier(8)

    def begin() -> None:
        barrier.wait(60)
        otel_wirecap.instrument(capture_file=capture_file)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    otel_wirecap.uninstrument()
    assert [record["direction"] for record in all_records(capture_file)] == ["system_start", "system_stop"]
    assert str(capture_file) not in registry._writers
