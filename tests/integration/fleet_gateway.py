"""A gateway of the fleet: sends a client's request on to one model after the other until one answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BACKEND = os.environ["FLEET_BACKEND"]


async def relay(request: Request) -> Response:
    body = json.loads(await request.body())
    models = body.pop("models", None) or [body.get("model")]
    if body.pop("stamp", False):
        body["messages"][0]["content"] += f" Request {id(request)}."
    async with httpx.AsyncClient(timeout=60) as client:
        for model in models:
            if model == "wait":
                await asyncio.Event().wait()
            sent = body if model is None else body | {"model": model}
            answer = await client.post(BACKEND + request.url.path, json=sent)
            if answer.status_code < 400:
                break
    if body.get("break"):
        return StreamingResponse(broken(answer.content), media_type="text/event-stream")
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


async def broken(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    raise RuntimeError("the gateway breaks off")


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield


app = Starlette(routes=[Route("/{path:path}", relay, methods=["POST"])], lifespan=lifespan)
