"""Records that come from elsewhere as JSON objects: payload events of finished spans."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from otel_wirecap.capture.body import redact_json
from otel_wirecap.capture.record import Payload, RawJSON, Record
from otel_wirecap.capture.recorded import redact_facts, redact_payload
from otel_wirecap.capture.redaction.redactor import Redactor

_NUMBERS = ("process", "pid", "seq")


def record_of(document: str, redactor: Redactor) -> Record:
    """The record that a JSON object of the schema describes, redacted anew.

    Its numbers were another process's: they are kept as ``metadata.imported``, and it gets new ones.

    Raises:
        ValueError: it is no record.
    """
    try:
        counts: dict[str, int] = {}
        told = redact_json(document.encode(), redactor, counts, ()).value()
        metadata = dict(told["metadata"])
        numbers = {name: metadata.pop(name) for name in _NUMBERS if name in metadata}
        record = Record(
            time_ns=round(told["timestamp_unix"] * 1_000_000) * 1000,
            direction=str(told["direction"]),
            source=str(told["source"]),
            destination=str(told["destination"]),
            session_id=told["session_id"],
            backend=str(told["backend"]),
            model=told["model"],
            key_name=told["key_name"],
            content_length=int(told["content_length"]),
            payload=_payload(told),
            metadata=metadata,
        )
        record.payload = redact_payload(record, redactor, counts)
        redact_facts(record, redactor, counts)
        if numbers:
            record.metadata["imported"] = numbers
        if counts:
            record.metadata["redactions"] = counts | record.metadata.get("redactions", {})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no capture record: {type(error).__name__}") from None
    return record


def _payload(told: dict[str, Any]) -> Payload:
    payload = told["payload"]
    if told["content_type"] == "json":
        return RawJSON(orjson.dumps(payload))
    if told["content_type"] == "bytes":
        return base64.b64decode(payload["data"])
    return None if payload is None else str(payload)
