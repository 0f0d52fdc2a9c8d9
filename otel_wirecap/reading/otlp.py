"""Payloads that telemetry carried, found in OTLP as JSON: a document a line, as Collectors write it, or one document.

The format: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_wirecap.errors import CaptureFormatError
from otel_wirecap.reading.sources import MAX_LINE_BYTES
from otel_wirecap.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT_NAME = "wirecap."
"""How the names of events and log records begin that carry a record."""

_RECORD = "wirecap.record"
_CAPTURE_FILE = "wirecap.capture_file"
_DOCUMENTS = ("resourceSpans", "resourceLogs", "resourceMetrics")


class Carried(NamedTuple):
    """A record that a span event or a log record carried.

    Attributes:
        document: the record as a JSON object.
        identity: process and number of the record in the capture that has it whole.
        direction: of the record.
        is_cut: whether some of its payload was left out on the way.
        capture_file: the capture that has it whole; empty where that is not told.
    """

    document: str
    identity: tuple[object, object]
    direction: str
    is_cut: bool
    capture_file: str


def carried_in(path: Path) -> Iterator[Carried]:
    """The records that the telemetry in a file carries.

    Raises:
        CaptureFormatError: it is no OTLP in JSON.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                reason = f"{str(path)!r}, line {number} is no OTLP in JSON: it has more than {MAX_LINE_BYTES:,} bytes"
                raise CaptureFormatError(reason)
            if not line.strip():
                continue
            try:
                document = orjson.loads(line)
            except orjson.JSONDecodeError:
                if number > 1:
                    raise CaptureFormatError(f"{str(path)!r}, line {number}: no JSON") from None
                document = _whole(path)
                yield from _in_document(document, path, number)
                return
            yield from _in_document(document, path, number)


def _whole(path: Path) -> Any:
    """A file that is one document on many lines."""
    try:
        with open_regular(path) as file:
            return orjson.loads(file.read(MAX_LINE_BYTES))
    except orjson.JSONDecodeError:
        raise CaptureFormatError(
            f"{str(path)!r} is no OTLP in JSON; expected what a Collector's file exporter writes"
        ) from None


def _in_document(document: Any, path: Path, number: int) -> Iterator[Carried]:
    if not isinstance(document, dict) or not any(name in document for name in _DOCUMENTS):
        raise CaptureFormatError(f"{str(path)!r}, line {number}: no OTLP; expected resourceSpans or resourceLogs")
    for span in _items(document, "resourceSpans", "scopeSpans", "spans"):
        for event in _list(span, "events"):
            attributes = _attributes(event)
            yield from _carried(attributes.get(_RECORD), attributes)
    for record in _items(document, "resourceLogs", "scopeLogs", "logRecords"):
        if str(record.get("eventName", "")).startswith(EVENT_NAME):
            body = record.get("body")
            yield from _carried(body.get("stringValue") if isinstance(body, dict) else None, _attributes(record))


def _carried(document: Any, attributes: dict[str, Any]) -> Iterator[Carried]:
    if not isinstance(document, str):
        return
    try:
        record = orjson.loads(document)
        metadata = record["metadata"]
        identity = metadata.get("process"), metadata.get("seq")
        direction = str(record["direction"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return  # cut by a limit of the provider's: no record any more
    yield Carried(document, identity, direction, "truncated" in metadata, str(attributes.get(_CAPTURE_FILE, "")))


def _items(document: dict[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    nodes = [document]
    for name in names:
        nodes = [item for node in nodes for item in _list(node, name)]
    yield from nodes


def _list(node: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = node.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _attributes(node: dict[str, Any]) -> dict[str, Any]:
    told = {}
    for pair in _list(node, "attributes"):
        value = pair.get("value")
        if isinstance(value, dict):
            told[str(pair.get("key"))] = next(iter(value.values()), None)
    return told
