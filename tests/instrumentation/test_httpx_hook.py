"""The client hook on real sockets, for httpx and httpx2, sync and async."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from wire import DOCUMENT, ENCODERS, EVENTS, Server, serving

import otel_wirecap
from otel_wirecap.capture.exchange import LiveExchange
from otel_wirecap.instrumentation.runtime import Runtime, active

Finish = Callable[[], list[dict[str, Any]]]
DOUBLE = {"messages": [{"role": "user", "content": "hi"}], "model": "asked"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(params=["httpx", "httpx2"])
def http(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, http: ModuleType) -> Callable[..., Any]:
    """Sends one request and reads its response, with either client."""
    if request.param == "sync":

        def send(method: str, url: str, **options: Any) -> Any:
            with http.Client(**options.pop("client", {})) as client:
                return client.request(method, url, **options)

        return send

    def send_async(method: str, url: str, **options: Any) -> Any:
        async def go() -> Any:
            async with http.AsyncClient(**options.pop("client", {})) as client:
                return await client.request(method, url, **options)

        return asyncio.run(go())

    return send_async


def directions(records: list[dict[str, Any]]) -> list[str]:
    return [record["direction"] for record in records if not record["metadata"].get("assembled")]


def joined(records: list[dict[str, Any]]) -> bytes:
    return b"".join(record["payload"].encode() for record in records if record["direction"] == "stream_chunk")


def test_an_exchange_is_one_request_and_one_response(server: Server, captured: Finish, call: Any) -> None:
    response = call("POST", server.url + "/document", json=DOUBLE)
    assert response.content == DOCUMENT
    request, answer = captured()
    assert (request["direction"], answer["direction"]) == ("outbound_request", "inbound_response")
    assert request["payload"] == DOUBLE
    assert request["content_length"] == len(server.received[0].body)
    assert request["metadata"]["headers"] == [list(pair) for pair in server.received[0].headers]
    assert (request["model"], answer["model"]) == ("asked", "answered")
    assert answer["metadata"]["status_code"] == 200
    assert answer["metadata"]["outcome"] == "complete"
    assert answer["metadata"]["http_version"] == "HTTP/1.1"
    assert answer["payload"]["text"] == "Zażółć 漢字"


@pytest.mark.parametrize("as_type", [bytes, str])
@pytest.mark.parametrize("target", ["/a/../b%2Fc//d?x='1'&", "/x?", "//y", "/\\|"])
@pytest.mark.sampled(8, rest="thorough")
def test_a_target_that_stands_for_the_urls_own_path_is_what_is_recorded(
    target: str, as_type: type, server: Server, captured: Finish, call: Any
) -> None:
    sent = target.encode() if as_type is bytes else target
    call("GET", server.url + "/document?of=the+url", extensions={"target": sent})
    assert server.received[0].target == target
    assert captured()[0]["metadata"]["url"] == server.url + target


def test_a_target_that_is_no_path_leaves_the_url_as_it_is(server: Server, captured: Finish, call: Any) -> None:
    call("OPTIONS", server.url, extensions={"target": b"*"})
    assert server.received[0].target == "*"
    assert captured()[0]["metadata"]["url"] == server.url


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_generated_bodies_are_recorded_as_they_were_sent(
    kind: str, server: Server, captured: Finish, http: ModuleType
) -> None:
    parts = [b'{"model": "asked", ', b'"input": "', "ż".encode()[:1], "ż".encode()[1:], b'"}']

    async def generate() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    if kind == "sync":
        with http.Client() as client:
            client.post(server.url + "/document", content=iter(parts))
    else:

        async def go() -> None:
            async with http.AsyncClient() as client:
                await client.post(server.url + "/document", content=generate())

        asyncio.run(go())
    assert server.received[0].body == b"".join(parts)
    request = captured()[0]
    assert request["payload"] == {"model": "asked", "input": "ż"}
    assert request["model"] == "asked"


def test_a_multipart_upload_is_recorded_as_it_was_sent(server: Server, captured: Finish, call: Any) -> None:
    call("POST", server.url + "/document", data={"purpose": "batch"}, files={"file": ("a.jsonl", b'{"a":1}\n')})
    assert captured()[0]["payload"].encode() == server.received[0].body


def test_every_redirect_hop_is_an_attempt_of_one_flow(server: Server, captured: Finish, call: Any) -> None:
    response = call(
        "POST", server.url + "/redirect/2", files={"file": ("a", b"text")}, client={"follow_redirects": True}
    )
    assert len(response.history) == 2
    requests = [record for record in captured() if record["direction"] == "outbound_request"]
    assert [record["metadata"]["attempt"] for record in requests] == [1, 2, 3]
    assert len({record["metadata"]["request_id"] for record in requests}) == 1
    assert [record["metadata"].get("redirect_of") for record in requests] == [
        None,
        requests[0]["metadata"]["exchange_id"],
        requests[1]["metadata"]["exchange_id"],
    ]
    assert [record["payload"].encode() for record in requests] == [got.body for got in server.received]


def test_both_rounds_of_digest_authentication_are_recorded_without_the_password(
    server: Server, captured: Finish, http: ModuleType, capture_file: Path
) -> None:
    with http.Client(auth=http.DigestAuth("user", "wordpass99")) as client:
        assert client.get(server.url + "/digest").status_code == 200
    records = captured()
    assert [r["metadata"]["status_code"] for r in records if r["direction"] == "inbound_response"] == [401, 200]
    assert "wordpass99" not in capture_file.read_text()


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_compressed_body_is_recorded_decoded_and_delivered_untouched(
    coding: str, server: Server, captured: Finish, http: ModuleType
) -> None:
    with http.Client() as client, client.stream("GET", server.url + "/encoded/" + coding) as response:
        assert b"".join(response.iter_raw()) == ENCODERS[coding](DOCUMENT)
    answer = captured()[1]
    assert answer["payload"]["text"] == "Zażółć 漢字"
    assert answer["content_length"] == len(DOCUMENT)
    assert answer["metadata"]["wire_length"] == len(ENCODERS[coding](DOCUMENT))


def test_a_stream_is_recorded_chunk_by_chunk(server: Server, captured: Finish, call: Any) -> None:
    assert call("GET", server.url + "/stream").content == b"".join(EVENTS)
    records = captured()
    assert directions(records) == ["outbound_request", "stream_start", *["stream_chunk"] * 5, "stream_end"]
    assert joined(records) == b"".join(EVENTS)
    end = next(record for record in records if record["direction"] == "stream_end")
    assert end["payload"] == {"total_bytes": len(b"".join(EVENTS)), "total_chunks": 5}
    assert end["metadata"]["outcome"] == "complete"


def leave_closed(http: ModuleType, url: str) -> None:
    with http.Client() as client, client.stream("GET", url + "/stream") as response:
        for _ in response.iter_raw():
            break


def leave_unread(http: ModuleType, url: str) -> None:
    with http.Client() as client, client.stream("GET", url + "/stream"):
        pass


def leave_to_the_collector(http: ModuleType, url: str) -> None:
    with http.Client() as client:
        response = client.send(client.build_request("GET", url + "/stream"), stream=True)
        del response
        gc.collect()


def leave_in_a_generator(http: ModuleType, url: str) -> None:
    """As a server does whose client is gone, and whose exception has the frames: the collector takes a cycle."""

    async def go() -> None:
        async with http.AsyncClient() as client:
            response = await client.send(client.build_request("GET", url + "/stream"), stream=True)
            closed = asyncio.Event()

            async def relay(answer: Any) -> AsyncIterator[bytes]:
                try:
                    async for chunk in answer.aiter_raw():
                        yield chunk
                finally:
                    await answer.aclose()
                    closed.set()

            cycle: list[Any] = [relay(response)]
            cycle.append(cycle)
            await anext(cycle[0])
            del response, cycle
            gc.collect()
            await asyncio.wait_for(closed.wait(), 60)

    asyncio.run(go())


def leave_to_the_collector_in_a_cycle(http: ModuleType, url: str) -> None:
    with http.Client() as client:
        response = client.send(client.build_request("GET", url + "/stream"), stream=True)
        response.itself = response
        del response
        gc.collect()


def time_out(http: ModuleType, url: str) -> None:
    with http.Client(timeout=2) as client, pytest.raises(http.ReadTimeout):
        client.get(url + "/stall/20")


def be_reset(http: ModuleType, url: str) -> None:
    with http.Client() as client, pytest.raises(http.TransportError):
        client.get(url + "/reset")


def be_cancelled(http: ModuleType, url: str) -> None:
    async def go() -> None:
        is_reading = asyncio.Event()

        async def read() -> None:
            async with http.AsyncClient() as client, client.stream("GET", url + "/stall/20") as response:
                is_reading.set()
                await response.aread()

        task = asyncio.create_task(read())
        await is_reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())


@pytest.mark.parametrize(
    ("leave", "outcome", "errors"),
    [
        (leave_closed, "closed", ()),
        (leave_unread, "closed", ()),
        (leave_to_the_collector, "abandoned", ()),
        (leave_to_the_collector_in_a_cycle, "abandoned", ()),
        (leave_in_a_generator, "closed", ()),
        (time_out, "error", ("ReadTimeout",)),
        (be_reset, "error", ("ReadError", "RemoteProtocolError")),
        (be_cancelled, "cancelled", ()),
    ],
)
@pytest.mark.sampled(4, rest="thorough")
def test_every_stream_ends_once_however_it_is_left(
    leave: Any, outcome: str, errors: tuple[str, ...], server: Server, captured: Finish, http: ModuleType
) -> None:
    leave(http, server.url)
    ends = [record for record in captured() if record["direction"] == "stream_end"]
    assert [end["metadata"]["outcome"] for end in ends] == [outcome]
    if errors:
        assert ends[0]["metadata"]["error"]["type"] in errors
    else:
        assert "error" not in ends[0]["metadata"]


def test_a_refused_connection_is_an_attempt_without_response(captured: Finish, http: ModuleType, call: Any) -> None:
    with pytest.raises(http.ConnectError):
        call("POST", "http://127.0.0.1:9/v1/chat/completions", json=DOUBLE)
    request, answer = captured()
    assert request["payload"] == DOUBLE
    assert (answer["direction"], answer["payload"]) == ("inbound_response", None)
    assert answer["metadata"]["error"]["type"] == "ConnectError"


def test_a_response_made_whole_by_a_transport_is_recorded(captured: Finish, http: ModuleType) -> None:
    transport = http.MockTransport(lambda request: http.Response(200, json={"model": "mocked"}))
    with http.Client(transport=transport) as client:
        assert client.post("http://backend.example/v1/chat/completions", json=DOUBLE).json() == {"model": "mocked"}
    request, answer = captured()
    assert request["backend"] == "backend.example:80"
    assert answer["payload"] == {"model": "mocked"}


def test_headers_that_a_transport_adds_are_told_with_the_response(captured: Finish, http: ModuleType) -> None:
    def add(request: Any) -> Any:
        request.headers["x-added"] = "late"
        return http.Response(200, text="ok")

    with http.Client(transport=http.MockTransport(add)) as client:
        client.get("http://backend.example/")
    assert ["x-added", "late"] in captured()[1]["metadata"]["request_headers"]


def test_a_client_made_before_is_captured_and_after_uninstrument_left_alone(
    server: Server, capture_file: Path, http: ModuleType
) -> None:
    bare = vars(http.Client)["_send_single_request"]
    with http.Client() as client:
        client.get(server.url + "/document")
        otel_wirecap.instrument(capture_file=capture_file)
        client.get(server.url + "/document")
        otel_wirecap.uninstrument()
        client.get(server.url + "/document")
    assert vars(http.Client)["_send_single_request"] is bare
    assert capture_file.read_text().count('"direction":"outbound_request"') == 1


def test_one_client_can_be_captured_alone_and_is_never_recorded_twice(
    server: Server, capture_file: Path, http: ModuleType
) -> None:
    with http.Client() as hooked, http.Client() as other:
        otel_wirecap.instrument_client(hooked, capture_file=capture_file)
        other.get(server.url + "/document")
        hooked.get(server.url + "/document")
        otel_wirecap.instrument(capture_file=capture_file)
        hooked.get(server.url + "/document")
        otel_wirecap.uninstrument()
    assert capture_file.read_text().count('"direction":"outbound_request"') == 2


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Runtime, "begin_backend"), (LiveExchange, "begin"), (LiveExchange, "chunk"), (LiveExchange, "response")],
)
@pytest.mark.sampled(4, rest="thorough")
def test_a_hook_that_fails_harms_nobody_and_is_told_once(
    owner: type, name: str, server: Server, captured: Finish, call: Any, monkeypatch: Any, caplog: Any
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("the payload is secret")

    runtime = active()
    assert runtime is not None
    if name == "chunk":  # the hot path is guarded inside: what can fail there is the queue
        monkeypatch.setattr(runtime, "put", fail)
    else:
        monkeypatch.setattr(owner, name, fail)
    with caplog.at_level(logging.DEBUG, "otel_wirecap"):
        for _ in range(2):
            assert call("POST", server.url + "/stream", json=DOUBLE).content == b"".join(EVENTS)
    ours = [record for record in caplog.records if record.name == "otel_wirecap"]
    told = [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "secret" not in told[0]
    monkeypatch.undo()
    assert call("GET", server.url + "/document").content == DOCUMENT
    assert directions(captured())[-2:] == ["outbound_request", "inbound_response"]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_instrumenting_imports_no_client_and_no_server(tmp_path: Path) -> None:
    loaded = run(f"""
        import sys, otel_wirecap
        otel_wirecap.instrument(capture_file={str(tmp_path / "capture.log")!r})
        print(sorted(set(sys.modules) & {{"httpx", "httpx2", "aiohttp", "starlette", "uvicorn", "fastapi"}}))
    """)
    assert loaded.strip() == "[]"


def test_aliased_modules_are_recorded_once(server: Server, tmp_path: Path) -> None:
    run(f"""
        import otel_wirecap
        otel_wirecap.instrument(capture_file={str(tmp_path / "capture.log")!r})
        import httpx2
        httpx2.alias_httpx()
        import httpx
        assert httpx.Client is httpx2.Client
        httpx.get({server.url + "/document"!r})
    """)
    assert (tmp_path / "capture.log").read_text().count('"direction":"outbound_request"') == 1
