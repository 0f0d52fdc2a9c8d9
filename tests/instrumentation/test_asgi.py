"""The server hook on a real uvicorn in a process of its own: recorded once, linked, and ended."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from waiting import MAX_SECONDS, wait_until

APP = """
import asyncio
import otel_wirecap
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

sub = FastAPI()

@sub.post("/echo")
async def echo(body: dict):
    otel_wirecap.annotate(session_id="conversation-7", key_name="TEAM_KEY")
    return body

app = FastAPI()
app.mount("/sub", sub)

@app.get("/stream")
async def stream():
    async def chunks():
        for number in range(3):
            yield f"data: {number}\\n\\n"
            await asyncio.sleep(0.02)
    return StreamingResponse(chunks(), media_type="text/event-stream")

@app.get("/endless")
async def endless():
    async def chunks():
        while True:
            yield "data: x\\n\\n"
            await asyncio.sleep(0.02)
    return StreamingResponse(chunks(), media_type="text/event-stream")
"""


class Server:
    """A served application and the records of its capture file, read once it has stopped."""

    def __init__(self, folder: Path) -> None:
        (folder / "served_app.py").write_text(APP)
        self.capture_file = folder / "capture.jsonl"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        cli = Path(sys.executable).parent / "otel-wirecap"
        self.process = subprocess.Popen(
            [cli, "run", "--", sys.executable, "-m", "uvicorn", "served_app:app", "--port", str(port)],
            cwd=folder,
            env=os.environ | {"WIRE_CAPTURE_FILE": str(self.capture_file), "PYTHONPATH": str(folder)},
        )
        deadline = time.monotonic() + MAX_SECONDS
        while self._refused(port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                pytest.fail("the server did not start")
            time.sleep(0.05)

    @staticmethod
    def _refused(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    def stop(self) -> list[dict]:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(MAX_SECONDS)
        return [json.loads(line) for line in self.capture_file.read_text().splitlines()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    served = Server(tmp_path)
    yield served
    if served.process.poll() is None:
        served.process.kill()
        served.process.wait()


def directions(records: list[dict]) -> list[str]:
    return [record["direction"] for record in records]


def test_a_request_to_a_mounted_app_is_recorded_once_with_its_annotations(server: Server) -> None:
    assert httpx.post(server.url + "/sub/echo", json={"a": 1}).json() == {"a": 1}
    records = server.stop()
    assert directions(records) == ["system_start", "inbound_request", "outbound_response", "system_stop"]
    assert records[1]["payload"] == records[2]["payload"] == {"a": 1}
    assert (records[2]["session_id"], records[2]["key_name"]) == ("conversation-7", "TEAM_KEY")
    assert records[1]["metadata"]["request_id"] == records[2]["metadata"]["request_id"]


def test_a_stream_is_recorded_chunk_by_chunk_and_reaches_the_client_unchanged(server: Server) -> None:
    assert httpx.get(server.url + "/stream").text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    records = server.stop()
    chunks = [r for r in records if r["direction"] == "outbound_stream_chunk"]
    assert [r["metadata"]["chunk_number"] for r in chunks] == [1, 2, 3]
    ends = [r for r in records if r["direction"] == "outbound_stream_end"]
    assert [r["metadata"]["outcome"] for r in ends] == ["complete"]
    assert directions(records)[-1] == "system_stop"


def test_a_client_that_leaves_a_stream_is_a_client_disconnect(server: Server) -> None:
    with httpx.stream("GET", server.url + "/endless", timeout=MAX_SECONDS) as response:
        next(response.iter_raw())
    wait_until(lambda: '"outbound_stream_end"' in server.capture_file.read_text())
    records = server.stop()
    ends = [r for r in records if r["direction"] == "outbound_stream_end"]
    assert [r["metadata"]["outcome"] for r in ends] == ["client_disconnect"]
    assert directions(records)[-1] == "system_stop"
