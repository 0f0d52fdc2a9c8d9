"""Collectors on loopback that take OTLP: gRPC by the official services, HTTP by the official messages."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

GRPC, HTTP = "grpc", "http/protobuf"
OURS = "otel_wirecap"


class Item(NamedTuple):
    """A span or a log record, with what stands around it."""

    resource: dict[str, Any]
    scope: Any
    schema_url: str
    it: Any

    @property
    def attributes(self) -> dict[str, Any]:
        return values(self.it.attributes)


class Received:
    """What a collector got.

    Attributes:
        data: every message as it came, content-decoded, and its headers.
        spans, logs: what was in them.
        metrics: the names of metrics.
        endpoint: where the collector is; empty where it is none yet.
    """

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.spans: list[Item] = []
        self.logs: list[Item] = []
        self.metrics: set[str] = set()
        self.endpoint = ""

    def our_spans(self) -> list[Item]:
        return [item for item in self.spans if item.scope.name == OURS]

    def our_logs(self) -> list[Item]:
        return [item for item in self.logs if item.scope.name == OURS]

    def take(self, request: Any, raw: bytes, headers: Any) -> None:
        self.data += [raw, repr(headers).encode()]
        for resource in getattr(request, "resource_spans", ()):
            self.spans += items(resource, resource.scope_spans, "spans")
        for resource in getattr(request, "resource_logs", ()):
            self.logs += items(resource, resource.scope_logs, "log_records")
        for resource in getattr(request, "resource_metrics", ()):
            self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}

    def records_in_events(self) -> list[ToldRecord]:
        """What spans carry of the capture, by the records' numbers."""
        told = []
        for span in self.our_spans():
            for event in span.it.events:
                held = values(event.attributes)
                told.append(told_record(event.name, span.it, held["wirecap.record"], held))
        return sorted(told, key=lambda one: one.seq)

    def records_in_logs(self) -> list[ToldRecord]:
        """What log records carry of the capture, by the records' numbers."""
        told = [
            told_record(log.it.event_name, log.it, log.it.body.string_value, log.attributes) for log in self.our_logs()
        ]
        return sorted(told, key=lambda one: one.seq)


class ToldRecord(NamedTuple):
    """A record of the capture as a collector has it."""

    seq: int
    process: str
    file: str
    name: str
    trace_id: str
    span_id: str
    record: dict[str, Any]


def told_record(name: str, it: Any, document: str, held: dict[str, Any]) -> ToldRecord:
    where = held["wirecap.seq"], held["wirecap.process"], held["wirecap.capture_file"]
    return ToldRecord(*where, name, it.trace_id.hex(), it.span_id.hex(), json.loads(document))


def as_told(records: list[dict[str, Any]], path: Path) -> list[ToldRecord]:
    """What a collector should have of the records of a capture."""
    told = []
    for record in records:
        metadata = record["metadata"]
        ids = metadata.get("trace_id", ""), metadata.get("span_id", "")
        name = f"wirecap.{record['direction']}"
        told.append(ToldRecord(metadata["seq"], metadata["process"], str(path), name, *ids, record))
    return told


def items(resource: Any, scopes: Any, member: str) -> Iterator[Item]:
    known = values(resource.resource.attributes)
    for scope in scopes:
        for it in getattr(scope, member):
            yield Item(known, scope.scope, scope.schema_url, it)


def values(pairs: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in pairs}


def value(held: Any) -> Any:
    kind = held.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in held.array_value.values]
    return getattr(held, kind)


# -- gRPC --------------------------------------------------------------------------------------------------------------

SERVICES = (
    (trace_service_pb2_grpc, "Trace", trace_service_pb2.ExportTraceServiceResponse),
    (logs_service_pb2_grpc, "Logs", logs_service_pb2.ExportLogsServiceResponse),
    (metrics_service_pb2_grpc, "Metrics", metrics_service_pb2.ExportMetricsServiceResponse),
)


@contextlib.contextmanager
def grpc_collector(refuse: grpc.StatusCode | None = None) -> Iterator[Received]:
    """Serves until it is left; ``refuse`` is what it answers in place of taking anything."""
    received = Received()

    def export(answer: Any) -> Callable[..., Any]:
        def take(_service: object, request: Any, context: grpc.ServicerContext) -> Any:
            received.take(request, request.SerializeToString(), context.invocation_metadata())
            if refuse is not None:
                context.abort(refuse, "no telemetry today")
            return answer()

        return take

    server = grpc.server(ThreadPoolExecutor(4))
    for module, name, answer in SERVICES:
        servicer = type(name, (getattr(module, f"{name}ServiceServicer"),), {"Export": export(answer)})
        getattr(module, f"add_{name}ServiceServicer_to_server")(servicer(), server)
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(0).wait(60)


# -- HTTP --------------------------------------------------------------------------------------------------------------

MESSAGES = {
    "/v1/traces": (trace_service_pb2.ExportTraceServiceRequest, trace_service_pb2.ExportTraceServiceResponse),
    "/v1/logs": (logs_service_pb2.ExportLogsServiceRequest, logs_service_pb2.ExportLogsServiceResponse),
    "/v1/metrics": (metrics_service_pb2.ExportMetricsServiceRequest, metrics_service_pb2.ExportMetricsServiceResponse),
}


@contextlib.contextmanager
def http_collector(refuse: int | None = None) -> Iterator[Received]:
    """Serves until it is left; ``refuse`` is the status that it answers in place of taking anything."""
    received = Received()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked, answer = MESSAGES[self.path]
            raw = self.rfile.read(int(self.headers["content-length"]))
            raw = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
            received.take(asked.FromString(raw), raw, self.headers.items())
            body = answer().SerializeToString()
            self.send_response(refuse or 200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


COLLECTORS: dict[str, Callable[..., contextlib.AbstractContextManager[Received]]] = {
    GRPC: grpc_collector,
    HTTP: http_collector,
}
