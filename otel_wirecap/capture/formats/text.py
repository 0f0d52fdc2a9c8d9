"""Text for people: a header, the facts, the payload, indented; a blank line ends a record.

Invariant: no line within a record is empty, so that a record that is torn can be told from a whole one.
"""

from __future__ import annotations

import base64
import re
from typing import Any, ClassVar

import orjson

from otel_wirecap.capture.formats.timestamps import Timestamps
from otel_wirecap.capture.record import CaptureRecord, Payload, RawJSON

INDENT = "    "

_TITLES = {
    "inbound_request": "INBOUND_REQUEST",
    "outbound_request": "REQUEST",
    "inbound_response": "REPLY",
    "outbound_response": "REPLY-TO-CLIENT",
    "stream_start": "REPLY-STREAM",
    "stream_chunk": "REPLY-STREAM",
    "stream_end": "REPLY-STREAM",
    "outbound_stream_start": "REPLY-STREAM-TO-CLIENT",
    "outbound_stream_chunk": "REPLY-STREAM-TO-CLIENT",
    "outbound_stream_end": "REPLY-STREAM-TO-CLIENT",
}
_PARTS = {"start": "start", "chunk": "", "end": "end"}
_IN_THE_HEADER = frozenset({"client_host", "user_agent"})
_JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:]|[^\s\[\]{},:"]++')
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Text:
    """Encodes records as text."""

    beginning: ClassVar = b"----- "
    terminator: ClassVar = b"\n\n"

    def __init__(self) -> None:
        self._timestamps = Timestamps()

    def encode(self, record: CaptureRecord) -> bytes:
        """The record's lines and the blank line after them.

        Raises:
            TypeError: the metadata holds what JSON cannot hold (orjson.JSONEncodeError).
        """
        moment = self._timestamps.second(record.time_ns // 1000)
        title = _TITLES.get(record.direction, record.direction.upper())
        facts = record.metadata
        lines = [
            f"----- {title} {moment}Z -----",
            f"client={_word(facts.get('client_host'))} agent={_word(facts.get('user_agent'))} "
            f"session={_word(record.session_id)} -> backend={_word(record.backend)} model={_word(record.model)} "
            f"key={_word(record.key_name)}",
            " ".join(_facts(record)),
            *_payload_lines(record.payload),
        ]
        return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


def _facts(record: CaptureRecord) -> list[str]:
    part = _PARTS.get(record.direction.rpartition("_")[2]) if "stream" in record.direction else None
    told = [part] if part else []
    facts = [f"{name}={_word(value)}" for name, value in record.metadata.items() if name not in _IN_THE_HEADER]
    return [*told, f"bytes={record.content_length}", *facts]


def _word(value: Any) -> str:
    """A fact in one word, or in quotes where it is several."""
    if value is None:
        return "-"
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    plain = _SPACE.sub(" ", value).strip()
    return orjson.dumps(plain).decode() if " " in plain or not plain or '"' in plain else plain


def _payload_lines(payload: Payload) -> list[str]:
    if payload is None:
        return []
    if isinstance(payload, bytes):
        encoded = base64.b64encode(payload).decode("ascii")
        return [f"{INDENT}(base64)", *(INDENT + encoded[i : i + 100] for i in range(0, len(encoded), 100))]
    if isinstance(payload, str):
        return [INDENT + line for line in payload.split("\n")]
    document = payload.data if isinstance(payload, RawJSON) else orjson.dumps(payload)
    return [INDENT + line for line in indented(document.decode())]


def indented(document: str) -> list[str]:
    """The lines of a JSON document, indented by two; every token is spelt as it was."""
    lines: list[str] = []
    line, depth, before = "", 0, ""
    for piece in _JSON_TOKEN.findall(document):
        if piece in "]}":
            depth -= 1
            if before not in "[{":
                lines.append(line)
                line = "  " * depth
        elif before == "," or (before and before in "[{"):
            lines.append(line)
            line = "  " * depth
        line += ": " if piece == ":" else piece
        if piece in "[{":
            depth += 1
        before = piece
    return [*lines, line]
