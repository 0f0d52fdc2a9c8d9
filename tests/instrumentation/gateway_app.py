"""A small gateway to be served for tests: relays a request to the backend with the client that its path names.

``POST /{client}/{path}`` asks ``$BACKEND/{path}`` by that client and hands the answer on as it comes. The same relay
stands behind every framework; ``raw`` is the bare ASGI application. ``flask`` is a WSGI application, and has clients of
its own, which do not know of asyncio.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

BACKEND = os.environ.get("BACKEND", "")
Relay = Callable[[str, bytes], AsyncIterator[bytes]]
SyncRelay = Callable[[str, bytes], Iterator[bytes]]


async def by_httpx(url: str, body: bytes) -> AsyncIterator[bytes]:
    import httpx

    async with httpx.AsyncClient() as client, client.stream("POST", url, content=body) as response:
        async for chunk in response.aiter_raw():
            yield chunk


async def by_httpx_sync(url: str, body: bytes) -> AsyncIterator[bytes]:
    import httpx

    def ask() -> list[bytes]:
        with httpx.Client() as client, client.stream("POST", url, content=body) as response:
            return list(response.iter_raw())

    for chunk in await asyncio.to_thread(ask):
        yield chunk


async def by_httpx2(url: str, body: bytes) -> AsyncIterator[bytes]:
    import httpx2

    async with httpx2.AsyncClient() as client, client.stream("POST", url, content=body) as response:
        async for chunk in response.aiter_raw():
            yield chunk


async def by_aiohttp(url: str, body: bytes) -> AsyncIterator[bytes]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        async for chunk in response.content.iter_any():
            yield chunk


async def by_httpx_aiohttp(url: str, body: bytes) -> AsyncIterator[bytes]:
    import httpx
    from httpx_aiohttp import AiohttpTransport

    async with (
        httpx.AsyncClient(transport=AiohttpTransport()) as client,
        client.stream("POST", url, content=body) as response,
    ):
        async for chunk in response.aiter_raw():
            yield chunk


async def by_openai(url: str, body: bytes) -> AsyncIterator[bytes]:
    from openai import AsyncOpenAI

    document = json.loads(body)
    stream = url.endswith("/stream")
    async with AsyncOpenAI(base_url=url, api_key="unused-in-tests", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="m", messages=[], stream=stream, extra_body={"mark": document["mark"]}
        )
        if not stream:
            yield answer.model_dump_json().encode()
            return
        async for event in answer:
            yield b"data: " + event.model_dump_json().encode() + b"\n\n"


CLIENTS: dict[str, Relay] = {
    "httpx": by_httpx,
    "httpx, in a thread": by_httpx_sync,
    "httpx2": by_httpx2,
    "aiohttp": by_aiohttp,
    "httpx over aiohttp": by_httpx_aiohttp,
    "openai SDK": by_openai,
}


def sync_by_httpx(url: str, body: bytes) -> Iterator[bytes]:
    import httpx

    with httpx.Client() as client, client.stream("POST", url, content=body) as response:
        yield from response.iter_raw()


def sync_by_httpx2(url: str, body: bytes) -> Iterator[bytes]:
    import httpx2

    with httpx2.Client() as client, client.stream("POST", url, content=body) as response:
        yield from response.iter_raw()


def sync_by_openai(url: str, body: bytes) -> Iterator[bytes]:
    from openai import OpenAI

    mark = {"mark": json.loads(body)["mark"]}
    with OpenAI(base_url=url, api_key="unused-in-tests", max_retries=0) as client:
        if url.endswith("/stream"):
            for event in client.chat.completions.create(model="m", messages=[], stream=True, extra_body=mark):
                yield b"data: " + event.model_dump_json().encode() + b"\n\n"
        else:
            answer = client.chat.completions.create(model="m", messages=[], extra_body=mark)
            yield answer.model_dump_json().encode()


SYNC_CLIENTS: dict[str, SyncRelay] = {
    "httpx": sync_by_httpx,
    "httpx2": sync_by_httpx2,
    "openai SDK": sync_by_openai,
}


def relay(path: str, body: bytes) -> tuple[AsyncIterator[bytes], str]:
    """The chunks of the answer, and its content type."""
    number, _, rest = path.strip("/").partition("/")
    chunks = list(CLIENTS.values())[int(number)](f"{BACKEND}/{rest}", body)
    return chunks, "text/event-stream" if rest == "stream" else "application/json"


async def raw(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/endless":  # and deaf: it never asks whether the client is still there
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(100):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": number < 99})
            await asyncio.sleep(0.02)
        return
    chunks, content_type = relay(scope["path"], body)
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def make_raw() -> Any:
    return raw


def make_starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Mount, Route

    async def endpoint(request: Request) -> StreamingResponse:
        chunks, content_type = relay(request.path_params["path"], await request.body())
        return StreamingResponse(chunks, media_type=content_type)

    mounted = Starlette(routes=[Route("/{path:path}", endpoint, methods=["POST"])])
    return Starlette(routes=[Mount("/", mounted)])


def make_fastapi() -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    async def endpoint(path: str, request: Any) -> Any:
        chunks, content_type = relay(path, await request.body())
        return StreamingResponse(chunks, media_type=content_type)

    endpoint.__annotations__ = {"path": str, "request": Request}
    app.post("/{path:path}")(endpoint)
    return app


def make_litestar() -> Any:
    from litestar import Litestar, Request, post
    from litestar.response import Stream

    async def endpoint(path: str, request: Any) -> Any:
        chunks, content_type = relay(path, await request.body())
        return Stream(chunks, media_type=content_type)

    endpoint.__annotations__ = {"path": str, "request": Request[Any, Any, Any], "return": Stream}
    return Litestar(route_handlers=[post("/{path:path}", status_code=200)(endpoint)], openapi_config=None)


def make_quart() -> Any:
    from quart import Quart, Response, request

    app = Quart(__name__)

    @app.post("/<path:path>")
    async def endpoint(path: str) -> Response:
        chunks, content_type = relay(path, await request.get_data())
        return Response(chunks, content_type=content_type)

    return app


def make_django() -> Any:
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import StreamingHttpResponse
    from django.urls import path as route

    async def endpoint(request: Any, path: str) -> Any:
        chunks, content_type = relay(path, request.body)
        return StreamingHttpResponse(chunks, content_type=content_type)

    settings.configure(
        SECRET_KEY="unused-in-tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=(route("<path:path>", endpoint),)
    )
    django.setup()
    return get_asgi_application()


def make_flask() -> Any:
    import openai  # noqa: F401  # once, before there are greenlets that would all wait for it
    from flask import Flask, Response, request

    app = Flask(__name__)

    @app.post("/<int:number>/<path:path>")
    def endpoint(number: int, path: str) -> Response:
        chunks = list(SYNC_CLIENTS.values())[number](f"{BACKEND}/{path}", request.get_data())
        return Response(chunks, content_type="text/event-stream" if path == "stream" else "application/json")

    return app


def __getattr__(name: str) -> Any:
    """``gateway_app:starlette`` and so on: the application, made when a server asks for it."""
    make = globals().get(f"make_{name}")
    if make is None:
        raise AttributeError(name)
    return globals().setdefault(name, make())
