"""JSON Lines: one JSON object a line, the thirteen fields in the schema's order, ``metadata`` last."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from otel_wirecap.capture.formats.timestamps import Timestamps, microseconds_of
from otel_wirecap.capture.record import CaptureRecord, ChunkRun, Payload, RawJSON, record_fields, record_from

_PLACE = b"\0"  # stands in no JSON
_DIFFERS = orjson.Fragment(_PLACE)
_ISO = b'"%b.%06d+00:00"'
_REST = (b"%d", b"%b", b"%d", b"%d", b"%d")
"""How content_length, payload, chunk_bytes, chunk_number and seq are written."""


class JSONLines:
    """Encodes records as JSON Lines."""

    beginning: ClassVar = b'{"timestamp_iso":"'
    terminator: ClassVar = b"\n"

    def __init__(self) -> None:
        self._timestamps = Timestamps()

    def encode(self, record: CaptureRecord) -> bytes:
        """One line, its newline included.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        microseconds = record.time_ns // 1000
        iso, payload = self._timestamps.iso(microseconds), json_payload(record.payload)
        fields = record_fields(record, iso, microseconds / 1e6, record.content_length, payload)
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)

    def encode_run(self, run: ChunkRun, first_seq: int) -> list[bytes]:
        """The lines of chunks: the text around what differs is made once, which takes a third of the time.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        common = run.common
        numbers = dict.fromkeys(("chunk_bytes", "chunk_number", "seq"), _DIFFERS)
        like = dataclasses.replace(common, payload="", metadata={**common.metadata, **numbers})
        fields = record_fields(like, _DIFFERS, _DIFFERS, _DIFFERS, _DIFFERS)
        line = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        parts = line.replace(b"%", b"%%").split(_PLACE)
        template, of_float = (
            b"".join(part + form for part, form in zip(parts, (_ISO, unix, *_REST, b""), strict=True))
            for unix in (b"%d.%06d", b"%a")
        )
        lines = []
        second, second_iso = -1, b""
        chunk_number, seq = run.first_chunk_number, first_seq
        for time_ns, payload, length in zip(run.times_ns, run.payloads, run.lengths, strict=True):
            seconds, fraction = divmod(time_ns // 1000, 1_000_000)
            if seconds != second:
                second, second_iso = seconds, self._timestamps.second(seconds * 1_000_000).encode()
            rest = (length, orjson.dumps(payload), length, chunk_number, seq)
            if fraction % 10:
                lines.append(template % (second_iso, fraction, seconds, fraction, *rest))
            else:  # no zero at a float's end
                lines.append(of_float % (second_iso, fraction, (seconds * 1_000_000 + fraction) / 1e6, *rest))
            chunk_number += 1
            seq += 1
        return lines

    def decode(self, line: bytes) -> CaptureRecord:
        """The record that ``encode`` made this line of; a JSON payload keeps its spelling.

        Raises:
            ValueError: it is no record.
        """
        try:
            text = line.decode()
            told: dict[str, Any] = {}
            payload, position = "", 0
            while text[position] != "}":  # "{" or "," before each field
                name, position = _SCAN.raw_decode(text, position + 1)
                start = position + 1
                told[name], position = _SCAN.raw_decode(text, start)
                if name == "payload":
                    payload = text[start:position]
            time_ns = microseconds_of(told["timestamp_iso"]) * 1000
            return record_from(told, time_ns, payload_from(told, payload.encode()), told["metadata"])
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise ValueError(f"no capture record: {type(error).__name__}") from None


_SCAN = json.JSONDecoder()


def json_payload(payload: Payload) -> object:
    """A payload as orjson takes it: JSON spliced in as it stands, bytes as base64."""
    if isinstance(payload, RawJSON):
        return orjson.Fragment(payload.data)
    if isinstance(payload, bytes):
        return {"encoding": "base64", "data": base64.b64encode(payload).decode("ascii")}
    return payload


def payload_from(fields: Mapping[str, Any], spelt: bytes) -> Payload:
    """The payload of a record that was read as JSON; ``spelt``: its text.

    Raises:
        KeyError: a field is missing.
        TypeError: the payload has not the form that bytes have; or ValueError.
    """
    if fields["content_type"] == "json":
        return RawJSON(spelt)
    payload = fields["payload"]
    # Whatever it is where it is no text: the gate looks.
    return base64.b64decode(payload["data"]) if fields["content_type"] == "bytes" else payload
