"""The capture record: one line of a capture, before a format has made bytes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from otel_wirecap.llm.text import json_value


@dataclasses.dataclass(slots=True, eq=False)
class RawJSON:
    """A JSON document as bytes: valid UTF-8, accepted by a parser, no newline in it; spliced in as it stands."""

    data: bytes = dataclasses.field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawJSON) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def value(self) -> Any:
        """The parsed document."""
        return json_value(self.data)


REQUESTS: Final = frozenset({"inbound_request", "outbound_request"})
RESPONSES: Final = frozenset({"inbound_response", "outbound_response"})
STREAM_STARTS: Final = frozenset({"stream_start", "outbound_stream_start"})
STREAM_CHUNKS: Final = frozenset({"stream_chunk", "outbound_stream_chunk"})
STREAM_ENDS: Final = frozenset({"stream_end", "outbound_stream_end"})
WEBSOCKET_START: Final = "websocket_start"
WEBSOCKET_MESSAGE: Final = "websocket_message"
WEBSOCKET_END: Final = "websocket_end"
DIRECTIONS: Final = frozenset({
    *REQUESTS, *RESPONSES, *STREAM_STARTS, *STREAM_CHUNKS, *STREAM_ENDS, WEBSOCKET_START, WEBSOCKET_MESSAGE,
    WEBSOCKET_END,
})  # fmt: skip
"""Those of records of exchanges; the others begin with ``system_``."""

Payload: TypeAlias = RawJSON | Mapping[str, Any] | str | bytes | None

# fmt: off
METADATA_KEYS = frozenset({
    "assembled", "attempt", "chunk_bytes", "chunk_number", "client_host", "client_request_id", "closed_by",
    "content_encoding",
    "credential", "duration_ms", "error", "exchange_id", "headers", "http_version", "imported", "incomplete", "leg",
    "lost_chunks", "lost_messages", "message_number", "method", "outcome", "pid", "process", "reason", "redactions",
    "redirect_of", "request_headers", "request_id", "response_headers", "seq", "session_source", "span_id",
    "status_code", "trace_id", "truncated", "ttfb_ms", "url", "user_agent", "websocket", "wire_length",
})
# fmt: on
"""The keys of ``metadata`` that the schema uses: an application's annotations never take their place."""


def content_type_of(payload: Payload) -> str:
    """The record's ``content_type``: ``json``, ``text``, ``bytes`` or ``empty``."""
    if isinstance(payload, str):
        return "text"
    if isinstance(payload, bytes):
        return "bytes"
    return "empty" if payload is None else "json"


def header_pairs(headers: Any) -> list[tuple[Any, Any]]:
    """Names and values of headers, as a list or, where another tool has them so, an object; what is no pair is none."""
    if isinstance(headers, dict):
        return list(headers.items())
    pairs = headers if isinstance(headers, list) else ()
    return [(pair[0], pair[1]) for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]


def body_type(metadata: Mapping[str, Any], of: str = "headers") -> str:
    """What the headers in ``metadata`` under ``of`` say of a body's type; "" where they say nothing."""
    pairs = header_pairs(metadata.get(of))
    return next((str(value) for name, value in pairs if str(name).lower() == "content-type"), "")


@dataclasses.dataclass(slots=True)
class CaptureRecord:
    """One record. Fields are those of the capture's schema, in its order.

    Attributes:
        time_ns: the moment, nanoseconds since the epoch; written as microseconds.
        direction: one of the schema's directions.
        source: for whom; ``destination``: for where.
        content_length: bytes of the body (of this chunk), after content-decoding and before redaction.
        payload: a JSON document, a string, bytes or nothing.
        metadata: everything else, ready for JSON.
    """

    time_ns: int
    direction: str
    source: str
    destination: str
    session_id: str | None
    backend: str
    model: str | None
    key_name: str | None
    content_length: int
    payload: Payload
    metadata: dict[str, Any]


def record_fields(record: CaptureRecord, iso: object, unix: object, length: object, payload: object) -> dict[str, Any]:
    """A record as an object of the schema: all of its fields, in order; given are those that formats spell themselves.

    Args:
        record: the record.
        iso: its ``timestamp_iso``.
        unix: its ``timestamp_unix``.
        length: its ``content_length``.
        payload: its ``payload``.
    """
    return {
        "timestamp_iso": iso,
        "timestamp_unix": unix,
        "direction": record.direction,
        "source": record.source,
        "destination": record.destination,
        "session_id": record.session_id,
        "backend": record.backend,
        "model": record.model,
        "key_name": record.key_name,
        "content_type": content_type_of(record.payload),
        "content_length": length,
        "payload": payload,
        "metadata": record.metadata,
    }


def record_from(fields: Mapping[str, Any], time_ns: int, payload: Payload, metadata: dict[str, Any]) -> CaptureRecord:
    """The record that an object of the schema describes; given are the parts that formats read themselves.

    Raises:
        KeyError: a field is missing.
    """
    return CaptureRecord(
        time_ns=time_ns,
        direction=fields["direction"],
        source=fields["source"],
        destination=fields["destination"],
        session_id=fields["session_id"],
        backend=fields["backend"],
        model=fields["model"],
        key_name=fields["key_name"],
        content_length=fields["content_length"],
        payload=payload,
        metadata=metadata,
    )


@dataclasses.dataclass(slots=True)
class ChunkRun:
    """Records of chunks of one stream that follow each other: they differ in moment, payload and numbers alone.

    Attributes:
        common: the record of each but for that. Its metadata has a place for ``chunk_bytes`` and ``chunk_number``,
            and for ``seq`` once it is numbered.
        times_ns: the moment of each, as in ``CaptureRecord``.
        payloads: the text of each.
        lengths: of each, both ``content_length`` and ``chunk_bytes``.
        first_chunk_number: that of the first one; the others follow.
    """

    common: CaptureRecord
    times_ns: list[int]
    payloads: list[str]
    lengths: list[int]
    first_chunk_number: int

    def __len__(self) -> int:
        return len(self.payloads)

    def records(self, first_seq: int | None = None) -> Iterator[CaptureRecord]:
        """The records one by one, numbered from ``first_seq`` on where that is given."""
        common = self.common
        for place, (time_ns, payload, length) in enumerate(
            zip(self.times_ns, self.payloads, self.lengths, strict=True)
        ):
            metadata = {**common.metadata, "chunk_bytes": length, "chunk_number": self.first_chunk_number + place}
            if first_seq is not None:
                metadata["seq"] = first_seq + place
            yield dataclasses.replace(
                common, time_ns=time_ns, content_length=length, payload=payload, metadata=metadata
            )
