"""Records that come from elsewhere as JSON objects: payload events of finished spans."""

from __future__ import annotations

import orjson

from otel_wirecap.capture.formats.jsonl import payload_from
from otel_wirecap.capture.record import CaptureRecord, record_from

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
        time_ns = round(told["timestamp_unix"] * 1_000_000) * 1000
        return record_from(told, time_ns, payload_from(told, orjson.dumps(told["payload"])), metadata)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no capture record: {type(error).__name__}") from None
