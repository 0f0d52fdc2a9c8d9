"""The client hook of aiohttp on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import ClientSession
from httpx_aiohttp import AiohttpTransport
from wire import DOCUMENT, ENCODERS, EVENTS, Server, serving

import otel_wirecap
from otel_wirecap.capture.exchange import LiveExchange

Finish = Callable[[], list[dict[str, Any]]]
Use = Callable[[ClientSession, str], Awaitable[Any]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(use: Use, url: str) -> Any:
    async def go() -> Any:
        async with ClientSession() as session:
            return await use(session, url)

    return asyncio.run(go())


def directions(records: list[dict[str, Any]]) -> list[str]:
    return [record["direction"] for record in records]


def last(records: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return records[-1]["direction"], records[-1]["metadata"]


async def parts() -> AsyncIterator[bytes]:
    yield b'{"model": '
    await asyncio.sleep(0)
    yield b'"m"}'


def form() -> aiohttp.FormData:
    data = aiohttp.FormData()
    data.add_field("purpose", "user_data")
    data.add_field("file", b"\x00\x01\xff", filename="a.bin", content_type="application/octet-stream")
    return data


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"model": "m", "text": "Zażółć"}},
        {"data": b"\x00\x01"},
        {"data": "text"},
        {"data": {"a": "1", "b": "2 3"}},
        {"data": form},
        {"data": parts},
        {"data": b""},
        {},
        {"data": b'{"model": "m"}', "compress": "gzip"},
        {"data": b'{"model": "m"}', "expect100": False, "chunked": True},
    ],
)
@pytest.mark.sampled(4, rest="thorough")
def test_bodies_of_every_kind_are_recorded_as_they_reached_the_server(
    body: dict[str, Any], server: Server, captured: Finish
) -> None:
    async def use(session: ClientSession, url: str) -> bytes:
        given = {name: value() if callable(value) else value for name, value in body.items()}
        async with session.post(url + "/document", **given) as response:
            return await response.read()

    assert run(use, server.url) == DOCUMENT
    request, answer = captured()
    got = server.received[0].body
    if body.get("compress"):
        assert request["metadata"]["content_encoding"] == "gzip"
        got = body["data"]
    payload = request["payload"]
    assert request["content_length"] == len(got)
    if request["content_type"] == "text":
        assert payload.encode() == got
    elif request["content_type"] == "json":
        assert payload["model"] == "m"
    assert "incomplete" not in request["metadata"]
    assert (answer["direction"], answer["metadata"]["outcome"]) == ("inbound_response", "complete")
    sent = answer["metadata"].get("request_headers") or request["metadata"]["headers"]
    assert [tuple(pair) for pair in sent] == server.received[0].headers


def test_a_stream_is_recorded_chunk_by_chunk(server: Server, captured: Finish) -> None:
    async def use(session: ClientSession, url: str) -> bytes:
        async with session.post(url + "/stream", json={"stream": True}) as response:
            return b"".join([chunk async for chunk in response.content.iter_any()])

    assert run(use, server.url) == b"".join(EVENTS)
    records = captured()
    chunks = [record["payload"] for record in records if record["direction"] == "stream_chunk"]
    assert "".join(chunks).encode() == b"".join(EVENTS)
    assert len(chunks) == len(EVENTS)
    (end,) = [record for record in records if record["direction"] == "stream_end"]
    assert end["metadata"]["outcome"] == "complete"
    assert end["payload"]["total_bytes"] == len(b"".join(EVENTS))


@pytest.mark.parametrize("encoding", sorted(ENCODERS))
@pytest.mark.parametrize("decompress", [True, False])
def test_encoded_bodies_are_recorded_decoded(encoding: str, decompress: bool, server: Server, captured: Finish) -> None:
    async def use(session: ClientSession, url: str) -> bytes:
        async with session.get(f"{url}/encoded/{encoding}", auto_decompress=decompress) as response:
            return await response.read()

    seen = run(use, server.url)
    assert seen == DOCUMENT if decompress else seen == ENCODERS[encoding](DOCUMENT)
    answer = captured()[-1]
    assert answer["payload"]["text"] == "Zażółć 漢字"
    assert answer["metadata"]["content_encoding"] == encoding
    assert "incomplete" not in answer["metadata"]


def test_each_hop_of_a_redirect_is_an_exchange_of_one_flow(server: Server, captured: Finish) -> None:
    async def use(session: ClientSession, url: str) -> int:
        async with session.post(url + "/redirect/2", json={"model": "m"}) as response:
            await response.read()
            return len(response.history)

    assert run(use, server.url) == 2
    records = captured()
    requests = [record for record in records if record["direction"] == "outbound_request"]
    answers = [record["metadata"]["status_code"] for record in records if record["direction"] == "inbound_response"]
    assert answers == [307, 307, 200]
    assert len({record["metadata"]["request_id"] for record in requests}) == 1
    assert [record["metadata"]["attempt"] for record in requests] == [1, 2, 3]
    assert [r["metadata"].get("redirect_of") for r in requests[1:]] == [
        r["metadata"]["exchange_id"] for r in requests[:2]
    ]


async def read_half(session: ClientSession, url: str) -> None:
    async with session.get(url + "/stream") as response:
        await response.content.readany()


async def never_read(session: ClientSession, url: str) -> None:
    async with session.get(url + "/stream"):
        pass


async def close_it(session: ClientSession, url: str) -> None:
    response = await session.get(url + "/stream")
    await response.content.readany()
    response.close()


async def fail_in_the_middle(session: ClientSession, url: str) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with session.get(url + "/stream") as response:
            await response.content.readany()
            raise ZeroDivisionError


async def leave_to_the_collector(session: ClientSession, url: str) -> None:
    response = await session.get(url + "/stall/20")
    await response.content.readany()
    del response
    gc.collect()


async def poll(session: ClientSession, url: str) -> None:
    """A read that gives up after a while, and again: the stream goes on."""
    async with session.get(url + "/stream") as response:
        while not response.content.at_eof():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(response.content.readany(), 0.003)


async def time_out(session: ClientSession, url: str) -> None:
    with pytest.raises(TimeoutError):
        async with session.get(url + "/stall/20", timeout=aiohttp.ClientTimeout(sock_read=2)) as response:
            await response.read()


async def time_out_in_all(session: ClientSession, url: str) -> None:
    with pytest.raises(TimeoutError):
        async with session.get(url + "/stall/20", timeout=aiohttp.ClientTimeout(total=2)) as response:
            await response.read()


async def be_reset(session: ClientSession, url: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with session.get(url + "/reset") as response:
            await response.read()


async def be_cancelled(session: ClientSession, url: str) -> None:
    is_reading = asyncio.Event()

    async def read() -> None:
        async with session.get(url + "/stall/20") as response:
            is_reading.set()
            await response.read()

    task = asyncio.create_task(read())
    await is_reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("leave", "outcome", "error"),
    [
        (read_half, "closed", None),
        (never_read, "closed", None),
        (close_it, "closed", None),
        (fail_in_the_middle, "closed", None),
        (leave_to_the_collector, "abandoned", None),
        (poll, "complete", None),
        (time_out, "error", "SocketTimeoutError"),
        (time_out_in_all, "error", "TimeoutError"),
        (be_reset, "error", "ClientPayloadError"),
        (be_cancelled, "cancelled", None),
    ],
)
@pytest.mark.sampled(4, rest="thorough")
def test_every_stream_ends_once_however_it_is_left(
    leave: Use, outcome: str, error: str | None, server: Server, captured: Finish
) -> None:
    run(leave, server.url)
    ends = [record["metadata"] for record in captured() if record["direction"] == "stream_end"]
    assert [(end["outcome"], end.get("error", {}).get("type")) for end in ends] == [(outcome, error)]


def test_a_backend_that_is_not_there_is_an_exchange_that_failed(captured: Finish) -> None:
    async def use(session: ClientSession, url: str) -> None:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(url, json={"model": "m"})

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        run(use, f"http://127.0.0.1:{taken.getsockname()[1]}/v1/chat/completions")
    request, answer = captured()
    assert request["payload"] == {"model": "m"}
    assert answer["metadata"]["outcome"] == "error"
    assert answer["metadata"]["error"]["type"] == "ClientConnectorError"


def test_aiohttp_under_httpx_is_recorded_once(server: Server, captured: Finish) -> None:
    async def go() -> None:
        async with httpx.AsyncClient(transport=AiohttpTransport()) as client:
            await client.post(server.url + "/document", json={"model": "m"})
            async with client.stream("GET", server.url + "/stream") as response:
                await response.aread()

    asyncio.run(go())
    requests = [record for record in captured() if record["direction"] == "outbound_request"]
    assert len(requests) == len(server.received) == 2


def test_a_session_that_was_made_by_a_transport_records_what_is_sent_with_it_later(
    server: Server, captured: Finish
) -> None:
    """A task that was started while httpx sent a request sends requests of its own long after."""
    done = asyncio.Event()
    sent: list[int] = []

    async def later() -> None:
        await done.wait()
        async with ClientSession() as session, session.get(server.url + "/document") as response:
            sent.append(response.status)

    class Starting(httpx.AsyncBaseTransport):
        task: asyncio.Task[None] | None = None

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.task = asyncio.create_task(later())
            return httpx.Response(200)

    async def go() -> None:
        transport = Starting()
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://backend.example/")
        done.set()
        assert transport.task is not None
        await transport.task

    asyncio.run(go())
    assert sent == [200]
    assert directions(captured()).count("outbound_request") == 2


def test_what_the_application_sees_is_the_same_with_and_without_capture(server: Server, capture_file: Path) -> None:
    async def see(session: ClientSession, url: str) -> list[Any]:
        seen: list[Any] = []
        for path in ("/document", "/stream", "/encoded/gzip", "/redirect/1", "/reset", "/stall/20"):
            timeout = aiohttp.ClientTimeout(sock_read=2)
            try:
                async with session.post(url + path, json={"a": 1}, timeout=timeout) as response:
                    chunks = [chunk async for chunk, _ in response.content.iter_chunks()]
                    seen.append((response.status, response.raw_headers, chunks, len(response.history)))
                    seen.append((type(response.content).__name__, repr(response.content), response.closed))
            except Exception as error:  # noqa: BLE001  # compared
                seen.append((type(error), str(error).replace(str(server.server_address[1]), "PORT")))
        return seen

    before = run(see, server.url)
    otel_wirecap.instrument(capture_file=capture_file)
    try:
        assert run(see, server.url) == before
    finally:
        otel_wirecap.uninstrument()
    half = len(server.received) // 2
    assert [got.body for got in server.received[:half]] == [got.body for got in server.received[half:]]


def test_an_error_of_ours_harms_nobody(
    server: Server, captured: Finish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_arguments: Any) -> None:
        raise RuntimeError("quoted payload")

    monkeypatch.setattr(LiveExchange, "response", broken)

    async def use(session: ClientSession, url: str) -> bytes:
        async with session.get(url + "/document") as response:
            return await response.read()

    assert run(use, server.url) == DOCUMENT
    assert "RuntimeError" in caplog.text
    assert "quoted" not in caplog.text
    assert last(captured())[1]["outcome"] == "error"
