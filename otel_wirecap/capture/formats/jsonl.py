"""JSON Lines: one JSON object a line, the thirteen fields in the schema's order, ``metadata`` last."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import ClassVar

import orjson

from otel_wirecap.capture.record import Payload, RawJSON, Record, content_type_of


class JSONLines:
    """Encodes records as JSON Lines."""

    beginning: ClassVar = b'{"timestamp_iso":"'

    def __init__(self) -> None:
        self._second = -1
        self._second_iso = ""

    def encode(self, record: Record) -> bytes:
        """One line, its newline included.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        microseconds = record.time_ns // 1000
        return orjson.dumps(
            {
                "timestamp_iso": self._iso(microseconds),
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
                "payload": _payload(record.payload),
                "metadata": record.metadata,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

    def _iso(self, microseconds: int) -> str:
        second, fraction = divmod(microseconds, 1_000_000)
        if second != self._second:  # formatting a date costs more than the rest of a small record
            self._second = second
            self._second_iso = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_iso}.{fraction:06d}+00:00"


def _payload(payload: Payload) -> object:
    if isinstance(payload, RawJSON):
        return orjson.Fragment(payload.data)
    if isinstance(payload, bytes):
        return {"encoding": "base64", "data": base64.b64encode(payload).decode("ascii")}
    return payload
