"""CBOR: a sequence (RFC 8742) of the records of ``jsonl``, payload bytes as byte strings.

Invariants:

- What JSON holds and CBOR's own types cannot hold faithfully stands as JSON text in a byte string with tag 262
  (embedded JSON): numbers whose spelling says more than their value (``1.10``, ``-0``, ``1e5``), integers beyond 64
  bits, objects with a name twice, documents that nest deeper than encoders go. So JSON becomes CBOR and JSON again with
  the same values, key order and number text.
- A record's last value is ``metadata.process``, written as a string in parts of which the last eight are empty, and it
  ends with the end of that string, of the metadata and of the record. To a decoder that is nothing; it makes eleven
  bytes that no record has within it, so that a torn record can be told from a whole one without reading all before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import orjson

from otel_wirecap.capture.formats.timestamps import Timestamps, microseconds_of
from otel_wirecap.capture.record import CaptureRecord, Payload, RawJSON, record_fields, record_from

EMBEDDED_JSON = 262
"""The tag of JSON text in a byte string, as registered with IANA."""

_INDEFINITE_MAP, _INDEFINITE_BYTES, _INDEFINITE_TEXT, _BREAK = b"\xbf", b"\x5f", b"\x7f", b"\xff"
_EMPTY_PART = b"\x60"
_SAFE_PART = 8
"""Bytes of a part that is too short to have the terminator in it, its head included."""


class CBOR:
    """Encodes records as CBOR.

    Raises:
        ImportError: the package cbor2 is missing (``otel-wirecap[cbor]``).
    """

    beginning: ClassVar = _INDEFINITE_MAP + b"\x6dtimestamp_iso\x78\x20"
    terminator: ClassVar = _EMPTY_PART * 8 + _BREAK * 3

    def __init__(self) -> None:
        import cbor2  # an extra: only who wants it needs it

        self._dumps, self._loads, self._tag = cbor2.dumps, cbor2.loads, cbor2.CBORTag
        self._error = cbor2.CBORError
        self._timestamps = Timestamps()
        self._metadata_key = self._dumps("metadata") + _INDEFINITE_MAP

    def encode(self, record: CaptureRecord) -> bytes:
        """One record.

        Raises:
            KeyError: the metadata has no ``process``.
            ValueError: the metadata holds what CBOR cannot hold (cbor2.CBOREncodeError).
        """
        microseconds = record.time_ns // 1000
        fields = record_fields(
            record,
            self._timestamps.iso(microseconds),
            microseconds / 1e6,
            record.content_length,
            self._native(record.payload),
        )
        metadata = fields.pop("metadata")
        if next(reversed(metadata), None) != "process":
            metadata = {name: value for name, value in metadata.items() if name != "process"}
            metadata["process"] = record.metadata["process"]
        process = self._dumps(metadata["process"])
        tail = b"".join(
            (
                self._metadata_key,
                self._dumps(metadata)[_length_of_head(len(metadata)) : -len(process)],
                _INDEFINITE_TEXT,
                process,
                self.terminator,
            )
        )
        encoded = _INDEFINITE_MAP + self._dumps(fields)[1:] + tail
        if isinstance(record.payload, bytes) and encoded.index(self.terminator) < len(encoded) - len(self.terminator):
            del fields["payload"]
            payload = self._dumps("payload") + self._in_parts(record.payload)
            encoded = _INDEFINITE_MAP + self._dumps(fields)[1:] + payload + tail
        return encoded

    def decode(self, data: bytes) -> CaptureRecord:
        """The record that ``encode`` made these bytes of.

        Raises:
            ValueError: they are no record.
        """
        try:
            told = self._loads(data)
            payload = RawJSON(self._json(told["payload"])) if told["content_type"] == "json" else told["payload"]
            time_ns = microseconds_of(told["timestamp_iso"]) * 1000
            return record_from(told, time_ns, payload, dict(told["metadata"]))
        except (KeyError, TypeError, ValueError, RecursionError, self._error) as error:
            raise ValueError(f"no capture record: {type(error).__name__}") from None

    def _native(self, payload: Payload) -> object:
        """A payload as cbor2 takes it."""
        if not isinstance(payload, RawJSON):
            return dict(payload) if isinstance(payload, Mapping) else payload
        try:
            value = orjson.loads(payload.data)
        except orjson.JSONDecodeError:  # halves of characters, and numbers that are none, are no strict JSON
            return self._embedded(payload.data)
        try:
            if orjson.dumps(value) == payload.data:
                return value
        except orjson.JSONEncodeError:  # it nests deeper than can be written value by value
            return self._embedded(payload.data)
        return json.loads(
            payload.data, parse_float=self._float, parse_int=self._integer, object_pairs_hook=self._object
        )

    def _float(self, text: str) -> object:
        value = float(text)
        return value if orjson.dumps(value) == text.encode() else self._embedded(text.encode())

    def _integer(self, text: str) -> object:
        # Twenty digits may be 64 bits; of more, nobody needs the value.
        value = int(text) if len(text) <= 20 else None
        if value is None or str(value) != text or not -(2**63) <= value < 2**64:
            return self._embedded(text.encode())
        return value

    def _object(self, pairs: list[tuple[str, object]]) -> object:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        members = (orjson.dumps(name) + b":" + self._json(member) for name, member in pairs)
        return self._embedded(b"{" + b",".join(members) + b"}")

    def _embedded(self, text: bytes) -> object:
        return self._tag(EMBEDDED_JSON, text)

    def _json(self, value: object) -> bytes:
        return orjson.dumps(value, default=self._fragment)

    def _fragment(self, value: object) -> orjson.Fragment:
        if isinstance(value, self._tag) and value.tag == EMBEDDED_JSON:
            return orjson.Fragment(value.value)
        raise TypeError

    def _in_parts(self, payload: bytes) -> bytes:
        parts = (self._dumps(payload[start : start + _SAFE_PART]) for start in range(0, len(payload), _SAFE_PART))
        return _INDEFINITE_BYTES + b"".join(parts) + _BREAK


def _length_of_head(entries: int) -> int:
    """Bytes before a map's first entry (RFC 8949 §3)."""
    return 1 if entries < 24 else 2 if entries < 256 else 3 if entries < 65536 else 5
