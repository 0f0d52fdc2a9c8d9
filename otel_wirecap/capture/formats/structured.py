"""Structured JSON: one JSON object a line, grouped into timestamp, communication, metadata and payload."""

from __future__ import annotations

from typing import ClassVar

import orjson

from otel_wirecap.capture.formats.jsonl import json_payload
from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.capture.record import CaptureRecord, RawJSON

FORWARD, BACKWARD = "frontend_to_backend", "backend_to_frontend"

_DIRECTIONS = {
    "inbound_request": (FORWARD, "request"),
    "outbound_request": (FORWARD, "request"),
    "inbound_response": (BACKWARD, "response"),
    "outbound_response": (BACKWARD, "response"),
    "stream_start": (BACKWARD, "response_stream_start"),
    "outbound_stream_start": (BACKWARD, "response_stream_start"),
    "stream_chunk": (BACKWARD, "response_stream_chunk"),
    "outbound_stream_chunk": (BACKWARD, "response_stream_chunk"),
    "stream_end": (BACKWARD, "response_stream_end"),
    "outbound_stream_end": (BACKWARD, "response_stream_end"),
    "websocket_start": (FORWARD, "websocket_start"),
    "websocket_end": (BACKWARD, "websocket_end"),
}


class Structured:
    """Encodes records as structured JSON; which leg it was stands in ``metadata.leg``."""

    beginning: ClassVar = b'{"timestamp":{"iso":"'
    terminator: ClassVar = b"\n"

    def __init__(self) -> None:
        self._timestamps = Timestamps()

    def encode(self, record: CaptureRecord) -> bytes:
        """One line, its newline included.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        microseconds = record.time_ns // 1000
        iso = self._timestamps.iso(microseconds)
        flow, direction = _communication(record)
        return orjson.dumps(
            {
                "timestamp": {"iso": iso, "human_readable": f"{iso[:10]} {iso[11:23]} UTC"},
                "communication": {
                    "flow": flow,
                    "direction": direction,
                    "source": record.source,
                    "destination": record.destination,
                },
                "metadata": {
                    "session_id": record.session_id,
                    "agent": record.metadata.get("user_agent"),
                    "backend": record.backend,
                    "model": record.model,
                    "key_name": record.key_name,
                    "byte_count": record.content_length,
                    "system_prompt": _system_prompt(record) if direction == "request" else None,
                    **record.metadata,
                },
                "payload": json_payload(record.payload),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def _communication(record: CaptureRecord) -> tuple[str | None, str]:
    known = _DIRECTIONS.get(record.direction)
    if known is not None:
        return known
    websocket = record.metadata.get("websocket")
    sender = websocket.get("from") if isinstance(websocket, dict) else None  # another tool's may be anything
    if sender is None:  # about the capture itself
        return None, record.direction
    asking = "client" if record.metadata.get("leg") == "client" else "proxy"
    return FORWARD if sender == asking else BACKWARD, record.direction


def _system_prompt(record: CaptureRecord) -> str | None:
    from otel_wirecap.llm.opening import system_prompt  # all dialects, which no other format needs

    return system_prompt(record.payload.value()) if isinstance(record.payload, RawJSON) else None
