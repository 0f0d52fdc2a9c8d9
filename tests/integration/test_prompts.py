"""Prompts masked on the real path: the ready-made proxy, a backend in a process of its own, the file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_wirecap.cli.demo_client import drive

Records = list[dict[str, Any]]

CONTENT = {"content", "text", "thinking", "arguments", "partial_json", "delta", "instructions", "system", "message"}


def started(*module: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
    """A module as a process, and the URL that it says it is at."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", *module], env=clean | variables, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return process, found[0]
    raise AssertionError(f"{module[0]} did not start")


def stopped(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    process, url = started("otel_wirecap.proxy.demo_backend", "--port", "0")
    yield url
    stopped(process)


def captured(backend: str, capture: Path, **variables: str) -> tuple[Records, str]:
    """The records of a dozen requests of all providers, streams among them; and the file."""
    options = ["--capture-file", str(capture), "--default-backend", "openai", "--port", "0"]
    for name in ("openai", "anthropic", "gemini"):
        options += ["--backend", f"{name}={backend}"]
    keys = {f"{name}_API_KEY": "k" * 24 for name in ("OPENAI", "ANTHROPIC", "GEMINI")}
    process, url = started("otel_wirecap", "proxy", *options, **keys, **variables)
    asyncio.run(drive(url, lambda _: None))
    stopped(process)
    written = capture.read_text(encoding="utf-8")
    records = [json.loads(line) for line in written.splitlines()]
    return [record for record in records if not record["direction"].startswith("system_")], written


def texts_of(value: Any, name: str = "") -> list[str]:
    """The texts of messages in a payload."""
    if isinstance(value, dict):
        return [text for member, item in value.items() for text in texts_of(item, member)]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item, name)]
    return [value] if isinstance(value, str) and name in CONTENT else []


def kept(records: Records, directions: set[str]) -> list[str]:
    """What of these records is no text, in no order: the requests of the two runs overlap otherwise."""
    found = []
    for record in records:
        payload = record["payload"] if isinstance(record["payload"], dict) else {}
        usage = payload.get("usage") or payload.get("usageMetadata")
        roles = [message["role"] for message in payload.get("messages", [])]
        about = (record["direction"], record["backend"], record["model"], record["metadata"].get("status_code"))
        if record["direction"] in directions:
            found.append(json.dumps([*about, usage, roles, sorted(payload)]))
    return sorted(found)


@pytest.mark.thorough
def test_prompts_and_answers_are_not_in_the_file_and_all_else_is(backend: str, tmp_path: Path) -> None:
    plain, unmasked = captured(backend, tmp_path / "plain.log")
    clean, written = captured(backend, tmp_path / "clean.log", WIRE_CAPTURE_REDACT_PROMPTS="true")
    texts = {text for record in plain for text in texts_of(record["payload"])}
    sayings = {saying for text in texts for saying in re.findall(r"\w+ \w+ \w+", text)}
    sayings |= {word for text in texts for word in re.findall(r"\w{4,}", text) if not word.isascii()}
    assert len(sayings) > 8
    assert all(saying in unmasked for saying in sayings)
    assert not [saying for saying in sayings if saying in written]
    directions = {"inbound_request", "outbound_request", "inbound_response", "outbound_response", "stream_start"}
    assert kept(clean, directions) == kept(plain, directions)
    streams = [record for record in clean if record["direction"] == "stream_end"]
    assert len(streams) > 3
    for end in streams:
        chunks = [
            record
            for record in clean
            if record["direction"] == "stream_chunk"
            and record["metadata"]["exchange_id"] == end["metadata"]["exchange_id"]
        ]
        numbers = [chunk["metadata"]["chunk_number"] for chunk in chunks]
        assert numbers == list(range(1, end["payload"]["total_chunks"] + 1))
        assert sum(chunk["metadata"]["chunk_bytes"] for chunk in chunks) == end["payload"]["total_bytes"]
        assert sum(chunk["metadata"].get("redactions", {}).get("prompt", 0) for chunk in chunks) > 0
