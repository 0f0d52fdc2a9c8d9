"""The clients that run on trio, too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
import trio
from websockets.asyncio.server import ServerConnection, serve
from websockets.trio.client import connect
from wire import DOCUMENT, EVENTS, Server, serving

Records = list[dict[str, Any]]
Finish = Callable[[], Records]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def end_of(records: Records) -> dict[str, Any]:
    (end,) = [record for record in records if record["direction"] == "stream_end"]
    return end["metadata"]


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_httpx_on_trio(library: Any, server: Server, captured: Finish) -> None:
    async def go() -> None:
        async with library.AsyncClient() as client:
            assert (await client.post(server.url + "/document", json={"model": "m"})).content == DOCUMENT
            async with client.stream("POST", server.url + "/stream", json={"model": "m"}) as response:
                assert b"".join([chunk async for chunk in response.aiter_raw()]) == b"".join(EVENTS)

    trio.run(go)
    records = captured()
    assert end_of(records)["outcome"] == "complete"
    chunks = [record["payload"] for record in records if record["direction"] == "stream_chunk"]
    assert "".join(chunks).encode() == b"".join(EVENTS)
    assert len([record for record in records if record["direction"] == "outbound_request"]) == 2


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_trios_cancellation_is_no_error(library: Any, server: Server, captured: Finish) -> None:
    async def go() -> None:
        async with library.AsyncClient() as client:
            with trio.move_on_after(10) as scope:
                async with client.stream("GET", server.url + "/stall/10") as response:
                    async for _ in response.aiter_raw():
                        scope.cancel()
            assert scope.cancelled_caught

    trio.run(go)
    assert end_of(captured())["outcome"] == "cancelled"


def test_websockets_on_trio(captured: Finish) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    port: list[int] = []
    begun, done = threading.Event(), threading.Event()

    async def backend() -> None:
        async with serve(echo, "127.0.0.1", 0) as running:
            port.append(next(iter(running.sockets)).getsockname()[1])
            begun.set()
            await asyncio.to_thread(done.wait, 30)

    thread = threading.Thread(target=asyncio.run, args=(backend(),))
    thread.start()
    assert begun.wait(60)

    async def go() -> None:
        async with connect(f"ws://127.0.0.1:{port[0]}/v1/realtime") as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"

    try:
        trio.run(go)
    finally:
        done.set()
        thread.join(60)
    assert [(r["direction"], r["payload"]) for r in captured()][:3] == [
        ("websocket_start", None), ("websocket_message", "hello"), ("websocket_message", "hello"),
    ]  # fmt: skip
