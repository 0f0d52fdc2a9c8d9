"""Records that come from elsewhere as JSON objects: payload events of finished spans."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from otel_wirecap.capture.record import CaptureRecord, Payload, RawJSON

_NUMBERS = ("process", "pid", "seq")


def record_of(document: str) -> CaptureRecord:
    """The record that a JSON object of the schema describes, as it came: it has not been through the gate.

    Its numbers were another process's: they are kept as ``metadata.imported``, and it gets new ones.

    Raises:
        ValueError: it is no record.
    """
    try:
        told = orjson.loads(document)
        metadata = dict(told["metadata"])
        numbers = {name: metadata.pop(name) for name in _NUMBERS if name in metadata}
        if numbers:
            metadata["imported"] = numbers
        return CaptureRecord(
            time_ns=round(told["timestamp_unix"] * 1_000_000) * 1000,
            direction=told["direction"],
            source=told["source"],
            destination=told["destination"],
            session_id=told["session_id"],
            backend=told["backend"],
            model=told["model"],
            key_name=told["key_name"],
            content_length=told["content_length"],
            payload=_payload(told),
            metadata=metadata,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no capture record: {type(error).__name__}") from None


def _payload(told: dict[str, Any]) -> Payload:
    payload = told["payload"]
    if told["content_type"] == "json":
        return RawJSON(orjson.dumps(payload))
    if told["content_type"] == "bytes":
        return base64.b64decode(payload["data"])
    return payload  # type: ignore[no-any-return]  # whatever it is: the gate looks
