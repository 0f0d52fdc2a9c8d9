"""A gateway of the fleet: sends a client's request on to one model after the other until one answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BACKEND = os.environ["FLEET_BACKEND"]
numbers = itertools.count()


async def relay(request: Request) -> Response:
    body = json.loads(await request.body())
    how = json.loads(request.headers["x-how"])
    if "stamp" in how:
        stamp(body, next(numbers))
    async with httpx.AsyncClient(timeout=None) as client:
        for model in how.get("models") or [None]:
            if model == "wait":
                await asyncio.Event().wait()
            sent = body if model is None else body | {"model": model}
            answer = await client.post(BACKEND + request.url.path, json=sent)
            if answer.status_code < 400:
                break
    if "break" in how:
        return StreamingResponse(broken(answer.content), media_type="text/event-stream")
    return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


def stamp(body: dict, number: int) -> None:
    """Another system prompt each time."""
    text = f"You are a gateway. Request {os.getpid()}/{number}."
    if "contents" in body:
        body["systemInstruction"] = {"parts": [{"text": text}]}
    elif "input" in body:
        body["instructions"] = text
    elif "system" in body:
        body["system"] = [{"type": "text", "text": text}]
    else:
        body["messages"][0]["content"] = text


async def broken(content: bytes) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    raise ConnectionError("the gateway breaks off")


app = Starlette(routes=[Route("/{path:path}", relay, methods=["POST"])])
