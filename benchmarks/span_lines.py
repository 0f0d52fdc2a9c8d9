"""An exporter of OpenTelemetry's SDK for peers of otel-wirecap: a span a JSON line, a batch a ``write``."""

from __future__ import annotations

import os
from collections.abc import Sequence

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class SpanLines(SpanExporter):
    """Appends spans to a file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Writes all in one."""
        lines = [orjson.dumps(document(span), default=str, option=orjson.OPT_APPEND_NEWLINE) for span in spans]
        os.write(self._file, b"".join(lines))
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Closes the file."""
        os.close(self._file)


def document(span: ReadableSpan) -> dict[str, object]:
    """What is kept of a span: all that was recorded."""
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "start": span.start_time,
        "end": span.end_time,
        "attributes": dict(span.attributes or {}),
        "events": [(event.timestamp, event.name, dict(event.attributes or {})) for event in span.events],
        "dropped_events": span.dropped_events,
    }
