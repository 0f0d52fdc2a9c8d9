"""Records of other shapes than the schema's, in the schema's shape: the format ``structured``, and captures of others.

Others' records may name no leg, exchange or flow. They are inferred, from the session, the order and the direction:
``OtherShapes`` remembers which flows of a session are open, so it wants all records of one capture, in their order.

Invariant: a record that names its exchange is given back as it is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_wirecap.reading.lines import RawRecord

_DIRECTIONS = {
    ("backend", "request"): "outbound_request",
    ("backend", "response"): "inbound_response",
    ("backend", "response_stream_start"): "stream_start",
    ("backend", "response_stream_chunk"): "stream_chunk",
    ("backend", "response_stream_end"): "stream_end",
    ("client", "request"): "inbound_request",
    ("client", "response"): "outbound_response",
    ("client", "response_stream_start"): "outbound_stream_start",
    ("client", "response_stream_chunk"): "outbound_stream_chunk",
    ("client", "response_stream_end"): "outbound_stream_end",
}
_CLIENT_ANSWERS = frozenset(
    {"outbound_response", "outbound_stream_start", "outbound_stream_chunk", "outbound_stream_end"}
)
_BACKEND_ANSWERS = frozenset({"inbound_response", "stream_start", "stream_chunk", "stream_end", "stream_completion"})
_MAX_OPEN = 64
"""Flows of one session that are remembered."""


@dataclasses.dataclass(slots=True)
class _Inferred:
    """An exchange that was inferred, as far as it has come."""

    id: str
    backend: str
    started: float
    attempt: int | None = None
    chunks: int = 0
    streaming: bool = False
    ended: bool = False


@dataclasses.dataclass(slots=True)
class _Flow:
    id: str
    client: _Inferred | None = None
    attempts: list[_Inferred] = dataclasses.field(default_factory=list)


class OtherShapes:
    """Brings the records of one capture into the schema's shape."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[_Flow]] = {}

    def normal(self, record: RawRecord) -> RawRecord | None:
        """The record in the schema's shape; None where it is no record of any shape that is known."""
        if "communication" in record:
            return _from_structured(record)
        direction, metadata = record.get("direction"), record.get("metadata")
        if not isinstance(direction, str) or not isinstance(metadata, dict):
            return None
        if not isinstance(record.get("timestamp_unix"), int | float):
            return None
        if "exchange_id" in metadata or direction.startswith("system_"):
            return record
        return self._inferred(record, direction, metadata)

    def _inferred(self, record: RawRecord, direction: str, metadata: dict[str, Any]) -> RawRecord:
        given = metadata.get("request_id")
        key = given if isinstance(given, str) and given else f"session {record.get('session_id')}"
        flows = self._sessions.setdefault(key, [])
        if direction == "inbound_request":
            flow = self._new_flow(flows, record, given)
            exchange = flow.client = _Inferred(f"{flow.id}.client", "client", record["timestamp_unix"])
        elif direction == "outbound_request":
            flow = self._asking(flows) or self._new_flow(flows, record, given)
            number = len(flow.attempts) + 1
            exchange = _Inferred(f"{flow.id}.{number}", str(record.get("backend")), record["timestamp_unix"], number)
            flow.attempts.append(exchange)
        elif direction in _CLIENT_ANSWERS or direction in _BACKEND_ANSWERS:
            flow, exchange = self._answered(flows, record, given)
        else:
            return record
        told = {**metadata, "leg": "client" if exchange is flow.client else "backend"}
        told |= {"request_id": flow.id, "exchange_id": exchange.id, "inferred": True}
        if exchange.attempt is not None:
            told["attempt"] = exchange.attempt
        record = {**record, "metadata": told}
        self._follow(exchange, direction, record, told)
        _unwrap(record, told)
        return record

    def _new_flow(self, flows: list[_Flow], record: RawRecord, given: object) -> _Flow:
        if isinstance(given, str) and given:
            flow = _Flow(given)
        else:
            told = f"{record.get('session_id')} {record.get('timestamp_iso')} {record.get('direction')}"
            flow = _Flow("req_" + hashlib.sha256(told.encode()).hexdigest()[:12])
        flows.append(flow)
        del flows[:-_MAX_OPEN]
        return flow

    def _asking(self, flows: list[_Flow]) -> _Flow | None:
        """The flow that an attempt belongs to: the oldest whose client waits and has none yet, else the newest."""
        waiting = [flow for flow in flows if flow.client is not None and not flow.client.ended]
        return next((flow for flow in waiting if not flow.attempts), waiting[-1] if waiting else None)

    def _answered(self, flows: list[_Flow], record: RawRecord, given: object) -> tuple[_Flow, _Inferred]:
        """The exchange that an answer belongs to: the oldest that waits for just this, else the newest there is."""
        direction, number = record["direction"], record["metadata"].get("chunk_number")
        on_client = direction in _CLIENT_ANSWERS
        pairs = [
            (flow, exchange)
            for flow in flows
            for exchange in ([flow.client] if on_client else flow.attempts)
            if exchange is not None and (on_client or exchange.backend == record.get("backend"))
        ]
        if direction == "stream_completion":
            fitting = [pair for pair in pairs if pair[1].streaming or pair[1].ended][-1:]
        elif direction.endswith(("_start", "response")):
            fitting = [pair for pair in pairs if not pair[1].streaming and not pair[1].ended]
        else:
            open_ones = [pair for pair in pairs if pair[1].streaming and not pair[1].ended]
            if direction.endswith("_end"):
                totals = record.get("payload")
                told = totals.get("total_chunks") if isinstance(totals, dict) else None
                number = told + 1 if isinstance(told, int) else None
            fitting = [pair for pair in open_ones if pair[1].chunks + 1 == number] or open_ones
        if fitting or pairs:
            return fitting[0] if fitting else pairs[-1]
        flow = self._new_flow(flows, record, given)
        exchange = _Inferred(f"{flow.id}.{'client' if on_client else 1}", str(record.get("backend")), 0.0)
        if on_client:
            flow.client = exchange
        else:
            exchange.attempt = 1
            flow.attempts.append(exchange)
        return flow, exchange

    def _follow(self, exchange: _Inferred, direction: str, record: RawRecord, told: dict[str, Any]) -> None:
        """Moves the exchange on, and tells the times that follow from its records."""
        waited_ms = (record["timestamp_unix"] - exchange.started) * 1000 if exchange.started else None
        if direction.endswith("_start"):
            exchange.streaming = True
            if waited_ms is not None:
                told.setdefault("ttfb_ms", waited_ms)
        elif direction.endswith("_chunk"):
            exchange.streaming, exchange.chunks = True, exchange.chunks + 1
        elif direction.endswith(("_end", "response")) and not exchange.ended:
            exchange.ended = True
            told.setdefault("outcome", "complete")
            if waited_ms is not None:
                told.setdefault("duration_ms", waited_ms)
        elif direction == "stream_completion":
            told["assembled"] = True


def _unwrap(record: RawRecord, told: dict[str, Any]) -> None:
    """Puts the parsed body where the body stands, and what is said of the raw one into the metadata."""
    payload = record.get("payload")
    if isinstance(payload, dict) and payload.keys() == {"parsed", "raw"}:
        record["payload"] = payload["parsed"]
        told["raw"] = payload["raw"]
        if isinstance(payload["raw"], dict) and isinstance(payload["raw"].get("length"), int):
            record["content_length"] = payload["raw"]["length"]
    if record["direction"] == "stream_completion" and not record.get("payload"):
        record["payload"] = {"usage": told.get("canonical_usage")}


def _from_structured(record: RawRecord) -> RawRecord | None:
    moment, way, facts = record.get("timestamp"), record.get("communication"), record.get("metadata")
    if not (isinstance(moment, dict) and isinstance(way, dict) and isinstance(facts, dict)):
        return None
    facts = dict(facts)
    said = str(way.get("direction"))
    direction = _DIRECTIONS.get((str(facts.get("leg")), said), said)
    try:
        unix = datetime.fromisoformat(str(moment.get("iso"))).timestamp()
    except ValueError:
        return None
    payload = record.get("payload")
    envelope = {name: facts.pop(name, None) for name in ("session_id", "backend", "model", "key_name")}
    length = facts.pop("byte_count", 0)
    for name in ("agent", "system_prompt"):
        facts.pop(name, None)
    return {
        "timestamp_iso": moment["iso"],
        "timestamp_unix": unix,
        "direction": direction,
        "source": way.get("source"),
        "destination": way.get("destination"),
        **envelope,
        "content_type": _content_type(payload),
        "content_length": length,
        "payload": payload,
        "metadata": facts,
    }


def _content_type(payload: object) -> str:
    if payload is None:
        return "empty"
    if isinstance(payload, str):
        return "text"
    is_bytes = (
        isinstance(payload, dict) and payload.get("encoding") == "base64" and payload.keys() == {"encoding", "data"}
    )
    return "bytes" if is_bytes else "json"
