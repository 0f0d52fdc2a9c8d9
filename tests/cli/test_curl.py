"""``show --curl`` and ``show --raw``: whatever the request holds, curl sends it and no terminal obeys it."""

from __future__ import annotations

import gzip
import http.server
import os
import pty
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import MAX_SECONDS

from otel_wirecap.capture.events import ExchangeHead, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from tests.capture.test_recorder import NS, Desk

COMMAND = str(Path(sys.executable).with_name("otel-wirecap"))


class Server(http.server.ThreadingHTTPServer):
    seen: list[tuple[str, dict[str, str], bytes]]


class Echo(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as found:
        found.seen = []
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def captured(folder: Path, url: str, body: bytes, *headers: tuple[bytes, bytes]) -> Path:
    desk, flow = Desk(), LiveFlow("req_1")
    exchange = LiveExchange("ex_1", ExchangeHead("backend", flow.id, 1, "0" * 32, "0" * 16, NS, NS), flow, desk)
    exchange.begin(RequestHead("POST", url, list(headers), body=body))
    exchange.response(2 * NS, ResponseHead(200, None, []))
    exchange.chunk(3 * NS, body)
    exchange.end(4 * NS, "complete")
    desk.records()
    path = folder / "capture.log"
    path.write_bytes(b"".join(desk.lines))
    return path


BODIES = {
    "the name of a file": b"@/etc/hostname",
    "a file's content": b"</etc/hostname",
    "lines": b"one\ntwo\r\nthree",
    "quotes": b'it\'s "quoted" `uname` $(uname) $HOME \\ % %s',
    "commands to a terminal": b"\x1b]0;title\x07\x1b[2J\x9b31m",
    "no text": bytes(range(256)),
    "a line's end last": b"text\n",
    "Unicode": "déjà vu 漢字 \u202e\u200b".encode(),
}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("kind", BODIES)
def test_curl_sends_the_very_bytes(kind: str, server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/v1/{{a,b}}/[1-3]?q=@x"
    headers = [(b"content-type", b"text/plain"), (b"x-empty", b""), (b"x-odd", b"it's $HOME"), (b"@/etc/hosts", b"1")]
    capture = captured(tmp_path, url, BODIES[kind], *headers)
    done = subprocess.run([COMMAND, "show", "req_1", capture, "--curl"], capture_output=True, check=True)
    command = done.stdout.decode()
    assert command.replace("\n", "").isprintable()
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True, timeout=MAX_SECONDS)
    ((path, sent, body),) = server.seen
    assert (path, body) == ("/v1/{a,b}/[1-3]?q=@x", BODIES[kind])
    assert (sent["x-empty"], sent["x-odd"]) == ("", "it's $HOME")
    assert "1" not in {sent.get("@/etc/hosts"), sent.get("localhost")}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_body_that_was_compressed_is_sent_as_it_is_captured(server: Server, tmp_path: Path) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    capture = captured(tmp_path, f"http://127.0.0.1:{server.server_port}/v1", gzip.compress(b'{"a":1}'), *headers)
    command = subprocess.run([COMMAND, "show", "req_1", capture, "--curl"], capture_output=True, check=True).stdout
    subprocess.run(["sh", "-ec", command], check=True, capture_output=True, timeout=MAX_SECONDS)
    ((_, sent, body),) = server.seen
    assert body == b'{"a":1}'
    assert "content-encoding" not in sent


def test_a_terminal_is_shown_raw_bytes_and_does_not_obey_them(tmp_path: Path) -> None:
    body = BODIES["commands to a terminal"] + b"\nnext"
    capture = captured(tmp_path, "http://backend.example/v1", body, (b"content-type", b"text/plain"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen([COMMAND, "show", "req_1", capture, "--raw", "request"], stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], MAX_SECONDS)[0]:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
        assert process.wait(MAX_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert b"title" in shown
    assert b"next" in shown
    done = subprocess.run([COMMAND, "show", "req_1", capture, "--raw", "request"], capture_output=True, check=True)
    assert done.stdout == body
