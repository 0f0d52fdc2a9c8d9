"""Applications of every shape, called in process: what is recorded of them, and that they notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from waiting import MAX_SECONDS

import otel_wirecap
from otel_wirecap import WireCaptureMiddleware
from otel_wirecap.instrumentation.runtime import Runtime

Finish = Callable[[], list[dict[str, Any]]]


def backend() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200, json={"model": "m"})))


async def call_backend(_tag: str = "") -> None:
    async with backend() as client:
        await client.post("http://backend.example/v1/chat/completions", json={"model": "m"})


def drive(
    app: Any, *messages: dict[str, Any], headers: list[tuple[bytes, bytes]] | None = None, seconds: float = MAX_SECONDS
) -> list[dict[str, Any]]:
    """Calls an ASGI application as a server would, so long at most; its messages, and its exception as the last one."""
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/chat", "raw_path": b"/chat", "query_string": b"", "root_path": "",
        "headers": headers or [(b"host", b"proxy.example"), (b"content-length", b"4")],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    to_come = list(messages) or [{"type": "http.request", "body": b"body", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if to_come:
            return to_come.pop(0)
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def go() -> None:
        try:
            await asyncio.wait_for(app(scope, receive, send), seconds)
        except BaseException as error:  # noqa: BLE001  # what the server would see
            sent.append({"type": "raised", "error": type(error).__name__})

    asyncio.run(go())
    return sent


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"done"})


async def fails_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("broken")


async def fails_midway(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    raise ValueError("broken")


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(30)


async def never_reads(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("app", "answer", "outcome", "request_incomplete"),
    [
        (whole, "outbound_response", "complete", None),
        (fails_at_once, "outbound_response", "error", "cut"),
        (fails_midway, "outbound_stream_end", "error", None),
        (hangs, "outbound_response", "cancelled", None),
        (never_reads, "outbound_response", "complete", "not_read"),
    ],
)
def test_every_way_an_application_ends_is_told_and_the_server_sees_the_same(
    app: Any, answer: str, outcome: str, request_incomplete: str | None, captured: Finish
) -> None:
    seconds = 0.5 if app is hangs else MAX_SECONDS
    assert drive(WireCaptureMiddleware(app), seconds=seconds) == drive(app, seconds=seconds)
    records = captured()
    assert records[0]["direction"] == "inbound_request"
    assert records[0]["metadata"].get("incomplete") == request_incomplete
    last = records[-1]
    assert (last["direction"], last["metadata"]["outcome"]) == (answer, outcome)
    assert ("error" in last["metadata"]) == (outcome == "error")
    if outcome == "error":
        assert last["metadata"]["error"] == {"type": "ValueError", "message": "broken"}


def test_a_client_that_leaves_is_an_outcome_and_no_error(captured: Finish) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    body = {"type": "http.request", "body": b"body", "more_body": False}
    drive(WireCaptureMiddleware(waits), body, {"type": "http.disconnect"})
    assert captured()[-1]["metadata"]["outcome"] == "client_disconnect"


def test_a_streamed_upload_is_one_request(captured: Finish) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    parts = [{"type": "http.request", "body": part, "more_body": part != b"c"} for part in (b"a", b"b", b"", b"c")]
    drive(WireCaptureMiddleware(reads), *parts, headers=[(b"transfer-encoding", b"chunked")])
    assert captured()[0]["payload"] == "abc"


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan", "of a later version"])
def test_what_an_application_returns_is_returned(kind: str, capture_file: Any) -> None:
    """Servers complain of anything but None, and end the connection."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> str:
        return "by mistake"

    async def nothing(*_message: Any) -> dict[str, Any]:
        return {"type": "nothing"}

    def returned() -> Any:
        scope = {"type": kind, "method": "GET", "path": "/", "headers": [], "query_string": b""}
        return asyncio.run(wrapped(scope, nothing, nothing))

    wrapped = otel_wirecap.instrument_app(app, capture_file=capture_file)
    try:
        assert returned() == "by mistake"
        otel_wirecap.pause()
        assert returned() == "by mistake"
    finally:
        otel_wirecap.uninstrument()
    assert returned() == "by mistake"


def test_lifespans_pass_through_untouched(captured: Finish) -> None:
    kind = "lifespan"
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((dict(scope), await receive()))
        await send({"type": f"{kind}.startup.complete"})

    sent: list[Any] = []

    async def go() -> None:
        async def receive() -> Any:
            return {"type": f"{kind}.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        await WireCaptureMiddleware(app)({"type": kind}, receive, send)

    asyncio.run(go())
    assert seen == [({"type": kind}, {"type": f"{kind}.startup"})]
    assert sent == [{"type": f"{kind}.startup.complete"}]
    assert captured() == []


def request(app: Any, path: str = "/chat", **options: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        # Not one of the hooked classes' calls: the transport itself, as a server would call the application.
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        made = httpx.Request("POST", "http://proxy.example" + path, **options)
        answer = await transport.handle_async_request(made)
        await answer.aread()
        return answer

    return asyncio.run(go())


async def plain(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("word " * 500)


def test_a_mounted_application_behind_compression_is_recorded_once_and_decoded(captured: Finish) -> None:
    inner = Starlette(routes=[Route("/chat", plain, methods=["POST"])], middleware=[Middleware(GZipMiddleware)])
    outer = WireCaptureMiddleware(otel_wirecap.instrument_app(Starlette(routes=[Mount("/sub", inner)])))
    answer = request(outer, "/sub/chat", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    records = captured()
    assert [record["direction"] for record in records] == ["inbound_request", "outbound_response"]
    assert records[1]["payload"] == "word " * 500
    assert records[1]["metadata"]["content_encoding"] == "gzip"


def test_one_application_can_be_captured_alone(capture_file: Any) -> None:
    app = Starlette(routes=[Route("/chat", plain, methods=["POST"])])
    assert otel_wirecap.instrument_app(app, capture_file=capture_file) is app
    assert otel_wirecap.instrument_app(app) is app
    request(app)
    otel_wirecap.instrument(capture_file=capture_file)
    request(app)
    otel_wirecap.uninstrument()
    assert capture_file.read_text().count('"direction":"inbound_request"') == 2


async def in_a_task(_request: Request) -> JSONResponse:
    await asyncio.create_task(call_backend())
    return JSONResponse({})


async def in_a_group(_request: Request) -> JSONResponse:
    async with asyncio.TaskGroup() as group:
        group.create_task(call_backend())
        group.create_task(call_backend())
    return JSONResponse({})


async def in_a_thread(_request: Request) -> JSONResponse:
    def work() -> None:
        transport = httpx.MockTransport(lambda _request: httpx.Response(200, json={}))
        httpx.Client(transport=transport).post("http://backend.example/", json={})

    await asyncio.to_thread(work)
    return JSONResponse({})


async def in_the_stream(_request: Request) -> StreamingResponse:
    async def generate() -> Any:
        await call_backend()
        yield b"data: 1\n\n"

    return StreamingResponse(generate(), media_type="text/event-stream")


async def in_the_background(_request: Request) -> JSONResponse:
    return JSONResponse({}, background=BackgroundTask(call_backend, "tag"))


@pytest.mark.parametrize("endpoint", [in_a_task, in_a_group, in_a_thread, in_the_stream, in_the_background])
def test_backend_exchanges_belong_to_the_request_that_caused_them(endpoint: Any, captured: Finish) -> None:
    app = Starlette(routes=[Route("/chat", endpoint, methods=["POST"])])
    request(app)
    request(app)
    records = captured()
    clients = [record for record in records if record["direction"] == "inbound_request"]
    backends = [record for record in records if record["direction"] == "outbound_request"]
    attempts = 2 if endpoint is in_a_group else 1
    for client in clients:
        caused = [b for b in backends if b["metadata"]["request_id"] == client["metadata"]["request_id"]]
        assert sorted(b["metadata"]["attempt"] for b in caused) == list(range(1, attempts + 1))
        assert {b["session_id"] for b in caused} == {client["session_id"]}
        assert {b["metadata"]["trace_id"] for b in caused} == {client["metadata"]["trace_id"]}
    assert len(backends) == 2 * attempts


def test_a_hook_that_fails_leaves_the_application_alone(
    captured: Finish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("private")

    monkeypatch.setattr(Runtime, "begin_client", fail)
    app = Starlette(routes=[Route("/chat", plain, methods=["POST"])])
    for _ in range(2):
        assert request(app).status_code == 200
    assert [record.name for record in caplog.records].count("otel_wirecap") == 1
    assert "private" not in caplog.text
    with contextlib.suppress(Exception):
        captured()
