"""Payloads go into the capture file and nowhere else, and a capture that cannot be opened harms nobody."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import logging, os, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
logging.basicConfig(level=logging.DEBUG)
import httpx
logging.getLogger("httpcore").setLevel(logging.WARNING)  # logs headers by itself

class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = HTTPServer(("127.0.0.1", 0), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
marker = os.environ["MARKER"]
answer = httpx.post(f"http://127.0.0.1:{server.server_port}/v1", json={"say": marker}, headers={"x-note": marker})
assert answer.json() == {"say": marker}
print("application is done")
"""


def run(capture_file: Path, marker: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "otel-wirecap", "run", "--", sys.executable, "-c", PROGRAM],
        env=os.environ | {"WIRE_CAPTURE_FILE": str(capture_file), "MARKER": marker},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_payload_is_in_the_capture_and_on_no_log_at_debug(tmp_path: Path) -> None:
    marker = "marker-" + secrets.token_hex(8)
    done = run(tmp_path / "capture.jsonl", marker)
    assert done.returncode == 0, done.stderr
    assert marker not in done.stdout + done.stderr
    records = [json.loads(line) for line in (tmp_path / "capture.jsonl").read_text().splitlines()]
    assert [r["payload"] for r in records if r["direction"] == "outbound_request"] == [{"say": marker}]
    assert all("direction" in record for record in records)


@pytest.mark.parametrize("kind", ["directory", "symlink"])
def test_a_capture_file_that_cannot_be_opened_leaves_the_application_running(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "capture.jsonl"
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    done = run(path, "marker-" + secrets.token_hex(8))
    assert done.returncode == 0, done.stderr
    assert "application is done" in done.stdout
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
