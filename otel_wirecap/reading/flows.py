"""Groups a capture's records into flows: one client exchange with the backend exchanges it caused.

Records are taken one at a time and let go again; what stays is a summary of each exchange, never a payload.
The order of records does not matter (several processes may write one capture), and any may be missing: what
began in a file that has been rotated away, or has not ended yet, is told as far as it is known.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.url import url_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_wirecap.reading.reader import Record

REQUESTS = frozenset({"inbound_request", "outbound_request"})
RESPONSES = frozenset({"inbound_response", "outbound_response"})
STREAM_STARTS = frozenset({"stream_start", "outbound_stream_start"})
STREAM_CHUNKS = frozenset({"stream_chunk", "outbound_stream_chunk"})
STREAM_ENDS = frozenset({"stream_end", "outbound_stream_end"})

CLIENT = "client"


@dataclasses.dataclass(slots=True)
class Exchange:
    """One HTTP request with its response, on one leg.

    Attributes:
        id: its ``exchange_id``.
        leg: ``client`` or ``backend``.
        attempt: on the backend leg 1, 2, … in the flow.
        backend: the backend's name.
        method: the request's method; empty where its record is not there.
        url: the request's URL, redacted.
        requested_model: the model that the request names.
        answered_model: the model that the response names.
        key_name: the name of the variable whose value is the credential.
        status: the response's status code.
        started: seconds since the epoch; of the request.
        ttfb_ms: milliseconds until the response's headers.
        duration_ms: milliseconds until the end.
        request_bytes: content-decoded bytes of the request's body.
        bytes: content-decoded bytes of the response's body, so far.
        chunks: of a stream, so far; 0 for other responses.
        streamed: whether the response is a stream.
        outcome: how it ended; None as long as it has not.
        error: ``{"type", "message"}`` of a failure.
    """

    id: str
    leg: str
    attempt: int | None = None
    backend: str = ""
    method: str = ""
    url: str = ""
    requested_model: str | None = None
    answered_model: str | None = None
    key_name: str | None = None
    status: int | None = None
    started: float | None = None
    ttfb_ms: float | None = None
    duration_ms: float | None = None
    request_bytes: int = 0
    bytes: int = 0
    chunks: int = 0
    streamed: bool = False
    outcome: str | None = None
    error: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """The URL's path."""
        return url_parts(self.url).path

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked for."""
        return self.answered_model or self.requested_model

    def add(self, record: Record) -> None:
        """Takes what one of the exchange's records tells."""
        direction, metadata = record["direction"], record["metadata"]
        if direction in REQUESTS:
            self._add_request(record, metadata)
            return
        ends = direction in STREAM_ENDS or direction in RESPONSES
        if record.get("model") and (ends or self.answered_model is None):
            # The end knows it; before, a record may name the model that was asked for.
            self.answered_model = record["model"]
        self.backend = record.get("backend") or self.backend
        if metadata.get("assembled"):
            return  # what the stream's own records have told already
        if direction in STREAM_CHUNKS:
            if self.outcome is None:
                self.chunks += 1
                self.bytes += _number(metadata.get("chunk_bytes"))
            return
        self.status = metadata.get("status_code", self.status)
        self.ttfb_ms = metadata.get("ttfb_ms", self.ttfb_ms)
        if direction in STREAM_STARTS:
            self.streamed = True
        elif ends:
            self._add_end(record, metadata)

    def _add_request(self, record: Record, metadata: dict[str, Any]) -> None:
        self.started = record["timestamp_unix"]
        self.method = str(metadata.get("method", ""))
        self.url = str(metadata.get("url", ""))
        self.requested_model = record.get("model")
        self.key_name = record.get("key_name")
        self.request_bytes = _number(record.get("content_length"))
        # On the client leg the backend is known for certain only when the response comes.
        self.backend = self.backend or record.get("backend") or ""

    def _add_end(self, record: Record, metadata: dict[str, Any]) -> None:
        self.duration_ms = metadata.get("duration_ms")
        self.outcome = metadata.get("outcome")
        self.error = metadata.get("error")
        if record["direction"] in STREAM_ENDS:
            self.streamed = True
            totals = record.get("payload")
            if isinstance(totals, dict):
                self.bytes = _number(totals.get("total_bytes"))
                self.chunks = _number(totals.get("total_chunks"))
        else:
            self.bytes = _number(record.get("content_length"))
        if self.started is None and self.duration_ms is not None:
            self.started = record["timestamp_unix"] - self.duration_ms / 1000


@dataclasses.dataclass(slots=True)
class Flow:
    """One client exchange with the backend exchanges it caused.

    Attributes:
        request_id: the flow's id.
        session_id: groups the flows of one conversation or agent run.
        client: the exchange with the client; None where a script calls a backend itself.
        attempts: the exchanges with backends, in the order they began.
    """

    request_id: str
    session_id: str | None = None
    client: Exchange | None = None
    attempts: list[Exchange] = dataclasses.field(default_factory=list)

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges, the client's first."""
        return self.attempts if self.client is None else [self.client, *self.attempts]

    @property
    def started(self) -> float:
        """The moment of the first request, seconds since the epoch; 0 where no record tells."""
        return min((one.started for one in self.exchanges if one.started is not None), default=0.0)

    @property
    def ended(self) -> float:
        """The moment of the last known end, seconds since the epoch."""
        ends = [
            one.started + (one.duration_ms or one.ttfb_ms or 0.0) / 1000
            for one in self.exchanges
            if one.started is not None
        ]
        return max(ends, default=self.started)

    @property
    def model(self) -> str | None:
        """The model that answered last, else the one that was asked for."""
        models = [one.answered_model for one in reversed(self.exchanges)]
        models += [one.requested_model for one in self.exchanges]
        return next((model for model in models if model), None)


class FlowCollector:
    """Takes records in any order, and gives the flows they tell of.

    Attributes:
        records: how many have been taken, those about the capture itself included.
        gaps: the payloads of the ``system_gap`` records: what was lost, how much, and why.
    """

    def __init__(self) -> None:
        self.records = 0
        self.gaps: list[dict[str, Any]] = []
        self._flows: dict[str, Flow] = {}
        self._exchanges: dict[str, Exchange] = {}

    def add(self, record: Record) -> None:
        """Takes one record; one that is not of the schema's shape is counted and left alone."""
        self.records += 1
        direction, metadata = record.get("direction"), record.get("metadata")
        if direction == "system_gap":
            payload = record.get("payload")
            self.gaps.append(payload if isinstance(payload, dict) else {})
        if not isinstance(metadata, dict) or not isinstance(record.get("timestamp_unix"), int | float):
            return
        request_id, exchange_id = metadata.get("request_id"), metadata.get("exchange_id")
        if not isinstance(request_id, str) or not isinstance(exchange_id, str):
            return
        flow = self._flows.setdefault(request_id, Flow(request_id))
        flow.session_id = record.get("session_id") or flow.session_id
        exchange = self._exchanges.get(exchange_id)
        if exchange is None:
            exchange = Exchange(exchange_id, str(metadata.get("leg", "")), metadata.get("attempt"))
            self._exchanges[exchange_id] = exchange
            if exchange.leg == CLIENT:
                flow.client = exchange
            else:
                flow.attempts.append(exchange)
        exchange.add(record)

    @property
    def flows(self) -> list[Flow]:
        """The flows, in the order they began; their attempts as well."""
        for flow in self._flows.values():
            flow.attempts.sort(key=lambda one: (one.attempt or 0, one.started or 0.0))
        return sorted(self._flows.values(), key=lambda flow: (flow.started, flow.request_id))


def group_flows(records: Iterable[Record]) -> list[Flow]:
    """The flows that records tell of, in the order they began."""
    collector = FlowCollector()
    for record in records:
        collector.add(record)
    return collector.flows


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
