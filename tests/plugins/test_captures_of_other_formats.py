"""A provider whose format another distribution knows, in captures from either home of the writer."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from parley import ANSWER, EVENTS, distribution, imports_of

PROGRAM = """
import http.server, json, os, sys, threading
import httpx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import otel_wirecap

options = json.loads(sys.argv[1])


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        is_ours = self.path.endswith("/completions")
        events = options["chunks"] if is_ours else options["events"]
        body = b"".join(b"data: " + json.dumps(event).encode() + b"\\n\\n" for event in events)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
otel_wirecap.instrument(tracer_provider=provider, **options["settings"])
try:
    with httpx.Client(trust_env=False) as client:
        for path, question in options["questions"]:
            client.post(f"http://127.0.0.1:{server.server_port}{path}", json=question)
finally:
    otel_wirecap.uninstrument()
    server.shutdown()
spans = [dict(span.attributes) for span in exporter.get_finished_spans()]
has_dialects = "otel_wirecap.llm.dialects.registry" in sys.modules
print(json.dumps({"pid": os.getpid(), "has_dialects": has_dialects, "spans": spans}))
"""

CHUNK = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}


def environ(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder)}


def run(folder: Path, questions: list[tuple[str, Any]], **settings: Any) -> tuple[dict[str, Any], str]:
    """Captures the questions in a process of its own; what it says of itself, and what it logged."""
    options = {"questions": questions, "events": EVENTS, "chunks": [CHUNK], "settings": settings}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(options)], env=environ(folder), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def settings_for(tmp_path: Path, home: str, **more: Any) -> dict[str, Any]:
    return {"capture_file": str(tmp_path / "capture.log"), "capture_writer": home} | more


def records_in(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "capture.log").read_text().splitlines()]


@pytest.fixture(params=["process", "thread"])
def home(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_its_operation_its_tokens_and_its_message_are_known(tmp_path, home):
    folder = distribution(tmp_path / "site")
    question = {"question": "How are you?", "voice": "parley-2", "heat": 0.5}
    known, log = run(folder, [("/parley/talk", question)] * 2, **settings_for(tmp_path, home))
    assert log == ""
    for span in known["spans"]:
        assert span["gen_ai.operation.name"] == "chat"
        assert span["gen_ai.request.model"] == span["gen_ai.response.model"] == "parley-2"
        assert span["gen_ai.request.temperature"] == 0.5
        assert (span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) == (11, 3)
        assert span["gen_ai.response.finish_reasons"] == ("done",) or span["gen_ai.response.finish_reasons"] == ["done"]
        assert span["gen_ai.response.id"] == "t-1"
    assert len(known["spans"]) == 2
    messages = [record for record in records_in(tmp_path) if record["metadata"].get("assembled")]
    assert [record["payload"] for record in messages] == [ANSWER, ANSWER]
    assert {record["model"] for record in messages} == {"parley-2"}
    (session,) = {record["session_id"] for record in messages}
    assert session.startswith("conv_"), "both ask the same question"
    (imported_by,) = imports_of(folder)
    assert (imported_by == known["pid"]) == (home == "thread"), "the application does not import what its writer wants"

    listed = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "ls", "--json", "--no-index", str(tmp_path / "capture.log")],
        env=environ(folder), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    flows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(flow["usage"]["input"], flow["usage"]["output"]) for flow in flows] == [(11, 3)] * 2


def test_it_is_not_imported_as_long_as_there_is_no_traffic_of_its_own(tmp_path, home):
    folder = distribution(tmp_path / "site")
    chat = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    known, log = run(folder, [("/v1/chat/completions", chat)] * 2, **settings_for(tmp_path, home))
    assert log == ""
    assert [span["gen_ai.operation.name"] for span in known["spans"]] == ["chat"] * 2
    assert imports_of(folder) == []
    assert known["has_dialects"] == (home == "thread"), "what only the writer wants, the application does not load"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("raise ImportError", "importing it raised ImportError"),
        ("def add(self, event, size): raise KeyError(event)\nTalk.add = add", "add of its assembly raised KeyError"),
        ("Parley.operation = lambda self, path, body: 7", "operation gave an object of the type int"),
    ],
)
def test_one_that_fails_is_reported_once_in_the_application_s_log_and_all_is_captured(tmp_path, home, more, why):
    folder = distribution(tmp_path / "site", more=more)
    question = {"question": "How are you?"}
    _, log = run(folder, [("/parley/talk", question)] * 3, **settings_for(tmp_path, home))
    assert log.count("otel-wirecap: the dialect parley (parley_dialect:dialect) is not used: ") == 1, log
    assert why in log
    records = records_in(tmp_path)
    assert not [record for record in records if record["metadata"].get("assembled")]
    assert not [record for record in records if record["direction"] == "system_gap"]
    text = "".join(record["payload"] for record in records if record["direction"] == "stream_chunk")
    assert text.count("Good ") == 3


@pytest.mark.parametrize("more", ["", "raise ImportError", "Parley.assembly = lambda self, event: 1 / 0"])
def test_its_prompts_are_masked_whatever_it_says_and_however_it_fails(tmp_path, home, more):
    folder = distribution(tmp_path / "site", more=more)
    said = secrets.token_hex(12)
    settings = settings_for(tmp_path, home, capture_redact_prompts=True)
    run(folder, [("/parley/talk", {"question": said, "model": "parley-2"})], **settings)
    capture = (tmp_path / "capture.log").read_text()
    assert "parley-2" in capture
    assert said not in capture
    assert "evening" not in capture
