"""Who may use the keys of ``otel-wirecap proxy``, as its command line says it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

TOKEN_VARIABLE = "WIRE_CAPTURE_PROXY_TOKEN"
IN_VARIABLE = {TOKEN_VARIABLE: "t" * 16}
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}


def start(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=CLEAN | variables
    )


def made(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def refused(folder: Path, *options: str, **variables: str) -> str:
    """What the command says that does not start, one line."""
    done = start(folder, *options, **variables)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert list(folder.glob("*.log")) == []
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
@pytest.mark.sampled(1, rest="thorough")
def test_other_machines_are_not_let_in_without_a_token(host: str, tmp_path: Path) -> None:
    told = refused(tmp_path, "--host", host)
    assert f"--host: '{host}'" in told
    for option in ("--client-token FILE", TOKEN_VARIABLE, "--no-environment-keys", "127.0.0.1"):
        assert option in told
    assert "--host: '0.0.0.0'" in refused(tmp_path, "--host", "0.0.0.0", **{TOKEN_VARIABLE: ""})


def test_a_host_that_is_none_is_told(tmp_path: Path) -> None:
    assert "--host: 'no such host' cannot be listened on" in refused(tmp_path, "--host", "no such host")


@pytest.mark.thorough
def test_a_token_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    token = secrets.token_hex(16)
    told = refused(tmp_path, "--client-token", token)  # the token in the place of its file
    assert "--client-token: the file cannot be read: No such file or directory" in told
    assert token not in told
    for content, why in [(b"", "is empty"), (f"{token}\n{token}".encode(), "has several lines"), (b"short", "has 5")]:
        file = made(tmp_path / "token", content)
        told = refused(tmp_path, "--client-token", file)
        assert f"--client-token: '{file}' {why}" in told
        assert token not in told
    assert "the file cannot be read: Is a directory" in refused(tmp_path, "--client-token", str(tmp_path))
    assert f"{TOKEN_VARIABLE} has 5 characters" in refused(tmp_path, **{TOKEN_VARIABLE: "short"})


def test_two_tokens_are_told_and_none_of_them_quoted(tmp_path: Path) -> None:
    first, second = secrets.token_hex(16), secrets.token_hex(16)
    told = refused(tmp_path, "--client-token", made(tmp_path / "token", first.encode()), **{TOKEN_VARIABLE: second})
    assert f"token' and {TOKEN_VARIABLE} hold different tokens" in told
    assert first not in told
    assert second not in told


@pytest.mark.parametrize(
    ("options", "variables", "told"),
    [
        (["--allow-host", "https://llm.example"], {}, "--allow-host: 'https://llm.example' cannot be used"),
        (["--allow-host", "::1"], {}, "such as llm.example or [fd00::1]:4000"),
        (["--allow-origin", "null"], {}, "--allow-origin: 'null' cannot be used: pages of any site can send it"),
        (["--allow-origin", "*"], {}, "--allow-origin: '*' cannot be used; expected SCHEME://HOST[:PORT]"),
        (["--allow-origin", "https://app.example/"], {}, "without a path"),
        (["--allow-host", "a", "--no-environment-keys"], {}, "--allow-host: has no use with --no-environment-keys"),
        (["--no-environment-keys"], IN_VARIABLE, f"{TOKEN_VARIABLE}: has no use with --no-environment-keys"),
    ],
)  # fmt: skip
@pytest.mark.sampled(3, rest="thorough")
def test_options_that_cannot_be_used_are_told(
    options: list[str], variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    assert told in refused(tmp_path, *options, **variables)


class Backend:
    """Keeps the headers of what it is asked."""

    def __init__(self, server: ThreadingHTTPServer, got: list[str]) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.got = got


@pytest.fixture
def backend() -> Iterator[Backend]:
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            got.append(f"{self.path}\n{self.headers}")
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Backend(server, got)
    server.shutdown()
    thread.join()
    server.server_close()


class Proxy(NamedTuple):
    url: str
    said: str


@contextlib.contextmanager
def running(folder: Path, backend: Backend, *options: str, **variables: str) -> Iterator[Proxy]:
    command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", "--backend", f"openai={backend.url}"]
    with subprocess.Popen(
        [*command, "--capture-file", str(folder / "capture.log"), *options],
        cwd=folder, env=CLEAN | variables, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if " on http://" in line:
                    break
            port = said.rpartition(" on http://")[2].split()[0].rpartition(":")[2]
            yield Proxy(f"http://127.0.0.1:{port}", said)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()


def records(folder: Path, leg: str) -> list[dict[str, Any]]:
    lines = (folder / "capture.log").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["metadata"].get("leg") == leg]


@pytest.mark.parametrize("place", ["file", "variable", "both"])
@pytest.mark.sampled(1, rest="thorough")
def test_a_token_opens_the_proxy_to_other_machines_and_is_in_no_capture(
    place: str, tmp_path: Path, backend: Backend
) -> None:
    # Short and of letters alone: nothing but its being known makes it a secret.
    token, key = "".join(secrets.choice("abcdefgh") for _ in range(16)), "sk-" + secrets.token_hex(24)
    variables = {"OPENAI_API_KEY": key} | ({} if place == "file" else {TOKEN_VARIABLE: token})
    file = made(tmp_path / "token", token.encode() + b"\n")
    options = [] if place == "variable" else ["--client-token", file]
    with running(tmp_path, backend, "--host", "0.0.0.0", *options, **variables) as proxy:
        said = f"; capture: {tmp_path / 'capture.log'}; keys for clients with the token\n"
        assert proxy.said.endswith(said)
        assert proxy.said.count("\n") == 1  # the variable is no unknown setting
        for headers, query in [
            ({"authorization": f"Bearer {token}"}, ""),
            ({"x-api-key": token, "x-other": f"a {token} b"}, ""),
            ({}, f"?key={token}&x=1"),
            ({}, f"?x={token}"),
        ]:
            answered = httpx2.post(
                f"{proxy.url}/v1/x{query}", headers=headers, json={"note": f"it is {token}"}, trust_env=False
            )
            assert answered.status_code == (401 if "?x=" in query else 200)
    assert len(backend.got) == 3
    assert all(f"authorization: Bearer {key}\n" in head and token not in head for head in backend.got)
    text = (tmp_path / "capture.log").read_text()
    assert token not in text
    assert key not in text
    asked = [record for record in records(tmp_path, "client") if record["direction"] == "inbound_request"]
    assert len(asked) == 4
    assert {record["key_name"] for record in asked[:3]} == {None if place == "file" else TOKEN_VARIABLE}
    assert {record["key_name"] for record in records(tmp_path, "backend")} == {"OPENAI_API_KEY"}


@pytest.mark.thorough
def test_without_keys_from_the_environment_everybody_passes_and_no_key_is_added(
    tmp_path: Path, backend: Backend
) -> None:
    key = "sk-" + secrets.token_hex(24)
    with running(tmp_path, backend, "--host", "0.0.0.0", "--no-environment-keys", OPENAI_API_KEY=key) as proxy:
        assert proxy.said.endswith("; no keys from the environment\n")
        headers = {"host": "attacker.example", "origin": "https://evil.example"}
        assert httpx2.post(f"{proxy.url}/v1/x", headers=headers, trust_env=False).status_code == 200
    assert len(backend.got) == 1
    assert key not in backend.got[0]


@pytest.mark.thorough
def test_further_hosts_and_origins_are_said_at_the_start_and_let_in(tmp_path: Path, backend: Backend) -> None:
    options = ["--allow-host", "LLM.example", "--allow-host", "gpu:4000", "--allow-origin", "https://app.example:443"]
    key = "sk-" + secrets.token_hex(24)
    with running(tmp_path, backend, "--host", "localhost", *options, OPENAI_API_KEY=key) as proxy:
        assert proxy.said.endswith("; keys also for gpu:4000, llm.example, https://app.example\n")
        allowed = {"host": "llm.example", "origin": "https://app.example", "sec-fetch-site": "cross-site"}
        assert httpx2.post(f"{proxy.url}/v1/x", headers=allowed, trust_env=False).status_code == 200
        other = {"origin": "https://evil.example"}
        assert httpx2.post(f"{proxy.url}/v1/x", headers=other, trust_env=False).status_code == 403
    assert len(backend.got) == 1
    assert key in backend.got[0]


@pytest.mark.thorough
def test_a_token_file_that_all_users_can_read_is_told_and_used(tmp_path: Path, backend: Backend) -> None:
    file = made(tmp_path / "token", secrets.token_hex(16).encode(), 0o644)
    with running(tmp_path, backend, "--client-token", file) as proxy:
        assert f"every user of this machine can read '{file}' (mode 644); expected mode 600\n" in proxy.said
    with running(tmp_path, backend, "--client-token", made(Path(file), b"t" * 16, 0o640)) as proxy:
        assert "mode" not in proxy.said


@pytest.mark.thorough
def test_the_usual_rules_are_not_said_at_the_start(tmp_path: Path, backend: Backend) -> None:
    with running(tmp_path, backend) as proxy:
        assert proxy.said.endswith(f"; capture: {tmp_path / 'capture.log'}\n")
