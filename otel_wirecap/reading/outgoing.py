"""Records on their way out of a capture: redacted, whoever wrote them and whatever they were redacted by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.llm.text import json_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.capture.redaction.gate import Gate

_FIELDS: Final = (
    "timestamp_iso", "timestamp_unix", "direction", "source", "destination", "session_id", "backend", "model",
    "key_name", "content_type", "content_length", "payload", "metadata",
)  # fmt: skip


def outgoing(lines: Iterable[bytes], gate: Gate) -> Iterator[CaptureRecord]:
    """The records of a capture's lines, in the schema's shape, in order and through the gate."""
    decode, redaction = JSONLines().decode, gate.records()
    for line in lines:
        try:
            record = decode(line)
        except ValueError:  # another tool's: not all fields are there, or they are in another order
            record = decode(orjson.dumps(_completed(json_value(line))))
        yield from redaction.feed(record, len(line))
    yield from redaction.close()


def _completed(told: dict[str, Any]) -> dict[str, Any]:
    """A record with all fields, in the schema's order."""
    payload = told.get("payload")
    moment = float(told["timestamp_unix"])
    is_bytes = (
        isinstance(payload, dict) and payload.keys() == {"encoding", "data"} and told.get("content_type") == "bytes"
    )
    kind = "empty" if payload is None else "text" if isinstance(payload, str) else "bytes" if is_bytes else "json"
    length = told.get("content_length")
    known = {
        **dict.fromkeys(_FIELDS), "source": "", "destination": "", "backend": "", **told,
        "timestamp_iso": Timestamps().iso(round(moment * 1e6)), "content_type": kind,
        "content_length": length if isinstance(length, int) else len(orjson.dumps(payload)),
    }  # fmt: skip
    return {name: known[name] for name in _FIELDS}
