"""Every command that reads captures answers on one that another tool wrote: no exchange ids, directions of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

START = 1_767_225_600.0
PAUSE = 1.5
WORDS = ("Every ", "byte ", "arrives.")
SESSION = "cline-7f3a"
MODEL = "qwen3-coder-plus"


class Writer:
    """Writes records in the shape that such a tool gives them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.now = START

    def record(self, direction: str, backend: str, payload: Any, *, wait: float = 0.01, **metadata: Any) -> None:
        self.now += wait
        record = {
            "timestamp_iso": datetime.fromtimestamp(self.now, UTC).isoformat(), "timestamp_unix": self.now,
            "direction": direction, "source": "127.0.0.1(Cline/1.0)", "destination": backend,
            "session_id": None if direction == "system_init" else SESSION, "backend": backend, "model": MODEL,
            "key_name": "primary", "content_type": "json", "content_length": len(str(payload)), "payload": payload,
            "metadata": {"client_host": "127.0.0.1", "user_agent": "Cline/1.0", "request_id": None, **metadata},
        }  # fmt: skip
        self.lines.append(orjson.dumps(record) + b"\n")

    def chunks(self, name: str, *, pause: float = 0.0) -> Iterator[None]:
        events = [
            {"object": "chat.completion.chunk", "model": MODEL, "choices": [{"index": 0, "delta": {"content": word}}]}
            for word in WORDS
        ]
        texts = [f"data: {orjson.dumps(event).decode()}\n\n" for event in events]
        self.record(f"{name}_start", "qwen", {"stream_type": "openai"})
        yield
        for number, text in enumerate(texts, 1):
            wait = pause if number == 2 and pause else 0.01
            self.record(f"{name}_chunk", "qwen", text, wait=wait, chunk_number=number, chunk_bytes=len(text))
            yield
        self.record(f"{name}_end", "qwen", {"total_bytes": sum(map(len, texts)), "total_chunks": len(texts)})


def both(body: Any) -> dict[str, Any]:
    text = orjson.dumps(body).decode()
    return {"parsed": body, "raw": {"length": len(text), "preview": text[:20], "truncated": True}}


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A streamed flow that the proxy put a parameter into, and one that failed and was passed on."""
    writer = Writer()
    writer.record("system_init", "system", {"version": 1})
    turns: list[dict[str, str]] = []
    for number in range(2):
        turns.append({"role": "user", "content": f"turn {number}"})
        asked = {"model": MODEL, "messages": list(turns), "stream": number == 0}
        writer.record("inbound_request", "client", both(asked), method="POST", url="/v1/chat/completions")
        writer.record("outbound_request", "qwen", both(asked | {"temperature": 0.5}), method="POST", url="http://b/v1")
        if number == 0:
            inner, outer = writer.chunks("stream", pause=PAUSE), writer.chunks("outbound_stream")
            for _ in inner:
                next(outer, None)
            for _ in outer:
                pass
            usage = {"prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43}
            writer.record("stream_completion", "qwen", {}, canonical_usage=usage)
        else:
            error = {"error": {"type": "insufficient_quota", "message": "Quota exceeded"}}
            writer.record("inbound_response", "qwen", both(error), status_code=429)
            writer.record("outbound_response", "client", both(error), status_code=429)
    path = tmp_path_factory.mktemp("origin") / "origin.log"
    path.write_bytes(b"".join(writer.lines))
    return path


@pytest.fixture
def run(origin, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        base = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
        known = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUTF8": "1"}
        line = [sys.executable, "-m", "otel_wirecap", command, *arguments, str(origin)]
        done = subprocess.run(line, env=base | known, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr
        return done

    return call


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.stdout, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_ls_tells_its_flows_with_statuses_and_tokens(run):
    streamed, failed = documents(run("ls", "--json"))
    assert (streamed["chunks"], streamed["usage"]["input"], streamed["usage"]["output"]) == (3, 40, 3)
    assert (streamed["outcome"], streamed["error"]) == ("complete", None)
    assert (failed["status"], failed["error"]) == (429, "insufficient_quota")
    assert [leg["leg"] for leg in failed["exchanges"]] == ["client", "backend"]
    assert "qwen 429" in run("ls").stdout


@pytest.mark.thorough
def test_show_tells_a_request_and_the_message_of_a_stream(run):
    streamed, failed = documents(run("ls", "--json"))
    page = run("show", streamed["request_id"]).stdout
    assert '"turn 0"' in page
    assert "proxy → qwen, attempt 1" in page
    assert '"insufficient_quota"' in run("show", failed["request_id"]).stdout
    raw = run("show", streamed["request_id"], "--raw", "response").stdout
    assert raw.count("data: ") == len(WORDS)


@pytest.mark.thorough
def test_diff_tells_what_the_proxy_put_in(run):
    streamed, _ = documents(run("ls", "--json"))
    done = run("diff", streamed["request_id"], "--json")
    assert done.returncode == 1
    told = str(documents(done))
    assert "temperature" in told
    assert "messages" not in told.replace("/v1/messages", "")


@pytest.mark.thorough
def test_tail_gives_its_last_events_and_its_flows(run):
    assert [one["direction"] for one in documents(run("tail", "--json", "-n", "2"))] == [
        "inbound_response", "outbound_response",
    ]  # fmt: skip
    flows = documents(run("tail", "--flows", "--json", "-n", "1000"))
    assert [flow["request_id"] for flow in flows] == [flow["request_id"] for flow in documents(run("ls", "--json"))]
    assert "system_init" in run("tail", "-n", "1000").stdout


def test_timeline_tells_where_its_stream_stood_still(run):
    streamed, failed = documents(run("timeline", "--json", SESSION))
    for lane in streamed["lanes"]:
        (stall,) = lane["stalls"]
        assert (stall["after_chunk"], stall["arose"]) == (1, "backend")
        assert stall["ms"] == pytest.approx(PAUSE * 1000, abs=50)
    assert [lane["status"] for lane in failed["lanes"]] == [429, 429]
    assert "stalled" in run("timeline", SESSION).stdout


def test_cache_compares_its_prompts(run):
    first, second = documents(run("cache", "--json", SESSION))
    assert (first["verdict"], second["compared_with"]) == ("first", first["request_id"])


@pytest.mark.thorough
def test_stats_adds_up_its_tokens_and_errors_and_measures_its_gaps(run):
    (told,) = documents(run("stats", "--json"))
    assert (told["requests"], told["attempts"], told["failed"]) == (2, 2, 1)
    assert told["client_errors"] == {"insufficient_quota": 1}
    assert (told["usage"]["input"], told["usage"]["output"]) == (40, 3)
    assert told["backend_gap_ms"]["max"] == pytest.approx(PAUSE * 1000, abs=50)
    assert told["client_gap_ms"]["count"] == len(WORDS) - 1


def test_verify_finds_it_whole_and_says_that_it_has_no_numbers(run, origin, tmp_path):
    done = run("verify")
    assert (done.returncode, done.stdout) == (0, "")
    assert "have no number" in done.stderr
    lines = origin.read_bytes().splitlines(keepends=True)
    chunk = next(number for number, line in enumerate(lines) if b'"stream_chunk"' in line)
    (tmp_path / "less.log").write_bytes(b"".join([*lines[:chunk], *lines[chunk + 1 :]]))
    less = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "verify", str(tmp_path / "less.log")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert less.returncode == 1
    assert "chunk" in less.stdout


@pytest.mark.thorough
def test_export_makes_an_archive_and_a_capture_of_our_own_shape_of_it(run, tmp_path):
    archive = orjson.loads(run("export", "--to", "har").stdout)
    statuses = [entry["response"]["status"] for entry in archive["log"]["entries"]]
    assert statuses.count(429) == 2
    assert len(statuses) == 4
    records = documents(run("export", "--to", "jsonl"))
    fields = [
        "timestamp_iso", "timestamp_unix", "direction", "source", "destination", "session_id", "backend", "model",
        "key_name", "content_type", "content_length", "payload", "metadata",
    ]  # fmt: skip
    assert all(list(record) == fields for record in records)
    (tmp_path / "ours.log").write_text(run("export", "--to", "jsonl").stdout)
    again = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "ls", "--json", str(tmp_path / "ours.log")],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    told = [(flow["request_id"], flow["error"], flow["usage"]) for flow in documents(again)]
    assert told == [(flow["request_id"], flow["error"], flow["usage"]) for flow in documents(run("ls", "--json"))]
