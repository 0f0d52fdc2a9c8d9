"""A real HTTP server whose every byte and moment the test decides, and what a client saw of it."""

from __future__ import annotations

import contextlib
import gzip
import json
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import brotli
from backports import zstd

EVENTS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":%b}]}\n\n' % (number, reason)
    for number, reason in enumerate([b"null"] * 4 + [b'"stop"'])
]
DOCUMENT = json.dumps({"model": "answered", "choices": [], "text": "Zażółć 漢字"}).encode()
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


class Received(NamedTuple):
    """A request as it was on the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Handler(socketserver.StreamRequestHandler):
    """Answers by the path."""

    server: Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while True:
            line = self.rfile.readline()
            if not line.strip():
                return
            method, target, _ = line.decode().split(" ", 2)
            headers = []
            while (line := self.rfile.readline()).strip():
                name, _, value = line.decode("latin-1").partition(":")
                headers.append((name, value.strip()))
            lower = {name.lower(): value for name, value in headers}
            body = b""
            if lower.get("transfer-encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            elif lower.get("content-length"):
                body = self.rfile.read(int(lower["content-length"]))
            self.server.received.append(Received(method, target, headers, body))
            if not self.answer(target, lower):
                return

    def answer(self, target: str, headers: dict[str, str]) -> bool:
        path, _, argument = target.lstrip("/").partition("/")
        if path == "document":
            return self.whole(200, "application/json", DOCUMENT)
        if path == "encoded":
            encoded = ENCODERS[argument](DOCUMENT)
            return self.whole(200, "application/json", encoded, f"content-encoding: {argument}\r\n")
        if path == "redirect":
            left = int(argument)
            to = f"/redirect/{left - 1}" if left > 1 else "/document"
            return self.whole(307, "text/plain", b"over there", f"location: {to}\r\n")
        if path == "digest" and "authorization" not in headers:
            challenge = 'www-authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=MD5\r\n'
            return self.whole(401, "text/plain", b"who?", challenge)
        if path == "digest":
            return self.whole(200, "application/json", DOCUMENT)
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number, event in enumerate(EVENTS):
            if path == "reset" and number == 2:
                time.sleep(0.05)
                self.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: RST
                self.connection.close()
                return False
            if path == "stall" and number == 2:
                time.sleep(float(argument))
                return False
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(0.005)
        self.wfile.write(b"0\r\n\r\n")
        return True

    def whole(self, status: int, content_type: str, body: bytes, more: str = "") -> bool:
        head = f"HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self.wfile.write(head.encode() + body)
        return True

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the connection was broken on purpose
            super().finish()


class Server(socketserver.ThreadingTCPServer):
    """The server; ``received`` holds the requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[Received] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(60)
