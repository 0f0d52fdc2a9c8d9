"""Servers that are stopped under load: every record of every finished exchange is in the file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from selection import mostly

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 6

APPLICATION = """
import asyncio
import json

import httpx


class Slow(httpx.AsyncByteStream):
    async def __aiter__(self):
        for number in range(10):
            await asyncio.sleep(0.005)
            yield b"data: %d\\n\\n" % number


def answer(request):
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Slow())


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        async with client.stream("POST", "http://backend.example/v1/chat/completions", content=body) as response:
            await send({"type": "http.response.start", "status": 200,
                        "headers": [(b"content-type", b"text/event-stream")]})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""

SERVERS = {
    "uvicorn": ["uvicorn", "application:app", "--port", "{port}", "--log-level", "warning"],
    "uvicorn --workers 2": ["uvicorn", "application:app", "--port", "{port}", "--workers", "2"],
    "gunicorn, uvicorn's worker": [
        "gunicorn", "application:app", "-b", "127.0.0.1:{port}", "-w", "2", "-k", "uvicorn_worker.UvicornWorker",
    ],
    "gunicorn, its own worker": ["gunicorn", "application:app", "-b", "127.0.0.1:{port}", "-w", "2", "-k", "asgi"],
    "hypercorn": ["hypercorn", "application:app", "-b", "127.0.0.1:{port}"],
    "hypercorn --workers 2": ["hypercorn", "application:app", "-b", "127.0.0.1:{port}", "--workers", "2"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}", "application:app"],
    "granian --workers 2": ["granian", "--interface", "asgi", "--port", "{port}", "--workers", "2", "application:app"],
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(url: str, finished: list[str], stop: threading.Event, name: str) -> None:
    number = 0
    with httpx.Client(timeout=60) as client:
        while not stop.is_set():
            mark = f"{name}-{number}"
            number += 1
            try:
                if client.post(url, json={"stream": True, "mark": mark}).content.count(b"data: ") == 10:
                    finished.append(mark)
            except httpx.HTTPError:
                time.sleep(0.01)


@pytest.mark.parametrize("server", mostly(pytest.mark.servers, SERVERS, "uvicorn --workers 2"))
@pytest.mark.servers
def test_what_was_finished_when_the_signal_came_is_in_the_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    port = free_port()
    command, *arguments = (part.replace("{port}", str(port)) for part in SERVERS[server])
    capture = tmp_path / "capture.log"
    environ = os.environ | {
        "WIRE_CAPTURE_FILE": str(capture),
        "WIRE_CAPTURE_FLUSH_INTERVAL": "60",  # what is in the file at the end was written at the end
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
    }  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "opentelemetry-instrument", BIN / command, *arguments],
            cwd=tmp_path, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    finished: list[str] = []
    stop = threading.Event()
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()[-2000:]
            assert process.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(0.05)
        clients = [
            threading.Thread(target=load, args=(f"http://127.0.0.1:{port}/", finished, stop, f"client{number}"))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        while len(finished) < 60:
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # the load goes on for a while; nothing depends on for how long
        stop.set()
        process.wait(60)
        for client in clients:
            client.join(60)
    finally:
        stop.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    check(capture, finished)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check(capture: Path, finished: list[str]) -> None:
    records: list[dict[str, Any]] = [json.loads(line) for line in capture.read_text().splitlines()]
    flows: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        flows.setdefault(record["metadata"].get("request_id"), []).append(record)
    by_mark = {
        record["payload"]["mark"]: flows[record["metadata"]["request_id"]]
        for record in records
        # Without a payload: the signal came before the server had read the request.
        if record["direction"] == "inbound_request" and record["payload"] is not None
    }
    assert set(finished) <= set(by_mark), f"{len(set(finished) - set(by_mark))} of {len(finished)} are missing"
    for mark in finished:
        kinds = [record["direction"] for record in by_mark[mark]]
        assert kinds.count("outbound_request") == 1
        for leg in ("", "outbound_"):
            assert kinds.count(leg + "stream_start") == 1
            assert kinds.count(leg + "stream_end") == 1
            (end,) = [record for record in by_mark[mark] if record["direction"] == leg + "stream_end"]
            assert end["metadata"]["outcome"] == "complete"
            assert kinds.count(leg + "stream_chunk") == end["payload"]["total_chunks"] > 0
    last: dict[str, int] = {}
    for record in records:
        process = record["metadata"]["process"]
        assert record["metadata"]["seq"] == last.get(process, 0) + 1
        last[process] = record["metadata"]["seq"]
