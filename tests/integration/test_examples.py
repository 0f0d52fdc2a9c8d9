"""The examples do what their README says, against the demo backend."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_", "OPENAI_"))}
ASK = {"model": "demo-small", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
FOUR_LEGS = {
    "inbound_request", "outbound_request", "stream_start", "stream_chunk", "stream_end", "inbound_response",
    "outbound_stream_start", "outbound_stream_chunk", "outbound_stream_end",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str], log: Path, seconds: float) -> Iterator[str]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=CLEAN | environment, stdout=output, stderr=output, cwd=PROJECT)
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                assert process.poll() is None, log.read_text()
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            else:
                pytest.fail(log.read_text())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "otel_wirecap.proxy.demo_backend", "--port", str(port)]
    with running(command, port, {}, tmp_path / "backend.log", 30) as address:
        yield address


def traffic(capture: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in capture.read_text().splitlines()]
    assert records[-1]["direction"] == "system_stop"
    return [record for record in records if not record["direction"].startswith("system_")]


def check_four_legs(records: list[dict[str, Any]], answer: bytes) -> None:
    flow = next(record["metadata"]["request_id"] for record in records if record["payload"] == ASK)
    records = [record for record in records if record["metadata"]["request_id"] == flow]
    assert {record["direction"] for record in records} == FOUR_LEGS
    relayed = [record["payload"] for record in records if record["direction"] == "outbound_stream_chunk"]
    assert "".join(relayed).encode() == answer


@pytest.mark.sdks
def test_the_sdk_script_is_captured(backend: str, tmp_path: Path) -> None:
    key = "sk-" + secrets.token_hex(20)
    command = [str(BIN / "otel-wirecap"), "run", "--capture-file", str(tmp_path / "script.log"), "--"]
    command += [sys.executable, str(PROJECT / "examples" / "sdk_script.py")]
    environment = {"OPENAI_BASE_URL": backend + "/v1", "OPENAI_API_KEY": key, "MODEL": "demo-small"}
    done = subprocess.run(command, env=CLEAN | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    records = traffic(tmp_path / "script.log")
    assert {record["key_name"] for record in records} == {"OPENAI_API_KEY"}
    said = records[-1]["payload"]["choices"][0]["message"]["content"]
    assert said.strip() == done.stdout.strip()


@pytest.mark.thorough
def test_the_proxy_that_captures_itself_records_four_legs(backend: str, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "examples/fastapi_proxy_instrumented.py", "--port", str(port)]
    settings = {"BACKEND_URL": backend, "WIRE_CAPTURE_FILE": str(tmp_path / "proxy.log")}
    with running(command, port, settings, tmp_path / "proxy.out", 30) as address:
        answer = httpx2.post(address + "/v1/chat/completions", json=ASK, timeout=60).content
    records = traffic(tmp_path / "proxy.log")
    check_four_legs(records, answer)
    assert {record["backend"] for record in records} == {"127.0.0.1"}


@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="litellm is not installed")
def test_the_proxy_of_litellm_is_captured(backend: str, tmp_path: Path) -> None:
    port, master = free_port(), "sk-" + secrets.token_hex(20)
    command = [str(BIN / "otel-wirecap"), "run", "--capture-file", str(tmp_path / "litellm.log"), "--"]
    command += [str(BIN / "litellm"), "--config", "examples/litellm_proxy/config.yaml", "--port", str(port)]
    settings = {
        "BACKEND_URL": backend + "/v1",
        "BACKEND_API_KEY": "sk-" + secrets.token_hex(20),
        "LITELLM_MASTER_KEY": master,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with running(command, port, settings, tmp_path / "litellm.out", 90) as address:
        headers = {"authorization": f"Bearer {master}"}
        answer = httpx2.post(address + "/v1/chat/completions", json=ASK, headers=headers, timeout=60).content
    records = traffic(tmp_path / "litellm.log")
    check_four_legs(records, answer)
    assert {record["key_name"] for record in records if record["direction"] == "outbound_request"} == {
        "BACKEND_API_KEY"
    }
    assert master not in (tmp_path / "litellm.log").read_text()
