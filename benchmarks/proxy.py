"""The proxy that is measured: FastAPI and one shared client of httpx or httpx2; no word of capture in it."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

options = argparse.ArgumentParser()
options.add_argument("--port", type=int, required=True)
options.add_argument("--backend", required=True)
options.add_argument("--client", choices=("httpx", "httpx2"), default="httpx")
given = options.parse_args()
http = importlib.import_module(given.client)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # None is closed while another proxy is measured: opening hundreds anew costs the pool more than all else.
    limits = http.Limits(max_connections=512, max_keepalive_connections=512, keepalive_expiry=600)
    async with http.AsyncClient(timeout=600, limits=limits) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    body = await request.body()
    client = request.app.state.client
    outgoing = client.build_request(
        "POST", given.backend + "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
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


uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)
