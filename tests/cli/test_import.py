"""What a process told collectors becomes a capture again, record by record."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_wirecap

FACTS = ("seq", "process", "pid", "imported")


class Sent:
    """What a process sent, as OTLP in JSON, and its capture."""

    def __init__(self, capture: Path, spans: list[str], logs: list[str]) -> None:
        self.capture, self.spans, self.logs = capture, spans, logs


def send(folder: Path, *, wanted: str, answer: bytes) -> Sent:
    import httpx

    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracing, logging = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    logging.add_log_record_processor(SimpleLogRecordProcessor(logs))
    capture = folder / "first.log"
    otel_wirecap.instrument(
        capture_file=capture, tracer_provider=tracing, logger_provider=logging, capture_span_payloads=wanted
    )
    # No network is needed for what is tested here: which records telemetry carries, and what is made of them.
    transport = httpx.MockTransport(
        lambda _request: httpx.Response(200, content=answer, headers={"content-type": "text/event-stream"})
    )
    try:
        with httpx.Client(transport=transport) as client:
            for number in range(3):
                body = {"model": "m", "messages": [{"role": "user", "content": f"turn {number}"}]}
                client.post("https://api.openai.com/v1/chat/completions", json=body)
    finally:
        otel_wirecap.uninstrument()

    def text(message: Any) -> str:
        return " ".join(MessageToJson(message).split("\n"))

    return Sent(
        capture,
        [text(encode_spans([span])) for span in spans.get_finished_spans()],
        [text(encode_logs([one])) for one in logs.get_finished_logs()],
    )


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [sys.executable, "-m", "otel_wirecap", *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


def exchanges(path: Path) -> list[dict[str, Any]]:
    """The records of exchanges, less what numbers them."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = [record for record in records if not record["direction"].startswith("system_")]
    for record in found:
        for name in FACTS:
            record["metadata"].pop(name, None)
    return found


EVENTS = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"word %d"}}]}\n\n' % n for n in range(5))


@pytest.mark.parametrize("wanted", ["events", "logs", "both"])
@pytest.mark.parametrize("form", ["a line each", "one document"])
@pytest.mark.sampled(1, rest="thorough")
def test_the_records_are_those_of_the_capture_that_they_are_from(wanted, form, tmp_path):
    sent = send(tmp_path, wanted=wanted, answer=EVENTS)
    documents = [*sent.spans, *sent.logs]
    path, made = tmp_path / "otlp.json", tmp_path / "made.log"
    if form == "a line each":
        path.write_text("\n".join(documents) + "\n")
    else:
        whole: dict[str, list[Any]] = {"resourceSpans": [], "resourceLogs": []}
        for document in map(json.loads, documents):
            for name, items in document.items():
                whole[name] += items
        path.write_text(json.dumps(whole, indent=2))
    done = run("import", path, "-o", made)
    assert done.returncode == 0, done.stderr
    expected = exchanges(sent.capture)
    by_exchange = sorted(exchanges(made), key=lambda record: expected.index(record) if record in expected else -1)
    assert by_exchange == expected
    assert f"{len(expected)} records" in done.stderr
    assert run("verify", made).returncode == 0
    assert run("ls", "--json", made).stdout.count("\n") == 3


def test_records_that_were_cut_are_told_with_the_capture_that_has_them_whole(tmp_path):
    sent = send(tmp_path, wanted="logs", answer=b"data: %s\n\n" % (b"word " * 30_000))
    path = tmp_path / "otlp.json"
    path.write_text("\n".join(sent.logs))
    done = run("import", path, "-o", tmp_path / "made.log")
    assert done.returncode == 0
    assert f"whole in {sent.capture}" in done.stderr


def test_a_secret_that_telemetry_carried_does_not_go_into_the_capture(tmp_path):
    secret = "sk-proj-" + secrets.token_hex(24)
    sent = send(tmp_path, wanted="logs", answer=EVENTS)
    path = tmp_path / "otlp.json"
    path.write_text("\n".join(sent.logs).replace("word 1", f"word {secret}"))
    assert secret in path.read_text()
    assert run("import", path, "-o", tmp_path / "made.log").returncode == 0
    assert secret not in (tmp_path / "made.log").read_text()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Dear diary", "is no OTLP in JSON"), ('{"a": 1}', "no OTLP; expected resourceSpans"), ("[1]", "no OTLP"),
        ('{"resourceSpans": []}\n{half', "line 2: no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_otlp_is_told_in_a_sentence(content, told, tmp_path):
    path = tmp_path / "otlp.json"
    path.write_text(content)
    done = run("import", path, "-o", tmp_path / "made.log")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert told in line
    missing = run("import", tmp_path / "missing.json", "-o", tmp_path / "made.log")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "made.log").exists()


def test_telemetry_without_payloads_is_told(tmp_path):
    sent = send(tmp_path, wanted="off", answer=EVENTS)
    path = tmp_path / "otlp.json"
    path.write_text("\n".join(sent.spans))
    done = run("import", path, "-o", tmp_path / "made.log")
    assert done.returncode == 1
    assert "was capture_span_payloads on?" in done.stderr
