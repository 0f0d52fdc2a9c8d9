"""The capture record: one line of a capture, before a format has made bytes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson


class RawJSON:
    """A JSON document as bytes: valid UTF-8, accepted by a parser, no newline in it; spliced in as it stands."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"RawJSON({len(self.data)} bytes)"

    def value(self) -> Any:
        """The parsed document."""
        return orjson.loads(self.data)


Payload: TypeAlias = RawJSON | Mapping[str, Any] | str | bytes | None

CLIENT_LEG_DIRECTIONS = frozenset(
    {
        "inbound_request",
        "outbound_response",
        "outbound_stream_start",
        "outbound_stream_chunk",
        "outbound_stream_end",
    }
)


def content_type_of(payload: Payload) -> str:
    """The record's ``content_type``: ``json``, ``text``, ``bytes`` or ``empty``."""
    if isinstance(payload, str):
        return "text"
    if isinstance(payload, bytes):
        return "bytes"
    return "empty" if payload is None else "json"


@dataclasses.dataclass(slots=True)
class Record:
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
