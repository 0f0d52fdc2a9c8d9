"""``otel-wirecap proxy`` as a command: what it says at its start, and where it sends what vendors' SDKs ask."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

CLEAN = {
    name: value for name, value in os.environ.items()
    if not name.startswith(("WIRE_CAPTURE", "OTEL_")) and not name.endswith(("_API_KEY", "_TOKEN"))
} | {"PYTHONUTF8": "1"}  # fmt: skip


@contextlib.contextmanager
def running(folder: Path, *options: str, **environ: str) -> Iterator[tuple[str, list[str]]]:
    """A proxy on a free port: its URL and, line by line, what it has said on stderr."""
    command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", *options]
    with subprocess.Popen(command, cwd=folder, env=CLEAN | environ, stderr=subprocess.PIPE, encoding="utf-8") as proxy:
        try:
            assert proxy.stderr is not None
            said = [proxy.stderr.readline()]
            yield next(word for word in said[0].split() if word.startswith("http://")), said
            proxy.send_signal(signal.SIGTERM)
            said += proxy.stderr.readlines()
        finally:
            proxy.kill()


class Backend(ThreadingHTTPServer):
    """Answers every request with an empty JSON object; ``asked`` holds targets and lower-case headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, dict[str, str]]] = []


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """No word on stderr."""


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    """The backend that is asked, and one that stands for all others."""
    with Backend() as asked, Backend() as others:
        threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in (asked, others)]
        for thread in threads:
            thread.start()
        try:
            yield asked, others
        finally:
            for server, thread in zip((asked, others), threads, strict=True):
                server.shutdown()
                thread.join(20)


def start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start(tmp_path, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_capture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = start(tmp_path, "--capture-file", str(tmp_path))
    assert done.returncode == 2
    assert f"cannot write the capture file {tmp_path}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "default"),
    [
        ((), "openai"),
        (("--backend", "local=http://127.0.0.1:1"), "local"),
        (("--backend", "local=http://127.0.0.1:1", "--backend", "openai=http://127.0.0.1:1"), "no default backend"),
        (("--backend", "local=http://127.0.0.1:1", "--default-backend", "gemini"), "gemini"),
    ],
)
@pytest.mark.sampled(1, rest="thorough")
def test_one_line_says_where_it_is_which_backend_is_the_default_and_what_has_changed(
    options: tuple[str, ...], default: str, tmp_path: Path
) -> None:
    with running(tmp_path, *options) as (url, said):
        pass
    assert said == [
        f"otel-wirecap proxy on {url} → {default}; other backends at /to/NAME/… (before: /NAME/…); "
        "capture: wire_capture.log\n"
    ]


@pytest.mark.thorough
def test_without_a_default_backend_a_path_is_told_what_to_write(
    tmp_path: Path, backends: tuple[Backend, Backend]
) -> None:
    asked, others = backends
    with running(tmp_path, "--backend", f"one={asked.url}", "--backend", f"two={others.url}") as (url, _):
        assert httpx2.post(f"{url}/to/two/v1/x", json={}).status_code == 200
        answer = httpx2.post(f"{url}/one/v1/x", json={})
    assert answer.status_code == 404
    told = answer.json()["error"]["message"]
    assert "write /to/one/..." in told
    assert "--default-backend NAME" in told
    assert ([target for target, _ in others.asked], asked.asked) == (["/v1/x"], [])


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("GET /a/../b%2F?", "http://the.host/a/../b%2F"),
        ("GET http://stranger.test/v1?x=1", "http://stranger.test/v1?x=1"),
        ("GET %2Fstranger.test:80/v1", "http://the.host/%2Fstranger.test:80/v1"),
        ("GET stranger.test/v1", "http://the.host/stranger.test/v1"),
        ("CONNECT stranger.test:443", "http://the.host/stranger.test:443"),
        ("OPTIONS *", "http://the.host/"),
    ],
)
@pytest.mark.sampled(1, rest="thorough")
def test_the_url_of_any_target_is_recorded_with_the_host_that_was_asked(line: str, url: str, tmp_path: Path) -> None:
    with running(tmp_path, "--backend", "gone=http://127.0.0.1:1") as (proxy, _):
        address = ("127.0.0.1", int(proxy.rpartition(":")[2]))
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(f"{line} HTTP/1.1\r\nHost: the.host\r\nConnection: close\r\n\r\n".encode())
            assert client.makefile("rb").readline().startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 502 "))
    records = [json.loads(line) for line in (tmp_path / "wire_capture.log").read_text().splitlines()]
    assert [r["metadata"]["url"] for r in records if r["direction"] == "inbound_request"] == [url]


def ask_azure(url: str, key: str) -> None:
    import openai

    with openai.AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="mine", messages=[])


def ask_groq(url: str, key: str) -> None:
    import groq

    with groq.Groq(base_url=url, api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="m", messages=[])


def ask_anthropic(url: str, key: str) -> None:
    import anthropic

    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0) as client:
        client.messages.create(model="m", max_tokens=1, messages=[])


def ask_deepseek(url: str, key: str) -> None:
    ask_anthropic(url + "/anthropic", key)


def ask_gemini(url: str, key: str) -> None:
    from google import genai

    with genai.Client(api_key=key, http_options={"base_url": url, "api_version": "v1beta"}) as client:
        client.models.generate_content(model="m", contents="hello")


@pytest.mark.parametrize(
    ("name", "ask", "target"),
    [
        ("azure", ask_azure, "/openai/deployments/mine/chat/completions?api-version=2024-10-21"),
        ("groq", ask_groq, "/openai/v1/chat/completions"),
        ("deepseek", ask_deepseek, "/anthropic/v1/messages"),
        ("anthropic", ask_anthropic, "/v1/messages"),
        ("gemini", ask_gemini, "/v1beta/models/m:generateContent"),
    ],
)
@pytest.mark.sdks
def test_what_a_vendors_sdk_asks_for_arrives_whole_at_its_backend_and_nowhere_else(
    name: str, ask: Any, target: str, tmp_path: Path, backends: tuple[Backend, Backend]
) -> None:
    asked, others = backends
    key = secrets.token_hex(20)
    known = ("openai", "anthropic", "gemini", "groq", "deepseek", "azure")
    options = ["--capture-file", "capture.log", "--default-backend", name]
    for each in known:
        options += ["--backend", f"{each}={asked.url if each == name else others.url}"]
    with running(tmp_path, *options) as (url, _):
        ask(url, key)
        ask(f"{url}/to/{name}", key)
    assert [got for got, _ in asked.asked] == [target, target]
    assert not others.asked
    for _, headers in asked.asked:
        assert key in " ".join(headers.values())
    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    sent = [record for record in records if record["direction"] == "outbound_request"]
    assert [(record["backend"], record["metadata"]["url"]) for record in sent] == [(name, asked.url + target)] * 2
