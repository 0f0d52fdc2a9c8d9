"""Recorded traffic of real providers, replayed through the proxies and held against byte-exact ledgers of both legs.

The traffic and its tools are not part of the project: the tests skip where they are not beside the checkout.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
TOOLS, TRAFFIC = SHARED / "tools", SHARED / "traffic" / "public.jsonl"
BIN = Path(sys.executable).parent

pytestmark = [
    pytest.mark.skipif(not TRAFFIC.exists(), reason="the recorded traffic is not beside the checkout"),
    pytest.mark.servers,
]

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
LARGE = {"WIRE_CAPTURE_MAX_BYTES": "1GB", "WIRE_CAPTURE_TOTAL_MAX_BYTES": "2GB"}
NO_EXPORT = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}

DRIVES = {
    "raw": ([], 60),
    "sdk": (["--mode", "sdk"], 48),
    "gzip": (["--gzip", "1", "--accept-encoding", "gzip"], 60),
    "random-chunks": (["--chunking", "random:7"], 60),
    "tiny-chunks": (["--chunking", "bytes:5"], 60),
    "tiny-upload-chunks": (["--upload-chunk", "5"], 60),
}


SERVERS = {
    "uvicorn, h11": ["uvicorn", "--port", "{port}", "--http", "h11", "--log-level", "critical"],
    "uvicorn, httptools": ["uvicorn", "--port", "{port}", "--http", "httptools", "--log-level", "critical"],
    "hypercorn": ["hypercorn", "-b", "127.0.0.1:{port}", "--log-level", "critical"],
    "granian": ["granian", "--interface", "asgi", "--port", "{port}", "--no-log"],
    "gunicorn, uvicorn worker": ["gunicorn", "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker"],
    "gunicorn -k asgi": ["gunicorn", "-b", "127.0.0.1:{port}", "-k", "asgi", "--no-control-socket"],
}
FAULTS = {
    "status": ["--fault", "status:529"],
    "reset": ["--fault", "reset-after:2"],
    "close": ["--fault", "close-after:2"],
    "stall": ["--fault", "stall-after:2:0.5"],
    "client leaves": ["--abort-after", "2", "--delay-ms", "20", "--only", "stream"],
}


class Site(NamedTuple):
    """A proxy in front of the replay backend, with its capture and ledgers."""

    folder: Path
    address: str
    driver_options: list[str]


def exchanges() -> list[dict[str, Any]]:
    return [json.loads(line) for line in TRAFFIC.read_text().splitlines()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        running = subprocess.Popen(command, env=CLEAN | environment, stdout=output, stderr=output, cwd=PROJECT)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                assert running.poll() is None, log.read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            else:
                pytest.fail(f"no answer on port {port}: {log.read_text()}")
            yield
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


@contextmanager
def site(kind: str, folder: Path, environment: dict[str, str] | None = None) -> Iterator[Site]:
    backend_port, port = free_port(), free_port()
    backend = [sys.executable, str(TOOLS / "replay_backend.py"), "--data", str(TRAFFIC), "--port", str(backend_port)]
    backend += ["--ledger", str(folder / "backend.jsonl")]
    options: list[str] = []
    settings = {**LARGE, **(environment or {})}
    if kind == "ready-made proxy":
        command = [sys.executable, "-m", "otel_wirecap", "proxy", "--capture-file", str(folder / "capture.log")]
        command += ["--default-backend", "openai", "--port", str(port)]
        for provider in sorted({exchange["provider"] for exchange in exchanges()}):
            command += ["--backend", f"{provider}=http://127.0.0.1:{backend_port}"]
            options += ["--prefix", f"{provider}=/to/{provider}"]
    else:
        command = [str(BIN / "opentelemetry-instrument"), sys.executable, "examples/fastapi_proxy.py"]
        command += ["--port", str(port)]
        if kind in SERVERS:
            server, *arguments = (part.format(port=port) for part in SERVERS[kind])
            command = [str(BIN / "opentelemetry-instrument"), str(BIN / server), *arguments, "fastapi_proxy:app"]
            settings["PYTHONPATH"] = str(PROJECT / "examples")
        settings |= NO_EXPORT | {
            "WIRE_CAPTURE_FILE": str(folder / "capture.log"),
            "BACKEND_URL": f"http://127.0.0.1:{backend_port}",
            "WIRE_CAPTURE_BACKENDS": f"127.0.0.1:{backend_port}=replay",
        }
    with (
        process(backend, backend_port, {}, folder / "backend.log"),
        process(command, port, settings, folder / "proxy.log"),
    ):
        yield Site(folder, f"http://127.0.0.1:{port}", options)


def drive(place: Site, *options: str) -> str:
    command = [sys.executable, "-W", "ignore", str(TOOLS / "drive.py"), "--data", str(TRAFFIC)]
    command += ["--base", place.address, "--ledger", str(place.folder / "client.jsonl")]
    command += ["--plant", str(place.folder / "planted.txt"), *place.driver_options, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=CLEAN)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def ask_oracle(folder: Path) -> str:
    command = [sys.executable, str(TOOLS / "oracle.py"), "--capture", str(folder / "capture.log"), "--strict-length"]
    for name, file in (("client", "client.jsonl"), ("backend", "backend.jsonl"), ("planted", "planted.txt")):
        command += [f"--{name}", str(folder / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["ready-made proxy", "example under opentelemetry-instrument"])
@pytest.mark.parametrize("name", DRIVES)
def test_every_exchange_is_captured_byte_for_byte_on_both_legs(kind: str, name: str, tmp_path: Path) -> None:
    options, expected = DRIVES[name]
    with site(kind, tmp_path) as place:
        told = drive(place, *options)
    assert f"{expected} sent, {expected} ok" in told
    assert f"'client': {expected}, 'backend': {expected}" in ask_oracle(tmp_path)
    assert (tmp_path / "proxy.log").read_text().count("\n") <= 1  # nothing but the line that it is ready


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", SERVERS)
def test_faults_and_clients_that_leave_are_told_and_what_passed_is_a_prefix(server: str, tmp_path: Path) -> None:
    planted = ""
    with site(server, tmp_path) as place:
        for options in FAULTS.values():
            drive(place, "--no-compare", "--concurrency", "8", *options)
            planted += (tmp_path / "planted.txt").read_text()
    (tmp_path / "planted.txt").write_text(planted)
    ask_oracle(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]
    outcomes = Counter(
        (record["metadata"]["leg"], record["metadata"]["outcome"])
        for record in records
        if "outcome" in record["metadata"] and not record["metadata"].get("assembled")
    )
    assert outcomes["client", "client_disconnect"] > 0
    assert outcomes["backend", "error"] > 0
    assert not outcomes["client", "abandoned"] + outcomes["backend", "abandoned"], outcomes


def requested_model(exchange: dict[str, Any]) -> str | None:
    body = exchange.get("request_body") or ""
    try:
        model = json.loads(body).get("model")
    except ValueError:
        model = None
    named = re.search(r"/(?:models|deployments|model)/([^/:?]+)", exchange["path"])
    return model or (unquote(named[1]) if named else None)


def test_identity_and_linking_of_every_exchange_are_those_of_the_traffic(tmp_path: Path) -> None:
    key = "sk-" + secrets.token_hex(24)
    with site("ready-made proxy", tmp_path, {"REPLAYED_TRAFFIC_API_KEY": key}) as place:
        drive(place, "--api-key", key)
    by_exchange: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (tmp_path / "capture.log").read_text().splitlines():
        record = json.loads(line)
        if not record["direction"].startswith("system_"):
            by_exchange[record["metadata"]["exchange_id"]].append(record)
    flows: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for records in by_exchange.values():
        leg = records[0]["metadata"]["leg"]
        flow = flows[records[0]["metadata"]["request_id"]]
        assert leg not in flow, "two exchanges of one leg share a request_id"
        flow[leg] = records
    assert len(flows) == 60

    known = {exchange["id"]: exchange for exchange in exchanges()}
    met = set()
    for flow in flows.values():
        client, backend = flow["client"], flow["backend"]
        replayed = next(
            dict(record["metadata"]["headers"])["x-replay-entry"]
            for record in backend
            if record["direction"] in {"inbound_response", "stream_start"} and "headers" in record["metadata"]
        )
        exchange = known[replayed]
        met.add(replayed)
        sent = dict(client[0]["metadata"]["headers"])
        assert sent["x-replay-id"] == dict(backend[0]["metadata"]["headers"])["x-replay-id"] == replayed
        assert [record["direction"] for record in (client[0], backend[0])] == ["inbound_request", "outbound_request"]
        assert {record["backend"] for record in backend} == {exchange["provider"]}
        assert {record["metadata"]["attempt"] for record in backend} == {1}
        assert client[0]["model"] == backend[0]["model"] == requested_model(exchange), replayed
        assert {record["key_name"] for record in client + backend} == {"REPLAYED_TRAFFIC_API_KEY"}, replayed
        assert len({record["session_id"] for record in client + backend}) == 1
        assert "credential" not in backend[0]["metadata"]
        for records, start, response in (
            (client, "outbound_stream_start", "outbound_response"),
            (backend, "stream_start", "inbound_response"),
        ):
            whole = [record for record in records if not record["metadata"].get("assembled")]
            directions = {record["direction"] for record in whole}
            assert (start in directions) == exchange["stream"], replayed
            assert (response in directions) == (not exchange["stream"]), replayed
    assert met == set(known)
