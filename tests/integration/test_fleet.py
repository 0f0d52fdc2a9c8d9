"""What gateways send answers, in tables as the Collector's ClickHouse exporter makes them, what the commands answer.

ClickHouse's engine is the package chDB, which is large: ``CHDB_PYTHON`` names an interpreter that has it.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fleet.md"
CHDB_PYTHON = os.environ.get("CHDB_PYTHON")
SECONDS = 120

pytestmark = pytest.mark.telemetry

SCRIPT = """
import os, httpx
url = os.environ["BACKEND"] + "/v1/chat/completions"
def ask(model, messages, stream=False):
    body = {"model": model, "messages": messages, "stream": stream}
    return httpx.post(url, json=body, headers={"x-session-id": "agent"}, timeout=60)
first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
ask("demo-small", first)
ask("demo-small", [*first, {"role": "user", "content": "And now?"}], stream=True)
ask("demo-small", [{"role": "system", "content": "Be verbose."}, *first[1:], {"role": "user", "content": "Well?"}])
ask("demo-rate-limited", first)
"""

TABLES = """
CREATE TABLE otel_logs (Timestamp DateTime64(9), TraceId String, SpanId String, TraceFlags UInt8,
    SeverityText LowCardinality(String), SeverityNumber UInt8, ServiceName LowCardinality(String), Body String,
    ResourceSchemaUrl LowCardinality(String), ResourceAttributes Map(LowCardinality(String), String),
    ScopeSchemaUrl LowCardinality(String), ScopeName String, ScopeVersion LowCardinality(String),
    ScopeAttributes Map(LowCardinality(String), String), LogAttributes Map(LowCardinality(String), String),
    EventName String) ENGINE = MergeTree ORDER BY (ServiceName, Timestamp);
CREATE TABLE otel_traces (Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String,
    TraceState String, SpanName LowCardinality(String), SpanKind LowCardinality(String),
    ServiceName LowCardinality(String), ResourceAttributes Map(LowCardinality(String), String), ScopeName String,
    ScopeVersion String, SpanAttributes Map(LowCardinality(String), String), Duration UInt64,
    StatusCode LowCardinality(String), StatusMessage String) ENGINE = MergeTree ORDER BY (ServiceName, Timestamp);
"""

ENGINE = """
import json, sys
from chdb import session
told = json.load(sys.stdin)
with session.Session() as engine:
    engine.query("CREATE DATABASE fleet")
    engine.query("USE fleet")
    for statement in told["tables"].split(";"):
        if statement.strip():
            engine.query(statement)
    for table, path in told["rows"].items():
        engine.query(f"INSERT INTO {table} SELECT * FROM file('{path}', JSONEachRow)")
    answers = []
    for query in told["queries"]:
        answers.append([json.loads(line) for line in str(engine.query(query, "JSONEachRow")).splitlines() if line])
print(json.dumps(answers))
"""


class Receiver(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP, by the official messages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.rows: dict[str, list[dict[str, Any]]] = {"otel_logs": [], "otel_traces": []}


class Taking(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        import gzip

        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        rows = self.server.rows
        if self.path == "/v1/logs":
            rows["otel_logs"] += log_rows(ExportLogsServiceRequest.FromString(data))
        elif self.path == "/v1/traces":
            rows["otel_traces"] += span_rows(ExportTraceServiceRequest.FromString(data))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


# The exporter's columns: https://github.com/open-telemetry/opentelemetry-collector-contrib, exporter/clickhouseexporter


def log_rows(request: Any) -> Iterator[dict[str, Any]]:
    for resource in request.resource_logs:
        known = attributes(resource.resource.attributes)
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield {
                    "Timestamp": record.time_unix_nano / 1e9, "TraceId": record.trace_id.hex(),
                    "SpanId": record.span_id.hex(), "TraceFlags": record.flags & 255,
                    "SeverityText": record.severity_text, "SeverityNumber": record.severity_number,
                    "ServiceName": known.get("service.name", ""), "Body": text(record.body),
                    "ResourceSchemaUrl": resource.schema_url, "ResourceAttributes": known,
                    "ScopeSchemaUrl": scope.schema_url, "ScopeName": scope.scope.name,
                    "ScopeVersion": scope.scope.version, "ScopeAttributes": attributes(scope.scope.attributes),
                    "LogAttributes": attributes(record.attributes), "EventName": record.event_name,
                }  # fmt: skip


def span_rows(request: Any) -> Iterator[dict[str, Any]]:
    kinds = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
    for resource in request.resource_spans:
        known = attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "Timestamp": span.start_time_unix_nano / 1e9, "TraceId": span.trace_id.hex(),
                    "SpanId": span.span_id.hex(), "ParentSpanId": span.parent_span_id.hex(),
                    "TraceState": span.trace_state, "SpanName": span.name, "SpanKind": kinds[span.kind],
                    "ServiceName": known.get("service.name", ""), "ResourceAttributes": known,
                    "ScopeName": scope.scope.name, "ScopeVersion": scope.scope.version,
                    "SpanAttributes": attributes(span.attributes),
                    "Duration": span.end_time_unix_nano - span.start_time_unix_nano,
                    "StatusCode": ("Unset", "Ok", "Error")[span.status.code], "StatusMessage": span.status.message,
                }  # fmt: skip


def attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: text(pair.value) for pair in pairs}


def text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return json.dumps([text(one) for one in value.array_value.values])
    return "" if kind is None else str(getattr(value, kind))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """The capture of one gateway of two, and what both sent."""
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        receiver = Receiver()
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        backend = stack.enter_context(demo_backend())
        for number in (1, 2):
            environ = {
                name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))
            } | {
                "BACKEND": backend, "WIRE_CAPTURE_FILE": str(folder / f"{number}.log"),
                "WIRE_CAPTURE_SPAN_PAYLOADS": "logs", "OTEL_SERVICE_NAME": "gateway",
                "OTEL_RESOURCE_ATTRIBUTES": f"host.name=gateway-{number}",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none",
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx,asgi,fastapi,aiohttp-client",
            }  # fmt: skip
            command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", SCRIPT]
            subprocess.run(command, env=environ, check=True, capture_output=True, timeout=SECONDS)
        return folder / "1.log", receiver.rows


@contextlib.contextmanager
def demo_backend() -> Iterator[str]:
    import uvicorn

    from otel_wirecap.proxy.demo_backend import create_demo_backend

    server = uvicorn.Server(uvicorn.Config(create_demo_backend(), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_record_of_every_gateway_is_sent_with_where_it_is_from(fleet):
    path, rows = fleet
    sent = [row for row in rows["otel_logs"] if row["ResourceAttributes"]["host.name"] == "gateway-1"]
    records = records_of(path)
    assert [json.loads(row["Body"]) for row in sent] == records
    for row, record in zip(sent, records, strict=True):
        assert row["LogAttributes"]["wirecap.seq"] == str(record["metadata"]["seq"])
        assert row["LogAttributes"]["wirecap.process"] == record["metadata"]["process"]
        assert row["EventName"] == f"wirecap.{record['direction']}"
        assert row["TraceId"] == record["metadata"].get("trace_id", "")
    assert {row["ResourceAttributes"]["host.name"] for row in rows["otel_logs"]} == {"gateway-1", "gateway-2"}


@pytest.mark.skipif(CHDB_PYTHON is None, reason="CHDB_PYTHON names no interpreter that has chDB")
def test_the_queries_of_the_guide_answer_what_the_commands_answer(fleet, tmp_path):
    path, rows = fleet
    missing, numbers, failed, cache, said = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    records = records_of(path)
    flow = next(record["metadata"]["request_id"] for record in records if record["direction"] == "stream_start")
    said = said.replace("{flow:String}", f"'{flow}'")
    answers = ask(tmp_path, rows, [missing, numbers, failed, cache, said])

    assert [row["missing"] for row in answers[0]] == [0, 0]
    assert {row["host"] for row in answers[0]} == {"gateway-1", "gateway-2"}
    assert all(row["first"] == 1 and row["stopped"] for row in answers[0])
    last = {row["process"]: row["last"] for row in answers[0]}
    assert last[records[0]["metadata"]["process"]] == len(records)

    captures = [str(path), str(path.with_name("2.log"))]
    told = command("stats", "--by", "model", *captures)
    assert sum(row["attempts"] for row in answers[1]) == told["attempts"] == 8
    assert sum(row["failed"] for row in answers[1]) == told["failed"] == 2
    for name in ("input", "output", "cached"):
        assert sum(row[f"{name}_tokens"] for row in answers[1]) == told["usage"][name]

    listed = commands("ls", "--failed", *captures)
    assert {row["flow"] for row in answers[2]} == {flow["request_id"] for flow in listed}
    assert {tuple(row["statuses"]) for row in answers[2]} == {("429",)}

    changed = [row["first_changed"] for row in answers[3] if row["session"] == "agent"]
    assert changed.count(1) >= 2  # the third request of each gateway, and the one after it, begin otherwise
    assert changed.count(0) >= 2  # the second one only adds

    lines = "".join(row["Body"] + "\n" for row in answers[4])
    (tmp_path / "said.log").write_text(lines)
    assert [json.loads(line) for line in lines.splitlines()] == [
        record for record in records if record["metadata"].get("request_id") == flow
    ]
    shown = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "show", flow, str(tmp_path / "said.log")],
        check=True, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert b"Be brief." in shown.stdout


@pytest.mark.skipif(CHDB_PYTHON is None, reason="CHDB_PYTHON names no interpreter that has chDB")
def test_an_item_that_was_lost_on_its_way_is_missed(fleet, tmp_path):
    _, rows = fleet
    missing = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    less = {**rows, "otel_logs": [*rows["otel_logs"][:4], *rows["otel_logs"][6:]]}
    (answer,) = ask(tmp_path, less, [missing])
    assert [row["missing"] for row in answer] == [2, 0]


def ask(folder: Path, rows: dict[str, list[dict[str, Any]]], queries: list[str]) -> list[list[dict[str, Any]]]:
    paths = {}
    for table, lines in rows.items():
        paths[table] = str(folder / f"{table}.json")
        Path(paths[table]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = json.dumps({"tables": TABLES, "rows": paths, "queries": queries})
    assert CHDB_PYTHON is not None
    done = subprocess.run([CHDB_PYTHON, "-c", ENGINE], input=told, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_int=int)


def commands(*arguments: str) -> list[dict[str, Any]]:
    line = [sys.executable, "-m", "otel_wirecap", *arguments, "--json", "--no-index"]
    done = subprocess.run(line, check=True, capture_output=True, timeout=SECONDS)
    return [json.loads(one) for one in done.stdout.splitlines()]


def command(*arguments: str) -> dict[str, Any]:
    (told,) = commands(*arguments)
    return told
