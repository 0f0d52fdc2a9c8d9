"""JSON Lines: one JSON object a line, the thirteen fields in the schema's order, ``metadata`` last."""

from __future__ import annotations

import base64
from typing import ClassVar

import orjson

from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.capture.record import Payload, RawJSON, Record, content_type_of


class JSONLines:
    """Encodes records as JSON Lines."""

    beginning: ClassVar = b'{"timestamp_iso":"'
    terminator: ClassVar = b"\n"

    def __init__(self) -> None:
        self._timestamps = Timestamps()

    def encode(self, record: Record) -> bytes:
        """One line, its newline included.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        microseconds = record.time_ns // 1000
        return orjson.dumps(
            {
                "timestamp_iso": self._timestamps.iso(microseconds),
                "timestamp_unix": microseconds / 1e6,
                "direction": record.direction,
                "source": record.source,
                "destination": record.destination,
                "session_id": record.session_id,
                "backend": record.backend,
                "model": record.model,
                "key_name": record.key_name,
                "content_type": content_type_of(record.payload),
                "content_length": record.content_length,
                "payload": json_payload(record.payload),
                "metadata": record.metadata,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def json_payload(payload: Payload) -> object:
    """A payload as orjson takes it: JSON spliced in as it stands, bytes as base64."""
    if isinstance(payload, RawJSON):
        return orjson.Fragment(payload.data)
    if isinstance(payload, bytes):
        return {"encoding": "base64", "data": base64.b64encode(payload).decode("ascii")}
    return payload
