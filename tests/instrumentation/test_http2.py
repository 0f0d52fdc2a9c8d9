"""HTTP/2 from client to server, without TLS: the same records, the version told."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

APP = """
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

async def chat(request):
    await request.body()
    async def events():
        for number in range(5):
            yield b"data: %d\\n\\n" % number
    return StreamingResponse(events(), media_type="text/event-stream")

app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "h2_app.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "hypercorn", "h2_app:app", "--bind", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_an_exchange_over_http_2_is_captured(
    name: str, server: str, captured: Callable[[], list[dict[str, Any]]]
) -> None:
    http = importlib.import_module(name)
    with http.Client(http1=False, http2=True) as client:
        answer = client.post(server + "/v1/chat/completions", json={"model": "m", "stream": True})
    assert answer.http_version == "HTTP/2"
    records = [record for record in captured() if not record["metadata"].get("assembled")]
    assert records[0]["payload"] == {"model": "m", "stream": True}
    assert records[1]["metadata"]["http_version"] == "HTTP/2"
    chunks = [record["payload"] for record in records if record["direction"] == "stream_chunk"]
    assert "".join(chunks).encode() == answer.content
    assert records[-1]["metadata"]["outcome"] == "complete"
