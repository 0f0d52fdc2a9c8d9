"""A transparent LLM proxy with FastAPI that captures its traffic.

BACKEND_URL=https://api.openai.com python examples/fastapi_proxy_instrumented.py --port 4000
"""

import argparse
import os
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

import otel_wirecap

otel_wirecap.instrument(capture_file=os.environ.get("WIRE_CAPTURE_FILE", "wire_capture.log"))

BACKEND_URL = os.environ.get("BACKEND_URL", "https://api.openai.com")
NOT_PASSED_ON = {b"host", b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade"}


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with httpx.AsyncClient(timeout=600) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.api_route("/{path:path}", methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
async def forward(request: Request) -> StreamingResponse:
    path = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
    headers = [(name, value) for name, value in request.headers.raw if name not in NOT_PASSED_ON]
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    outgoing = httpx.Request(
        request.method, BACKEND_URL + path, headers=headers, content=request.stream() if has_body else None
    )
    outgoing.extensions["timeout"] = request.app.state.client.timeout.as_dict()
    otel_wirecap.annotate(backend=httpx.URL(BACKEND_URL).host)
    answer = await request.app.state.client.send(outgoing, stream=True)

    async def relay():
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await answer.aclose()

    response = StreamingResponse(relay(), answer.status_code)
    response.raw_headers = [(k.lower(), v) for k, v in answer.headers.raw if k.lower() not in NOT_PASSED_ON]
    return response


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=4000)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
