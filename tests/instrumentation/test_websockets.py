"""Websockets on both sides, through real servers and the real client library."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import uvicorn
import websockets
from records import read_records
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.client import connect as connect_sync

import otel_wirecap
from otel_wirecap import WireCaptureMiddleware

Records = list[dict[str, Any]]
Finish = Callable[[], Records]


async def gateway(scope: Any, receive: Any, send: Any) -> None:
    """Relays a websocket to the backend that its path's query names; answers any other request with "ok"."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    backend = scope["query_string"].decode()
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close", "code": 1008, "reason": "not you"})
        return
    await send({"type": "websocket.accept", "subprotocol": "realtime"})
    if scope["path"] == "/broken":
        raise ValueError("broken")
    async with connect(backend) as upstream:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await upstream.send(message["text"] if message.get("text") is not None else message["bytes"])
            answer = await upstream.recv()
            await send({"type": "websocket.send", "text" if isinstance(answer, str) else "bytes": answer})


class Gateway(NamedTuple):
    url: str
    stop: Callable[[], None]


@pytest.fixture
def served() -> Iterator[Gateway]:
    config = uvicorn.Config(WireCaptureMiddleware(gateway), port=0, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join(60)

    yield Gateway(f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", stop)
    stop()


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[str]:
    """A backend that answers with what it was sent; "close 4000" and "drop" are orders."""

    async def handle(connection: ServerConnection) -> None:
        async for message in connection:
            if message == "close 4000":
                await connection.close(4000, "overloaded")
            elif message == "drop":
                connection.transport.abort()
            else:
                await connection.send(message)

    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def of(records: Records, leg: str) -> Records:
    return [record for record in records if record["metadata"]["leg"] == leg]


def messages(records: Records) -> list[tuple[str, int, Any]]:
    return [
        (record["metadata"]["websocket"]["from"], record["metadata"]["websocket"]["opcode"], record["payload"])
        for record in records
        if record["direction"] == "websocket_message"
    ]


def test_a_relayed_websocket_is_recorded_on_both_legs_and_linked(served: Gateway, captured: Finish) -> None:
    async def go() -> None:
        async with echo() as backend:
            headers = {"Authorization": "Bearer " + secrets.token_hex(20), "session-id": "talk-1"}
            url = f"{served.url}/v1/realtime?{backend}"
            async with connect(url, additional_headers=headers, subprotocols=["realtime"]) as client:
                for message in ('{"type": "session.update"}', "Zażółć", b"\x00\xff"):
                    await client.send(message)
                    assert await client.recv() == message

    # The test's own client is a client of the gateway: its side is not what is looked at.
    asyncio.run(go())
    served.stop()
    records = captured()
    inbound = of(records, "client")
    flow_id = inbound[0]["metadata"]["request_id"]
    outbound = [r for r in of(records, "backend") if r["metadata"]["request_id"] == flow_id]
    binary = {"encoding": "base64", "data": "AP8="}
    for leg, asker, asked in ((inbound, "client", "proxy"), (outbound, "proxy", "backend")):
        assert [leg[0]["direction"], leg[-1]["direction"]] == ["websocket_start", "websocket_end"]
        assert leg[0]["metadata"]["status_code"] == 101
        assert leg[0]["metadata"]["url"].startswith("ws://127.0.0.1:")
        assert {r["session_id"] for r in leg} == {"talk-1"}
        assert messages(leg) == [
            (asker, 1, '{"type": "session.update"}'), (asked, 1, '{"type": "session.update"}'),
            (asker, 1, "Zażółć"), (asked, 1, "Zażółć"),
            (asker, 2, binary), (asked, 2, binary),
        ]  # fmt: skip
        assert leg[-1]["metadata"]["outcome"] == "complete"
        assert leg[-1]["payload"] == {"total_bytes": 2 * (26 + 10 + 2), "total_messages": 6}
    assert inbound[0]["metadata"]["websocket"] == {"subprotocol": "realtime"}
    client = f"127.0.0.1({inbound[0]['metadata']['user_agent']})"
    assert [(r["source"], r["destination"]) for r in inbound[1:3]] == [(client, "proxy"), ("proxy", client)]
    assert ["authorization", "[REDACTED]"] in inbound[0]["metadata"]["headers"]


@pytest.mark.parametrize(("path", "outcome", "status"), [("/refused", "error", 403), ("/broken", "error", 101)])
def test_a_websocket_that_is_refused_or_broken_says_so(
    path: str, outcome: str, status: int, served: Gateway, captured: Finish
) -> None:
    ends = contextlib.suppress(websockets.InvalidStatus, websockets.ConnectionClosed)
    with ends, connect_sync(served.url + path, subprotocols=["realtime"]) as client:
        client.recv(timeout=60)
    served.stop()
    records = captured()
    for leg in (of(records, "client"), of(records, "backend")):
        assert [r["direction"] for r in leg] == ["websocket_start", "websocket_end"]
        assert leg[0]["metadata"]["status_code"] == status
        assert leg[1]["metadata"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("order", "outcome", "code"), [("close 4000", "error", 4000), ("drop", "error", 1006), ("hello", "complete", 1000)]
)
@pytest.mark.parametrize("kind", ["asyncio", "threads"])
def test_every_end_of_a_client_connection_is_told(
    kind: str, order: str, outcome: str, code: int, captured: Finish
) -> None:
    def use(backend: str) -> None:
        with connect_sync(backend) as client, contextlib.suppress(websockets.ConnectionClosed):
            client.send(order)
            client.recv(timeout=60)

    async def go() -> None:
        async with echo() as backend:
            if kind == "threads":
                await asyncio.to_thread(use, backend)
                return
            async with connect(backend) as client:
                with contextlib.suppress(websockets.ConnectionClosed):
                    await client.send(order)
                    await client.recv()

    asyncio.run(go())
    records = captured()
    assert [r["metadata"]["outcome"] for r in records if r["direction"] == "websocket_end"] == [outcome]
    assert records[-1]["metadata"]["websocket"]["close_code"] == code


def test_fragments_are_the_message_that_they_are_parts_of(captured: Finish) -> None:
    async def go() -> str | bytes:
        async with echo() as backend, connect(backend) as client:
            await client.send(["one ", "two ", "three"])
            return await client.recv()

    assert asyncio.run(go()) == "one two three"
    assert messages(captured()) == [("proxy", 1, "one two three"), ("backend", 1, "one two three")]


def test_a_message_that_breaks_off_is_recorded_as_far_as_it_came(captured: Finish) -> None:
    async def half(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            yield "two "
            connection.transport.abort()
            yield "three"

        with contextlib.suppress(websockets.ConnectionClosed):
            await connection.send(parts())

    async def go() -> None:
        async with serve(half, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            with contextlib.suppress(websockets.ConnectionClosed):
                async with connect(url) as client:
                    async for _ in client.recv_streaming():
                        pass

    asyncio.run(go())
    records = captured()
    assert messages(records) in ([("backend", 1, "one two ")], [("backend", 1, "one ")])  # as much as was delivered
    assert records[1]["metadata"]["incomplete"] == "cut"
    assert records[2]["metadata"]["outcome"] == "error"


def test_an_upgrade_that_is_refused_is_recorded_with_its_answer(captured: Finish) -> None:
    body = '{"error": {"message": "no such session"}}'

    async def go() -> None:
        def refuse(connection: ServerConnection, _request: Any) -> Any:
            response = connection.respond(401, body)
            del response.headers["content-type"]
            response.headers["content-type"] = "application/json"
            return response

        async with serve(lambda _: None, "127.0.0.1", 0, process_request=refuse) as server:
            with pytest.raises(websockets.InvalidStatus):
                await connect(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}")

    asyncio.run(go())
    start, end = captured()
    assert (start["metadata"]["status_code"], start["payload"]["error"]["message"]) == (401, "no such session")
    assert end["metadata"]["outcome"] == "error"


@pytest.mark.parametrize("kind", ["asyncio", "threads"])
def test_a_redirected_upgrade_is_followed_in_one_flow(kind: str, captured: Finish) -> None:
    async def go() -> None:
        def redirect(connection: ServerConnection, request: Any) -> Any:
            if request.path == "/there":
                return None
            response = connection.respond(307, "")
            response.headers["location"] = "/there"
            return response

        async def say(connection: ServerConnection) -> None:
            await connection.send("hello")

        async with serve(say, "127.0.0.1", 0, process_request=redirect) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            if kind == "asyncio":
                async with connect(url + "/here") as client:
                    assert await client.recv() == "hello"
            else:
                await asyncio.to_thread(use, url + "/here")

    def use(url: str) -> None:
        with connect_sync(url) as client:
            assert client.recv(timeout=60) == "hello"

    asyncio.run(go())
    first, second = [r["metadata"] for r in captured() if r["direction"] == "websocket_start"]
    assert (first["request_id"], first["exchange_id"]) == (second["request_id"], second["redirect_of"])
    assert [first["attempt"], second["attempt"]] == [1, 2]


def test_the_code_that_we_closed_with_for_the_other_side_s_fault_is_told(captured: Finish) -> None:
    async def go() -> None:
        async with echo() as backend, connect(backend, max_size=10) as client:
            await client.send("longer than ten")
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()

    asyncio.run(go())
    assert captured()[-1]["metadata"]["websocket"]["close_code"] == 1009


def test_a_secret_in_a_message_is_not_written(captured: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-proj-" + secrets.token_hex(24)

    async def go() -> None:
        async with echo() as backend, connect(backend + "/?api_key=" + secret) as client:
            await client.send(f'{{"text": "the key is {secret}"}}')
            await client.recv()

    asyncio.run(go())
    records = captured()
    assert secret not in str(records)
    assert "[REDACTED]" in records[1]["payload"]


def test_a_secret_said_in_deltas_is_not_written_and_every_message_is(captured: Finish) -> None:
    secret = "sk-proj-" + secrets.token_hex(24)
    said = ["The key ", "is " + secret[:5], secret[5:20], secret[20:44], secret[44:] + " ok", "."]
    deltas = [f'{{"type": "response.output_text.delta", "item_id": "item_1", "delta": "{text}"}}' for text in said]

    async def go() -> None:
        async with echo() as backend, connect(backend) as client:
            for delta in deltas:
                await client.send(delta)
                assert await client.recv() == delta  # what is masked in the record is whole on the wire

    asyncio.run(go())
    records = captured()
    clean = [deltas[0], deltas[1].replace(secret[:5], "[REDACTED]")]
    clean += [deltas[2].replace(secret[5:20], ""), deltas[3].replace(secret[20:44], "")]
    clean += [deltas[4].replace(secret[44:], ""), deltas[5]]
    assert messages(records) == [(side, 1, message) for message in clean for side in ("proxy", "backend")]
    told = [record for record in records if record["direction"] == "websocket_message"]
    assert [record["metadata"]["message_number"] for record in told] == list(range(1, 13))
    assert [record["timestamp_unix"] for record in told] == sorted(record["timestamp_unix"] for record in told)


@pytest.mark.parametrize("kind", [str, bytes])
def test_prompts_are_not_written_where_they_are_to_be_masked(kind: type, capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file, capture_redact_prompts=True)
    delta = '{"type": "response.output_text.delta", "delta": "Zażółć gęślą"}'

    async def go() -> None:
        async with echo() as backend, connect(backend) as client:
            for message in (delta, "Zażółć gęślą"):
                await client.send(message if kind is str else message.encode())
                await client.recv()

    try:
        asyncio.run(go())
    finally:
        otel_wirecap.uninstrument()
    told = messages(list(read_records(capture_file)))
    clean = delta.replace("Zażółć gęślą", "[REDACTED]")
    assert [payload for _, _, payload in told] == [clean, clean, "[REDACTED]", "[REDACTED]"]


def test_a_backend_that_cannot_be_reached_is_the_application_s_error_as_ever(captured: Finish) -> None:
    with pytest.raises(OSError, match=r"."), connect_sync("ws://127.0.0.1:9"):
        pass
    assert captured() == []


def test_http_and_websockets_of_one_application_live_side_by_side(served: Gateway, captured: Finish) -> None:
    async def go() -> None:
        async with echo() as backend, connect(f"{served.url}/?{backend}", subprotocols=["realtime"]) as client:
            await client.send("before")
            await client.recv()
            async with httpx.AsyncClient() as other:
                assert (await other.get(served.url.replace("ws:", "http:") + "/document")).text == "ok"
            await client.send("after")
            await client.recv()

    asyncio.run(go())
    served.stop()
    inbound = of(captured(), "client")
    kinds = {record["metadata"]["request_id"]: set() for record in inbound}
    for record in inbound:
        kinds[record["metadata"]["request_id"]].add(record["direction"].partition("_")[0])
    assert sorted(map(sorted, kinds.values())) == [["inbound", "outbound"], ["websocket"]]
    assert [payload for sender, _, payload in messages(inbound) if sender == "client"] == ["before", "after"]
