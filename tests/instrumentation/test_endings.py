"""Every way a relayed exchange may end, on both legs and linked: the outcome, and the bytes up to there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socketserver
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
from waiting import MAX_SECONDS
from wire import EVENTS, Server, serving

from otel_wirecap import WireCaptureMiddleware

Finish = Callable[[], list[dict[str, Any]]]
FIRST_TWO = b"".join(EVENTS[:2])


class Breaking(socketserver.StreamRequestHandler):
    """Sends two events of a stream; when they were read, does what its path says."""

    server: BreakingServer

    def handle(self) -> None:
        target = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        if target == "/before":
            self.reset()
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in EVENTS[:2]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.server.were_read.wait(MAX_SECONDS)
        if target == "/reset":
            self.reset()
        elif target == "/malformed":
            self.wfile.write(b"no size at all\r\n")
            self.connection.recv(1)  # until the client has gone
        elif target == "/stall":
            self.connection.recv(1)

    def reset(self) -> None:
        self.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: RST

    def finish(self) -> None:
        """The client may be gone."""


class BreakingServer(socketserver.ThreadingTCPServer):
    """``were_read`` is to be set when the two events have arrived."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Breaking)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.were_read = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Broken on purpose."""


@pytest.fixture
def breaking() -> Iterator[BreakingServer]:
    with BreakingServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(MAX_SECONDS)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


async def by_httpx(url: str, seconds: float = MAX_SECONDS) -> Any:
    async with httpx.AsyncClient(timeout=seconds) as client, client.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            yield chunk


async def by_httpx2(url: str, seconds: float = MAX_SECONDS) -> Any:
    async with httpx2.AsyncClient(timeout=seconds) as client, client.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            yield chunk


async def by_aiohttp(url: str, seconds: float = MAX_SECONDS) -> Any:
    limits = aiohttp.ClientTimeout(sock_read=seconds)
    async with aiohttp.ClientSession(timeout=limits) as session, session.get(url) as response:
        async for chunk in response.content.iter_any():
            yield chunk


CLIENTS = {"httpx": by_httpx, "httpx2": by_httpx2, "aiohttp": by_aiohttp}


def relay(app: Any, seconds: float = MAX_SECONDS) -> list[bytes]:
    """Calls an application as a server would; what it sent until it ended or failed, or so many seconds were over."""
    sent: list[bytes] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/chat", "raw_path": b"/chat", "query_string": b"", "root_path": "", "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"proxy.example")], "client": ("127.0.0.1", 5),
    }  # fmt: skip

    async def go() -> None:
        with contextlib.suppress(Exception):  # a server would log it
            await asyncio.wait_for(WireCaptureMiddleware(app)(scope, receive, send), seconds)

    asyncio.run(go())
    return sent


def relaying(chunks: Callable[[], Any], when_first_two: Callable[[], object] = lambda: None) -> Any:
    """An application that relays; ``when_first_two`` is called when it has sent the first two events."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        relayed = b""
        async for chunk in chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            relayed += chunk
            if relayed == FIRST_TWO:
                when_first_two()
        await send({"type": "http.response.body", "body": b""})

    return app


def ends(records: list[dict[str, Any]]) -> dict[str, str]:
    assert len({r["metadata"]["request_id"] for r in records}) == 1
    last = [r["metadata"] for r in records if "outcome" in r["metadata"] and not r["metadata"].get("assembled")]
    exchanges = {r["metadata"]["exchange_id"] for r in records}
    assert sorted(metadata["exchange_id"] for metadata in last) == sorted(exchanges)  # each ends, once
    return {metadata["leg"]: metadata["outcome"] for metadata in last}


def body_of(records: list[dict[str, Any]], direction: str) -> bytes:
    return "".join(r["payload"] for r in records if r["direction"] == direction).encode()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("fault", ["before", "reset", "close", "malformed", "stall"])
@pytest.mark.sampled(3, rest="thorough")
def test_a_backend_that_fails_is_an_error_on_both_legs(
    client: str, fault: str, breaking: BreakingServer, captured: Finish
) -> None:
    seconds = 3 if fault == "stall" else MAX_SECONDS
    app = relaying(lambda: CLIENTS[client](f"{breaking.url}/{fault}", seconds), breaking.were_read.set)
    sent = relay(app, 2 if (client, fault) == ("aiohttp", "malformed") else MAX_SECONDS)
    records = captured()
    if (client, fault) == ("aiohttp", "malformed"):  # aiohttp waits for ever: it is the server that gives up here
        assert ends(records) == {"client": "cancelled", "backend": "cancelled"}
        return
    assert ends(records) == {"client": "error", "backend": "error"}
    told = {r["metadata"]["leg"]: r["metadata"]["error"] for r in records if "error" in r["metadata"]}
    assert told["client"]["type"] == told["backend"]["type"]
    if fault != "before":
        assert b"".join(sent) == FIRST_TWO
        assert body_of(records, "outbound_stream_chunk") == body_of(records, "stream_chunk") == FIRST_TWO


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_that_is_left_half_read_is_closed_and_what_the_client_gets_is_truncated(
    client: str, server: Server, captured: Finish
) -> None:
    async def first() -> Any:
        chunks = CLIENTS[client](server.url + "/stream")
        yield await anext(chunks)
        await chunks.aclose()

    relay(relaying(first))
    records = captured()
    assert ends(records) == {"client": "error", "backend": "closed"}
    assert [r["metadata"]["error"]["type"] for r in records if "error" in r["metadata"]] == ["truncated_stream"]
    assert {r["metadata"]["leg"]: r["metadata"]["closed_by"] for r in records if "closed_by" in r["metadata"]} == {
        "backend": "proxy"
    }
    assert body_of(records, "stream_chunk") == EVENTS[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_that_is_left_at_its_end_mark_is_complete_on_both_legs(
    client: str, server: Server, captured: Finish
) -> None:
    async def until_the_end_mark() -> Any:
        chunks = CLIENTS[client](server.url + "/stream")
        async for chunk in chunks:
            yield chunk
            if b'"stop"' in chunk:
                break
        await chunks.aclose()

    relay(relaying(until_the_end_mark))
    records = captured()
    assert ends(records) == {"client": "complete", "backend": "complete"}
    assert body_of(records, "stream_chunk") == b"".join(EVENTS)


@pytest.mark.sdks
@pytest.mark.parametrize(("wanted", "outcome"), [(99, "complete"), (1, "closed")])
def test_what_an_sdk_reads_to_the_end_mark_is_complete(
    wanted: int, outcome: str, server: Server, captured: Finish
) -> None:
    import openai

    with openai.OpenAI(base_url=server.url + "/stream", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        for _ in zip(range(wanted), stream, strict=False):
            pass
        stream.close()
    (end,) = (record["metadata"] for record in captured() if record["direction"] == "stream_end")
    assert end["outcome"] == outcome
    assert "error" not in end


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cancelled_task_is_cancelled_on_both_legs(client: str, breaking: BreakingServer, captured: Finish) -> None:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        app = relaying(lambda: CLIENTS[client](breaking.url + "/stall"), task.cancel)
        await app(scope, receive, send)

    async def as_a_task(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.create_task(WireCaptureMiddleware(cancelled)(scope, receive, send))

    sent: list[bytes] = []

    async def go() -> None:
        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}
        with pytest.raises(asyncio.CancelledError):
            await as_a_task(scope, receive, send)

    asyncio.run(go())
    records = captured()
    assert ends(records) == {"client": "cancelled", "backend": "cancelled"}
    assert body_of(records, "stream_chunk") == FIRST_TWO == b"".join(sent)


def test_an_exception_of_the_application_is_told_with_the_backend_s_answer_whole(
    server: Server, captured: Finish
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with httpx.AsyncClient() as client:
            await client.get(server.url + "/document")
        raise LookupError("no such model")

    relay(app)
    records = captured()
    assert ends(records) == {"client": "error", "backend": "complete"}
    assert records[-1]["metadata"]["error"] == {"type": "LookupError", "message": "no such model"}


PROGRAM = """
    import sys, time, httpx, aiohttp, asyncio, otel_wirecap
    otel_wirecap.instrument(capture_file="capture.log")

    async def aio(url):
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.content.readany()
            print("ready", flush=True)
            await response.read()

    if sys.argv[1] == "aiohttp":
        asyncio.run(aio(sys.argv[2]))
    with httpx.stream("GET", sys.argv[2], timeout=60) as response:
        for chunk in response.iter_raw():
            print("ready", flush=True)
"""


@pytest.mark.parametrize("client", ["httpx", "aiohttp"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.sampled(1, rest="faults")
def test_a_process_that_ends_in_mid_stream_leaves_nothing_open(
    client: str, number: signal.Signals, breaking: BreakingServer, tmp_path: Path
) -> None:
    program = textwrap.dedent(PROGRAM)
    if number == signal.SIGTERM:  # which Python does not turn into an orderly exit by itself
        program = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n" + program
    with subprocess.Popen(
        [sys.executable, "-c", program, client, breaking.url + "/stall"], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            process.wait(MAX_SECONDS)
        finally:
            process.kill()
    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    directions = [record["direction"] for record in records]
    assert directions[-1] == "system_stop"
    assert directions.count("stream_end") == 1
    (end,) = [record for record in records if record["direction"] == "stream_end"]
    assert end["metadata"]["outcome"] in {"error", "closed", "abandoned", "cancelled"}
