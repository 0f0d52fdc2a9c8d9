"""What gateways send answers, in tables as the Collector's ClickHouse exporter makes them, what the commands answer.

ClickHouse's engine is the package chDB, which is large: ``CHDB_PYTHON`` names an interpreter that has it.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fleet.md"
CHDB_PYTHON = os.environ.get("CHDB_PYTHON")
SECONDS = 120
COMMAND = [sys.executable, "-m", "otel_wirecap"]
LAUNCHER = str(Path(sys.executable).with_name("opentelemetry-instrument"))
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

pytestmark = pytest.mark.telemetry

SCRIPT = """
import os, httpx
for model in ("gpt-4o-mini", "limited", "gpt-4o-mini"):
    body = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "stream": model != "limited"}
    url = os.environ["FLEET_BACKEND"] + "/v1/chat/completions"
    httpx.post(url, json=body, headers={"x-session-id": "script"}, timeout=60)
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


class Backend(http.server.ThreadingHTTPServer):
    """Answers in four formats; the model says how."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.closes = threading.Event()


class Answering(http.server.BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        model = body.get("model", "gemini-2.5-flash")
        status, kind, told = 200, "application/json", ""
        if model == "hang":
            self.server.closes.wait(SECONDS)
            return
        if model in ERRORS:
            status, error = ERRORS[model]
            told = json.dumps({"error": {"message": "not now", "type": error}})
        elif body.get("stream"):
            kind, told = "text/event-stream", STREAM.replace("MODEL", model)
        else:
            told = ANSWERS[self.path.rpartition("/")[2].rpartition(":")[2]].replace("MODEL", model)
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *_: object) -> None:
        pass


ERRORS = {"limited": (429, "rate_limit_error"), "down": (503, "server_error")}
STREAM = (
    'data: {"object":"chat.completion.chunk","model":"MODEL-2024-07-18","choices":[{"index":0,"delta":{"content":"Hi"},'
    '"finish_reason":"stop"}]}\n\ndata: {"object":"chat.completion.chunk","model":"MODEL-2024-07-18","choices":[],'
    '"usage":{"prompt_tokens":30,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":10}}}\n\n'
    "data: [DONE]\n\n"
)
ANSWERS = {
    "completions": '{"object":"chat.completion","model":"MODEL-2024-07-18","choices":[{"index":0,"finish_reason":'
    '"stop","message":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":20,"completion_tokens":3}}',
    "messages": '{"type":"message","role":"assistant","model":"MODEL","content":[{"type":"text","text":"Hi"}],'
    '"stop_reason":"end_turn","usage":{"input_tokens":6,"cache_read_input_tokens":40,"cache_creation_input_tokens":0,'
    '"output_tokens":5}}',
    "responses": '{"object":"response","status":"completed","model":"MODEL","output":[{"type":"message","role":'
    '"assistant","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":7,"output_tokens":2}}',
    "generateContent": '{"modelVersion":"gemini-2.5-flash","candidates":[{"content":{"role":"model","parts":[{"text":'
    '"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":4}}',
}
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
CHAT = {
    "model": "gpt-4o-mini",
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}],
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
}
CLAUDE = {
    "model": "claude-sonnet-4-5", "max_tokens": 9, "tools": [{"name": "weather", "input_schema": TOOL}],
    "system": [{"type": "text", "text": "Be brief."}], "messages": [{"role": "user", "content": "Hello?"}],
}  # fmt: skip
RESPONSES = {"model": "gpt-4o-mini", "instructions": "Be brief.", "input": [{"role": "user", "content": "Hello?"}]}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [{"role": "user", "parts": [{"text": "Hello?"}]}],
}
FORMATS = {
    "/v1/chat/completions": (CHAT, "messages"), "/v1/messages": (CLAUDE, "messages"),
    "/v1/responses": (RESPONSES, "input"), "/v1beta/models/gemini-2.5-flash:generateContent": (GEMINI, "contents"),
}  # fmt: skip
SYSTEMS = {
    "messages": {"system": [{"type": "text", "text": "Be verbose."}]}, "input": {"instructions": "Be verbose."},
    "contents": {"systemInstruction": {"parts": [{"text": "Be verbose."}]}},
}  # fmt: skip


class Fleet:
    """Two gateways of two workers each, and a script: what they sent, and their captures.

    Args:
        folder: for the captures.
        stack: stops all that was started.
    """

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._bodies: list[dict[str, Any]] = []
        receiver, self._backend = Receiver(), Backend()
        for server in (receiver, self._backend):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        stack.callback(self._backend.closes.set)
        self.rows, self._collector = receiver.rows, f"http://127.0.0.1:{receiver.server_port}"
        self.captures = [folder / "0.log", folder / "1.log", folder / "2.log"]

    def environ(self, number: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
        return kept | {
            "FLEET_BACKEND": f"http://127.0.0.1:{self._backend.server_port}",
            "WIRE_CAPTURE_FILE": str(self.captures[number]), "WIRE_CAPTURE_SPAN_PAYLOADS": "logs",
            "OTEL_SERVICE_NAME": "gateway", "OTEL_RESOURCE_ATTRIBUTES": f"host.name=gateway-{number}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BLRP_SCHEDULE_DELAY": "100", "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx,asgi,fastapi,aiohttp-client",
        }  # fmt: skip

    def run_script(self) -> None:
        command = [LAUNCHER, sys.executable, "-c", SCRIPT]
        subprocess.run(command, env=self.environ(0), check=True, capture_output=True, timeout=SECONDS)

    def start_gateway(self, number: int) -> tuple[subprocess.Popen[bytes], str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [
            LAUNCHER, sys.executable, "-m", "uvicorn", "fleet_gateway:app", "--workers", "2", "--port", str(port),
            "--app-dir", str(Path(__file__).parent), "--log-level", "critical",
        ]  # fmt: skip
        process = subprocess.Popen(command, env=self.environ(number), stderr=subprocess.DEVNULL)
        self._stack.callback(stop, process)

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                return True
            return False

        wait_until(answers, SECONDS)
        return process, f"http://127.0.0.1:{port}"

    def sent(self, **wanted: str) -> list[dict[str, Any]]:
        """The log records' bodies that have these values, in themselves or in their metadata."""
        rows = self.rows["otel_logs"]
        while len(self._bodies) < len(rows):  # each is parsed once: those who send wait for this process
            self._bodies.append(json.loads(rows[len(self._bodies)]["Body"]))
        return [one for one in self._bodies if all(str((one["metadata"] | one).get(k)) == v for k, v in wanted.items())]

    def all_ended_are_sent(self, exchanges: int) -> bool:
        """Whether the records and the spans of so many exchanges that have ended are here."""
        ended = {one["metadata"]["exchange_id"] for one in self.sent() if "outcome" in one["metadata"]}
        spans = {row["SpanAttributes"].get("wirecap.exchange_id") for row in list(self.rows["otel_traces"])}
        return len(ended) == exchanges and ended <= spans


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # not killed: its workers would be left
    process.wait(SECONDS)


def ask(url: str, path: str, body: dict[str, Any], session: str, **how: Any) -> None:
    """A client's request; that its connection breaks is one of the ways in which it can end."""
    data, headers = json.dumps(body).encode(), {"x-session-id": session, "x-how": json.dumps(how)}
    request = urllib.request.Request(url + path, data, headers | {"content-type": "application/json"})
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        urllib.request.urlopen(request, timeout=SECONDS) as answer,
    ):
        answer.read()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        made = Fleet(tmp_path_factory.mktemp("fleet"), stack)
        made.run_script()
        gateways = [made.start_gateway(number) for number in (1, 2)]
        for number, (_, url) in enumerate(gateways):
            for path, (body, turns) in FORMATS.items():
                session = f"{turns} {path} {number}"
                more = {turns: [*body[turns], body[turns][-1] | {"role": "user"}]}
                ask(url, path, body, session)
                ask(url, path, body | more, session)
                ask(url, path, body | more | (SYSTEMS[turns] if body is not CHAT else {"tools": []}), session)
                ask(url, path, body | more, session, stamp=True)
            chat = next(iter(FORMATS))
            ask(url, chat, CHAT | {"stream": True}, "retried", models=["down", "gpt-4o-mini"])
            ask(url, chat, CHAT, "retried", models=["limited", "down"])
            ask(url, chat, CHAT, "retried", **{"break": True})
        url = gateways[1][1]
        waiting = ({"models": ["limited", "wait"]}, {"models": ["hang"]})
        threads = [
            threading.Thread(target=ask, args=(url, chat, CHAT, f"killed {number}"), kwargs=how)
            for number, how in enumerate(waiting)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: made.sent(session_id="killed 0", direction="inbound_response"), SECONDS)
        wait_until(lambda: made.sent(session_id="killed 1", direction="outbound_request"), SECONDS)
        # Of the script 3, of each format 8 a gateway, the retried ones 3 + 3 + 2, and one attempt of those that wait.
        wait_until(lambda: made.all_ended_are_sent(3 + 2 * (8 * len(FORMATS) + 8) + 1), SECONDS)
        for number in range(2):
            with contextlib.suppress(ProcessLookupError):  # one worker may have both
                os.kill(made.sent(session_id=f"killed {number}")[0]["metadata"]["pid"], signal.SIGKILL)
        for thread in threads:
            thread.join(SECONDS)
        for process, _ in gateways:
            process.send_signal(signal.SIGTERM)
        for process, _ in gateways:
            process.wait(SECONDS)
        wait_until(lambda: commands("verify", *map(str, made.captures), code=1)[-1]["running"] == 0, SECONDS)
        hours = 3600  # as if the queries were asked an hour later: no process runs any more
        for rows in made.rows.values():
            for row in rows:
                row["Timestamp"] -= hours
        yield made


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_record_of_every_process_is_sent_with_where_it_is_from(fleet):
    for number, path in enumerate(fleet.captures):
        rows = [row for row in fleet.rows["otel_logs"] if row["ResourceAttributes"]["host.name"] == f"gateway-{number}"]
        sent = {(row["LogAttributes"]["wirecap.process"], row["LogAttributes"]["wirecap.seq"]): row for row in rows}
        for record in records_of(path):
            metadata = record["metadata"]
            row = sent.get((metadata["process"], str(metadata["seq"])))
            if row is None:  # what the file has got after a process was gone, or when it was about to be
                assert record["direction"].startswith("system_") or metadata["outcome"] == "abandoned"
                continue
            assert json.loads(row["Body"]) == record
            assert row["EventName"] == f"wirecap.{record['direction']}"
            assert row["TraceId"] == metadata.get("trace_id", "")
        assert rows


VIEW, MISSING, NUMBERS, FAILED, CACHE, SAID = range(6)


@pytest.fixture(scope="module")
def answers(fleet, tmp_path_factory) -> list[list[dict[str, Any]]]:
    """What the queries of the page answer."""
    if CHDB_PYTHON is None:
        pytest.skip("CHDB_PYTHON names no interpreter that has chDB")
    queries = [*QUERIES]
    queries[NUMBERS] = re.sub(r"\[\('gpt-.*\] AS prices", f"{prices()} AS prices", queries[NUMBERS])
    flow = fleet.sent(session_id="retried", direction="stream_start")[0]["metadata"]["request_id"]
    queries[SAID] = queries[SAID].replace("{flow:String}", f"'{flow}'")
    return asked(tmp_path_factory.mktemp("chdb"), fleet.rows, queries)


def prices() -> list[tuple[str | float, ...]]:
    """The prices of two models in the installed table, as the query wants them."""
    import genai_prices

    def dollars(model: str, **tokens: int) -> float:
        usage = genai_prices.Usage(**{f"{name}_tokens": count for name, count in tokens.items()})
        return round(float(genai_prices.calc_price(usage, model).total_price) * 1000, 9)

    kinds = [
        {"input": 1000},
        {"input": 1000, "cache_read": 1000},
        {"input": 1000, "cache_write": 1000},
        {"output": 1000},
    ]
    return [(model, *(dollars(model, **kind) for kind in kinds)) for model in ("gpt-4o-mini", "claude-sonnet-4-5")]


def test_what_is_missing_and_how_processes_ended_is_as_the_captures_have_it(fleet, answers):
    processes = defaultdict(list)
    for path in fleet.captures:
        for record in records_of(path):
            processes[record["metadata"]["process"]].append(record)
    killed = {one["metadata"]["process"] for one in fleet.sent(session_id="killed 1")}
    sent = {row["process"]: row for row in answers[MISSING]}
    assert killed <= sent.keys() <= processes.keys()
    for process, records in processes.items():
        directions = [record["direction"] for record in records]
        row = sent.get(process)
        if row is None:
            assert "system_stop" not in directions or len(records) == 2  # no request has come to it
            continue
        assert (row["first"], row["missing"], row["gaps"]) == (1, 0, 0)
        if row["ended"] == "stopped":
            assert row["last"] == len(records)
            assert directions[-1] == "system_stop"
        else:
            assert row["ended"] == "unknown"
            unsent = [one for one in records if one["metadata"]["seq"] > row["last"]]
            assert unsent
            assert all(one["metadata"].get("outcome", "abandoned") == "abandoned" for one in unsent)
    assert all(sent[process]["ended"] == "unknown" for process in killed)
    (script,) = {record["metadata"]["process"] for record in records_of(fleet.captures[0])}
    assert sent[script]["ended"] == "stopped"


def test_an_item_that_was_lost_on_its_way_is_missed(fleet, answers, tmp_path):
    less = {**fleet.rows, "otel_logs": [*fleet.rows["otel_logs"][:4], *fleet.rows["otel_logs"][6:]]}
    found = asked(tmp_path, less, QUERIES[: MISSING + 1])[MISSING]
    assert sum(row["missing"] for row in found) == 2
    assert sum(row["missing"] for row in answers[MISSING]) == 0


def test_numbers_are_those_of_stats_and_of_sql(fleet, answers, tmp_path):
    pytest.importorskip("duckdb")
    captures = [*map(str, fleet.captures)]
    rows = {(row["backend"], row["model"]): row for row in answers[NUMBERS]}
    query = (
        "SELECT backend, coalesce(answered_model, requested_model) AS model, count(*) AS attempts, "
        "count(*) FILTER (failed) AS failed, coalesce(sum(input_tokens), 0) AS input_tokens, "
        "coalesce(sum(cached_tokens), 0) AS cached_tokens, coalesce(sum(output_tokens), 0) AS output_tokens, "
        "sum(cost) AS cost FROM exchanges WHERE leg = 'backend' GROUP BY ALL"
    )
    found = {(row["backend"], row["model"]): row for row in commands("sql", query, *captures)}
    assert {model for _, model in rows} >= {"limited", "down", "hang", "gpt-4o-mini-2024-07-18"}
    names = ("attempts", "failed", "input_tokens", "cached_tokens", "output_tokens")
    assert {key: [row[name] for name in names] for key, row in rows.items()} == {
        key: [row[name] for name in names] for key, row in found.items()
    }
    for (backend, model), row in rows.items():
        if model.startswith(("gpt-4o-mini", "claude")):
            assert row["unpriced"] == 0
            assert row["cost"] == pytest.approx(found[backend, model]["cost"])
        else:
            assert row["cost"] == 0
    for group in command("stats", "--by", "backend", *captures)["by"]["backend"]:
        mine = [row for row in rows.values() if row["backend"] == group["backend"]]
        told = [sum(row[name] for row in mine) for name in names]
        usage = group["usage"]
        assert told == [group["attempts"], group["failed"], usage["input"], usage["cached"], usage["output"]]


def test_what_failed_is_what_failed_for_its_client(fleet, answers):
    listed = commands("ls", "--failed", *map(str, fleet.captures))
    told = {
        row["flow"]: (row["client_status"] or None, row["client_outcome"], row["reason"], row["session"])
        for row in answers[FAILED]
    }
    assert told == {
        one["request_id"]: (one["status"], one["outcome"], one["error"], one["session_id"]) for one in listed
    }
    statuses = {one["request_id"]: [each["status"] or 0 for each in one["exchanges"][1:]] for one in listed}
    clients = {one["request_id"] for one in listed if one["exchanges"][0]["leg"] == "client"}
    assert {row["flow"]: row["statuses"] for row in answers[FAILED] if row["flow"] in clients} == {
        flow: found for flow, found in statuses.items() if flow in clients
    }
    assert sorted(row["client_outcome"] for row in answers[FAILED]).count("abandoned") == 2


def test_who_broke_the_cache_is_what_the_command_says(fleet, answers):
    sessions = {record["session_id"] for path in fleet.captures for record in records_of(path)} - {None}
    found = [one for name in sessions for one in commands("cache", name, *map(str, fleet.captures), code=None)]
    steps = {one["request_id"]: one for one in found if one["verdict"] != "first"}
    told = {row["flow"]: row for row in answers[CACHE]}
    assert told.keys() == steps.keys()
    for flow, step in steps.items():
        row = told[flow]
        assert row["compared_with"] == step["compared_with"]
        for leg in ("client", "backend"):
            changed, path = row[f"{leg}_changed"], (step[leg] or {}).get("path", "")
            assert path.startswith(changed), (flow, leg, changed, path)
            assert bool(path) == bool(changed), (flow, leg, changed, path)
    stamped = [step for step in steps.values() if step["verdict"] == "proxy"]
    assert len(stamped) >= 2 * len(FORMATS)


def test_what_was_said_is_a_capture(fleet, answers, tmp_path):
    lines = "".join(row["Body"] + "\n" for row in answers[SAID])
    (tmp_path / "said.log").write_text(lines)
    flow = json.loads(answers[SAID][0]["Body"])["metadata"]["request_id"]
    records = [one for path in fleet.captures for one in records_of(path) if one["metadata"].get("request_id") == flow]
    assert [json.loads(line) for line in lines.splitlines()] == records
    shown = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "show", flow, str(tmp_path / "said.log")],
        check=True, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    assert b"Be brief." in shown.stdout


def asked(folder: Path, rows: dict[str, list[dict[str, Any]]], queries: list[str]) -> list[list[dict[str, Any]]]:
    paths = {}
    for table, lines in rows.items():
        paths[table] = str(folder / f"{table}.json")
        Path(paths[table]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = json.dumps({"tables": TABLES, "rows": paths, "queries": queries})
    assert CHDB_PYTHON is not None
    done = subprocess.run([CHDB_PYTHON, "-c", ENGINE], input=told, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_int=int)


def commands(*arguments: str, code: int | None = 0) -> list[dict[str, Any]]:
    done = subprocess.run([*COMMAND, *arguments, "--json"], capture_output=True, timeout=SECONDS)
    assert code is None or done.returncode == code, done.stderr
    return [json.loads(one) for one in done.stdout.splitlines()]


def command(*arguments: str) -> dict[str, Any]:
    (told,) = commands(*arguments)
    return told
