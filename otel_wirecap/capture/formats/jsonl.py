"""JSON Lines: one JSON object a line, the thirteen fields in the schema's order, ``metadata`` last."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any, ClassVar

import orjson

from otel_wirecap.capture.formats.timestamps import Timestamps, microseconds_of
from otel_wirecap.capture.record import CaptureRecord, ChunkRun, Payload, RawJSON, content_type_of

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
        payload = json_payload(record.payload)
        return self._line(
            record, self._timestamps.iso(microseconds), microseconds / 1e6, record.content_length, payload
        )

    def encode_run(self, run: ChunkRun, first_seq: int) -> list[bytes]:
        """The lines of chunks: the text around what differs is made once, which takes a third of the time.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        common = run.common
        numbers = dict.fromkeys(("chunk_bytes", "chunk_number", "seq"), _DIFFERS)
        like = dataclasses.replace(common, payload="", metadata={**common.metadata, **numbers})
        line = self._line(like, _DIFFERS, _DIFFERS, _DIFFERS, _DIFFERS)
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

    def _line(self, record: CaptureRecord, iso: object, unix: object, length: object, payload: object) -> bytes:
        return orjson.dumps(
            {
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
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )

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
            kind = told["content_type"]
            return CaptureRecord(
                time_ns=microseconds_of(told["timestamp_iso"]) * 1000,
                direction=told["direction"],
                source=told["source"],
                destination=told["destination"],
                session_id=told["session_id"],
                backend=told["backend"],
                model=told["model"],
                key_name=told["key_name"],
                content_length=told["content_length"],
                payload=RawJSON(payload.encode())
                if kind == "json"
                else base64.b64decode(told["payload"]["data"])
                if kind == "bytes"
                else told["payload"],
                metadata=told["metadata"],
            )
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
