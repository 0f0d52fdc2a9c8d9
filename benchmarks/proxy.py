"""The proxy that is measured: FastAPI and one shared client of httpx or httpx2; no word of capture in it."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

PATH = "/v1/chat/completions"


def arguments() -> argparse.ArgumentParser:
    """What the proxy is told on its command line."""
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--backend", required=True)
    options.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
    return options


def application(given: argparse.Namespace, handler: Callable[[Request], Awaitable[Response]]) -> FastAPI:
    """The application, with a client and the backend's address in its state."""
    http = importlib.import_module(given.client)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # None is closed while another proxy is measured: opening hundreds anew costs the pool more than all else.
        limits = http.Limits(max_connections=512, max_keepalive_connections=512, keepalive_expiry=600)
        async with http.AsyncClient(timeout=600, limits=limits) as client:
            app.state.client, app.state.url = client, given.backend + PATH
            yield

    app = FastAPI(lifespan=lifespan)
    app.post(PATH)(handler)
    return app


def serve(app: FastAPI, given: argparse.Namespace) -> None:
    """Serves the application until a signal comes."""
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


async def chat(request: Request) -> Response:
    """Asks the backend and hands on what it answers."""
    body = await request.body()
    client = request.app.state.client
    outgoing = client.build_request(
        "POST", request.app.state.url, content=body, headers={"content-type": "application/json"}
    )
    if not json.loads(body).get("stream"):
        answer = await client.send(outgoing)
        return Response(answer.content, answer.status_code, media_type="application/json")
    answer = await client.send(outgoing, stream=True)

    async def relay() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await answer.aclose()

    return StreamingResponse(relay(), answer.status_code, media_type="text/event-stream")


if __name__ == "__main__":
    told = arguments().parse_args()
    serve(application(told, chat), told)
