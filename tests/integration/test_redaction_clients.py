"""No secret is written, on the real path: vendors' SDKs, a proxy in front of a backend, every format, both legs."""

from __future__ import annotations

import json
import os
import secrets
import signal
import string
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from records import read_records
from redaction_backend import NAMES, Backend, Words

from otel_wirecap.frames.framing import FrameReader

pytestmark = pytest.mark.sdks

ALNUM = string.ascii_letters + string.digits
FORMATS = ("jsonl", "text", "structured", "cbor")
MARKER = "[REDACTED]"
HARMLESS = "The weather in Paris is fine, 12345 times."
CALLS = 24  # of ten clients, each with and without a stream, OpenAI's two ways both


def random_run(length: int, alphabet: str = ALNUM) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length - 2)) + "A1"


def make_secrets() -> dict[str, str]:
    """Where a secret is planted, and the secret; those without a shape are known by where they stand."""
    return {
        "openai": f"sk-proj-{random_run(48)}",
        "anthropic": f"sk-ant-api03-{random_run(80)}",
        "gemini": f"AIza{random_run(35)}",
        "mistral": random_run(32),
        "cohere": random_run(40),
        "header": f"team-{random_run(24)}",
        "environment": f"Pw{random_run(18)}",
        "prompt": f"ghp_{random_run(36)}",
        "tool": f"xoxb-{random_run(30, string.digits)}-{random_run(24)}",
        "thought": f"hf_{random_run(34)}",
        "text": "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(15)) + "7",
        "arguments": f"gsk_{random_run(52)}",
    }


class Run(NamedTuple):
    """What is left of a run.

    Attributes:
        planted: the secrets.
        captures: format to file; ``fastapi`` is that of the other proxy.
        told: what the processes said, our log, and the spans.
        received: of each proxy, what each call received.
        words: what the backend said.
        requests: what it was sent.
    """

    planted: dict[str, str]
    captures: dict[str, Path]
    told: dict[str, str]
    received: list[dict[str, dict[str, str]]]
    words: Words
    requests: list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("redaction")
    planted = make_secrets()
    words = Words(
        thought=f"I think of {planted['thought']} and go on.",
        text=f"{HARMLESS} The key is {planted['text']}, the password {planted['environment']}. Bye.",
        arguments=json.dumps({"city": "Paris", "note": f"sign in with {planted['arguments']} there"}),
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WIRE_CAPTURE"))}
    environ |= {"DB_PASSWORD": planted["environment"], "PYTHONUNBUFFERED": "1"}
    backend = Backend(words)
    captures = {form: folder / form / "capture.log" for form in (*FORMATS, "fastapi")}
    proxies: dict[str, subprocess.Popen[str]] = {}
    told: dict[str, str] = {}
    try:
        for form in FORMATS:
            command = [sys.executable, "-m", "otel_wirecap", "proxy", "--port", "0", "--capture-format", form]
            command += ["--capture-file", str(captures[form])]
            command += [word for name in NAMES for word in ("--backend", f"{name}={backend.url}")]
            proxies[form] = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
        urls = []
        for form, proxy in proxies.items():
            assert proxy.stderr is not None
            told[form] = proxy.stderr.readline()
            urls.append(next(word for word in told[form].split() if word.startswith("http://")).rstrip("/,;."))
        fastapi = {
            "backend": backend.url, "capture_file": str(captures["fastapi"]), "log": str(folder / "log"),
            "spans": str(folder / "spans"),
        }  # fmt: skip
        plan = {
            "urls": urls, "received": str(folder / "received"), "fastapi": fastapi, "tool": planted["tool"],
            "keys": {name: planted[name] for name in NAMES},
            "headers": {"x-team-token": planted["header"]},
            "prompt": f"{HARMLESS} Use {planted['prompt']} and {planted['environment']}, please.",
        }  # fmt: skip
        (folder / "plan").write_text(json.dumps(plan))
        client = [sys.executable, str(Path(__file__).with_name("redaction_clients.py")), str(folder / "plan")]
        done = subprocess.run(client, env=environ, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        for form, proxy in proxies.items():
            proxy.send_signal(signal.SIGTERM)
            told[form] += proxy.communicate(timeout=60)[1]
        told |= {"spans": (folder / "spans").read_text(), "log": (folder / "log").read_text()}
        yield Run(planted, captures, told, json.loads((folder / "received").read_text()), words, backend.requests)
    finally:
        for proxy in proxies.values():
            proxy.kill()
            proxy.communicate()
        backend.close()


def left_of(planted: dict[str, str], text: str) -> list[str]:
    """The places whose secret has a piece of 8 characters or more in the text."""
    return [
        place
        for place, secret in planted.items()
        if any(secret[start : start + 8] in text for start in range(len(secret) - 7))
    ]


def records_of(form: str, path: Path) -> list[tuple[str, str, Any]]:
    """Exchange, direction and payload of every record."""
    if form == "text":
        found = []
        for block in path.read_text().split("\n\n"):
            head, *lines = block.split("\n")
            facts = dict(word.split("=", 1) for word in " ".join(lines[:2]).split(" ") if "=" in word)
            payload = "\n".join(line[4:] for line in lines[2:] if line.startswith("    "))
            found.append((facts.get("exchange_id", ""), head, payload))
        return found
    records = list(read_records(path, on_damage=lambda *_: pytest.fail("damaged")))
    return [
        (
            str(record["metadata"].get("exchange_id")),
            str(record.get("direction") or record["communication"]["direction"]),
            record["payload"],
        )
        for record in records
    ]


def is_chunk(direction: str) -> bool:
    return direction.endswith("_chunk") or ("REPLY-STREAM" in direction)


def strings_in(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from strings_in(child, (*path, name))
    elif isinstance(node, list):
        for child in node:
            yield from strings_in(child, path)


def streams_of(form: str, path: Path) -> dict[str, dict[tuple[str, ...], str]]:
    """What the reader of each stream adds up: the strings of its events, joined by where they stand."""
    chunks: dict[str, str] = defaultdict(str)
    for exchange, direction, payload in records_of(form, path):
        if is_chunk(direction) and isinstance(payload, str):
            chunks[exchange] += payload
    made: dict[str, dict[tuple[str, ...], str]] = {}
    for exchange, text in chunks.items():
        parser = FrameReader("text/event-stream")
        texts = made[exchange] = defaultdict(str)
        for event in (*parser.feed(text.encode()), *parser.close()):
            if event.data != b"[DONE]" and event.data[:1] == b"{":
                value = json.loads(event.data)
                for where, said in strings_in(value):
                    texts[(str(value.get("type")), str(value.get("index")), *where)] += said
    return made


CAPTURES = (*FORMATS, "fastapi")


@pytest.mark.parametrize("form", CAPTURES)
def test_no_piece_of_a_secret_stands_in_any_file(run: Run, form: str) -> None:
    folder = run.captures[form].parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert left_of(run.planted, path.read_bytes().decode("latin-1")) == []
    for _, direction, payload in records_of(form, run.captures[form]):
        shown = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        assert (direction, left_of(run.planted, shown)) == (direction, [])


@pytest.mark.parametrize("form", CAPTURES)
def test_no_secret_that_was_split_comes_together_again(run: Run, form: str) -> None:
    streams = streams_of(form, run.captures[form])
    legs = 3 if form == "fastapi" else 2  # the client's own requests are captured there, too
    assert len(streams) == CALLS // 2 * legs
    for texts in streams.values():
        for where, text in texts.items():
            assert (where, left_of(run.planted, text)) == (where, [])
        said = "\n".join(texts.values())
        assert HARMLESS in said
        assert f"The key is {MARKER}, the password {MARKER}. Bye." in said
        assert f"I think of {MARKER} and go on." in said
        assert f"sign in with {MARKER} there" in said


@pytest.mark.parametrize("form", CAPTURES)
def test_both_legs_have_the_marker_and_all_that_is_no_secret(run: Run, form: str) -> None:
    records = records_of(form, run.captures[form])
    expected = {
        "asked": f"{HARMLESS} Use {MARKER} and {MARKER}, please.",
        "tool": f"Looks up. Sign in with {MARKER} first.",
        "answered": f"{HARMLESS} The key is {MARKER}, the password {MARKER}. Bye.",
    }
    count = dict.fromkeys(expected, 0)
    for _, direction, payload in records:
        shown = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        for name, words in expected.items():
            count[name] += words in shown and not is_chunk(direction)
    legs = 3 if form == "fastapi" else 2
    assert count["asked"] == count["tool"] == CALLS * legs
    assert count["answered"] >= CALLS // 2 * legs
    shown = run.captures[form].read_bytes()
    for name in (b"authorization", b"x-goog-api-key", b"x-team-token"):
        assert name in shown.lower()


@pytest.mark.parametrize("place", ["spans", "log", *FORMATS])
def test_no_piece_of_a_secret_stands_in_a_span_or_in_what_is_said(run: Run, place: str) -> None:
    assert left_of(run.planted, run.told[place]) == []
    if place == "spans":
        spans = [json.loads(line) for line in run.told["spans"].splitlines()]
        assert len(spans) >= CALLS * 3
        assert any("gen_ai.request.model" in span["attributes"] for span in spans)


@pytest.mark.parametrize("proxy", range(len(CAPTURES)))
def test_every_client_received_what_the_backend_said(run: Run, proxy: int) -> None:
    received = run.received[proxy]
    assert len(received) == CALLS
    for name, told in received.items():
        assert (name, told["text"]) == (name, run.words.text)
        assert json.loads(told["arguments"]) == json.loads(run.words.arguments)
        if not name.startswith("mistral"):  # whose SDK knows reasoning in another shape
            assert (name, told["thought"]) == (name, run.words.thought)


def test_the_backend_was_sent_what_the_clients_sent(run: Run) -> None:
    assert len(run.requests) == CALLS * len(CAPTURES)
    for headers, body in run.requests:
        assert run.planted["header"] in headers
        assert any(run.planted[name] in headers for name in NAMES)
        assert all(run.planted[place].encode() in body for place in ("prompt", "tool", "environment"))
