"""What one line of a capture holds: a record, the part of it that is wanted, the bytes of its body."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

import orjson

from otel_wirecap.llm.text import json_value

PAYLOAD: Final = b',"payload":'
METADATA: Final = b',"metadata":'

RawRecord: TypeAlias = dict[str, Any]
"""One record as it was read: the fields of the schema, unknown ones included."""


_Kind = TypeVar("_Kind")


def typed(value: object, kind: type[_Kind]) -> _Kind | None:
    """A value, if it is of the schema's type: another tool may have written it."""
    return value if isinstance(value, kind) else None


def moment_of(unix: float | None) -> datetime | None:
    """Seconds since the epoch as a date in UTC; None where they are none that a calendar has."""
    try:
        return None if unix is None else datetime.fromtimestamp(unix, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def json_record(line: bytes) -> RawRecord | None:
    """The record that a line holds; None where it holds none."""
    try:
        record = json_value(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def envelope_of(line: bytes) -> RawRecord | None:
    """A record without its payload, whose text is not parsed; None where the line is no record.

    The payload is there where the line is not as the schema has it: then all of it was parsed.
    """
    payload, metadata = line.find(PAYLOAD), line.rfind(METADATA)
    if 0 < payload < metadata:
        try:
            record = orjson.loads(line[:payload] + b"}")
            record["metadata"] = orjson.loads(line[metadata + len(METADATA) : -1])
        except (orjson.JSONDecodeError, TypeError):
            return json_record(line)
        if line.endswith(b"}") and isinstance(record["metadata"], dict):
            return dict(record)
    return json_record(line)


def payload_text(line: bytes) -> bytes:
    """The JSON text of a record's payload; all of the line where it is not as the schema has it."""
    payload, metadata = line.find(PAYLOAD), line.rfind(METADATA)
    return line[payload + len(PAYLOAD) : metadata] if 0 < payload < metadata else line


def body_of(record: RawRecord, line: bytes) -> bytes:
    """The bytes of the body, or of the chunk, that a record holds; JSON spelt as in its line."""
    payload = record.get("payload")
    if isinstance(payload, str):
        return payload.encode()
    if record.get("content_type") == "bytes" and isinstance(payload, dict):
        with contextlib.suppress(TypeError, ValueError):  # another tool's
            return base64.b64decode(payload.get("data", ""))
    return b"" if payload is None else payload_text(line)
