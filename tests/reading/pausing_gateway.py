"""A gateway that tries again, and a backend that takes its time; and traffic through both, captured.

``capture(folder)`` serves the gateway under ``otel-wirecap run`` and sends one request a path of ``PATHS``:

- ``retried``: the backend answers 503, then a redirect, then a stream;
- ``paused``: the backend's stream stands still between its second chunk and its third;
- ``held``: the gateway keeps the third chunk back;
- ``left``: the client leaves a stream after its first chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PATHS = ("retried", "paused", "held", "left")
PAUSE = 2.0
BETWEEN_ATTEMPTS = 0.15
SESSION = "session-of-pauses"
WORDS = ("Every ", "byte ", "arrives ", "late.")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    import httpx

    more = True
    while more:
        more = (await receive()).get("more_body", False)
    how = scope["path"].strip("/")
    async with httpx.AsyncClient(follow_redirects=True) as client:
        for _ in range(2):
            async with client.stream("POST", f"{os.environ['BACKEND']}/{how}", json={"model": "m"}) as response:
                if response.status_code == 503:
                    await response.aread()
                    await asyncio.sleep(BETWEEN_ATTEMPTS)
                    continue
                kind = response.headers["content-type"].encode()
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
                number = 0
                async for chunk in response.aiter_raw():
                    number += 1
                    if how == "held" and number == 3:
                        await asyncio.sleep(PAUSE)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                return


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str] = []  # noqa: RUF012  # one list for all that a backend was asked

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append(self.path)
        if self.path == "/retried" and self.asked.count(self.path) == 1:
            self._head(503, ("content-length", "0"))
        elif self.path == "/retried":
            self._head(307, ("content-length", "0"), ("location", "/moved"))
        else:
            self._stream()

    def _stream(self) -> None:
        self._head(200, ("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
        with contextlib.suppress(OSError):
            for number, word in enumerate(WORDS * (10 if self.path == "/left" else 1)):
                if self.path == "/paused" and number == 2:
                    time.sleep(PAUSE)
                piece = b'data: {"word": "%s"}\n\n' % word.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(0.03)  # so that each is a chunk of its own
            self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def capture(folder: Path) -> Path:
    """The capture of one request a path, one after the other, in one session."""
    path = folder / "gateway.log"
    Backend.asked.clear()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as backend, contextlib.ExitStack() as stack:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        stack.callback(backend.shutdown)
        kept |= {"BACKEND": f"http://127.0.0.1:{backend.server_port}", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-m", "otel_wirecap", "run", "--capture-file", str(path), "--"]
        command += [sys.executable, __file__]
        process = stack.enter_context(subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, text=True))
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            for how in PATHS:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                client.request("POST", f"/{how}", b"{}", {"x-session-id": SESSION, "content-type": "application/json"})
                answer = client.getresponse()
                if how == "left":
                    answer.read1(10)
                    answer.close()
                else:
                    answer.read()
                client.close()
            _wait_for(path, b'"client_disconnect"')
        finally:
            process.terminate()
            process.wait(60)
    return path


def _wait_for(path: Path, text: bytes) -> None:
    deadline = time.monotonic() + 60
    while text not in path.read_bytes():
        assert time.monotonic() < deadline, f"{text!r} is not in the capture"
        time.sleep(0.05)


def main() -> None:
    import socket

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_level="error", lifespan="off", server_header=False)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
