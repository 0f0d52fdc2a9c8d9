"""LiteLLM's proxy, as it is, with both of its transports: every request in is linked to every request out."""

import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from otel_wirecap.proxy.demo_backend import create_demo_backend

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="litellm is not installed"),
    pytest.mark.servers,
]

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
SAY = [{"role": "user", "content": "hello"}]
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": SAY}),
    "chat, streamed": ("/v1/chat/completions", {"messages": SAY, "stream": True}),
    "responses": ("/v1/responses", {"input": "hello"}),
    "responses, streamed": ("/v1/responses", {"input": "hello", "stream": True}),
    "messages": ("/v1/messages", {"messages": SAY, "max_tokens": 99}),
    "messages, streamed": ("/v1/messages", {"messages": SAY, "max_tokens": 99, "stream": True}),
    "embeddings": ("/v1/embeddings", {"input": "hello"}),
}


async def embeddings(_request: Request) -> JSONResponse:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return JSONResponse({"object": "list", "data": data, "model": "demo-small", "usage": usage})


@pytest.fixture
def backend() -> Iterator[str]:
    app = Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"]), Mount("/", create_demo_backend())])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
def test_every_request_is_linked_to_what_it_causes(transport: str, backend: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = "sk-" + secrets.token_hex(20)
    environ = CLEAN | {
        "WIRE_CAPTURE_FILE": str(tmp_path / "capture.log"),
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
        "BACKEND_URL": backend + "/v1", "BACKEND_API_KEY": "sk-" + secrets.token_hex(20), "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DISABLE_AIOHTTP_TRANSPORT": str(transport == "httpx"),
    }  # fmt: skip
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "litellm"), "--port", str(port)]
    command += ["-c", str(PROJECT / "examples/litellm_proxy/config.yaml")]
    with (
        (tmp_path / "litellm.out").open("wb") as log,
        subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            with httpx2.Client(timeout=60, headers={"authorization": f"Bearer {key}"}) as client:
                deadline = time.monotonic() + 120
                while time.monotonic() < deadline:
                    try:
                        client.get(url + "/health/liveliness")
                        break
                    except httpx2.TransportError:
                        time.sleep(0.3)
                for name, (path, body) in ASKS.items():
                    answer = client.post(url + path, json={"model": "demo-small", "user": name, **body})
                    assert answer.status_code == 200, (name, answer.text)
        finally:
            process.terminate()
            process.wait(60)
    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    inbound = [r for r in records if r["direction"] == "inbound_request" and r["payload"]]
    outbound = [r for r in records if r["direction"] == "outbound_request"]
    assert [r["payload"]["user"] for r in inbound] == list(ASKS)
    linked = {r["metadata"]["request_id"] for r in outbound}
    assert linked == {r["metadata"]["request_id"] for r in inbound}  # none missing, none without its request
    ends = [r["metadata"]["outcome"] for r in records if "outcome" in r["metadata"]]
    assert set(ends) <= {"complete", "closed"}
