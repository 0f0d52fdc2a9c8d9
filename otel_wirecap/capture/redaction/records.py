"""Records that are there already, on their way through the gate: those exported, and those that come from elsewhere.

Invariants:

- What the settings mask when a capture is written, they mask when it is passed on: each part of a record goes through
  the gate's method for it.
- What has not the type that the schema gives it may be anything: where prompts are masked, no string in it stays.
- What was masked before stays as it is, and is not counted again.
- Annotations stay, and so do records about the capture itself, but for secrets in them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from otel_wirecap.capture.record import (
    DIRECTIONS,
    METADATA_KEYS,
    WEBSOCKET_MESSAGE,
    WEBSOCKET_START,
    CaptureRecord,
    Payload,
    RawJSON,
    body_type,
)
from otel_wirecap.capture.redaction.passed import withheld
from otel_wirecap.capture.redaction.spans import add_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_wirecap.capture.redaction.texts import TextGate

INFERRED: Final = "inferred"
"""A key of metadata: true on records of other tools that name no exchange."""

_LABELS: Final = ("source", "destination", "session_id", "backend", "key_name")
_HEADERS: Final = frozenset({"headers", "request_headers", "response_headers"})
_NUMBERS: Final = frozenset({
    "attempt", "chunk_bytes", "chunk_number", "duration_ms", "lost_chunks", "lost_messages", "message_number", "pid",
    "seq", "status_code", "ttfb_ms", "wire_length",
})  # fmt: skip
_MAPS: Final = frozenset({"imported", "redactions", "truncated", "websocket"})
_TEXTS_OF_MAPS: Final = frozenset({"from", "process", "sha256", "subprotocol"})
_NAMES_OF_ERRORS: Final = frozenset({"type", "provider_type", "provider_code"})
_IDS: Final[tuple[str, ...]] = (
    "leg",
    "request_id",
    "exchange_id",
    "attempt",
    "process",
    "pid",
    "seq",
    "chunk_number",
    "chunk_bytes",
)

_ID: Final = re.compile(r"(?:client|backend|(?:req|ex)_[0-9a-f]{1,32}|[0-9a-f]{1,16})")
_DIRECTION: Final = re.compile("|".join([*sorted(DIRECTIONS), "system_[a-z]{1,16}"]))
_FINGERPRINT: Final = re.compile(r"[a-z2-7]{16}")

Redacted = TypeVar("Redacted")


def pass_record(record: CaptureRecord, gate: TextGate) -> bool:
    """Redacts a record in place and counts what was masked, or withholds it; see ``Gate.record``."""
    counts: dict[str, int] = {}
    try:
        redact_record(record, gate, counts)
        add_redactions(record, counts)
    except Exception:  # noqa: BLE001  # fail closed
        withhold_record(record)
        return False
    return True


def redact_record(record: CaptureRecord, gate: TextGate, counts: dict[str, int]) -> None:
    """Redacts all of a record in place.

    A chunk of a stream may begin within a text that looks like structure: where prompts are masked, all of it is taken
    for content. Whoever has the whole stream gives its pieces to ``Gate.stream`` instead.

    Raises:
        Exception: it cannot be redacted.
    """
    if not isinstance(record.content_length, int) or not isinstance(record.direction, str):
        raise TypeError("no length, or no direction")
    record.payload = _payload(record, gate, counts)  # its type is told by headers that may be masked
    record.metadata = _metadata(record.metadata, gate, counts)
    for name in _LABELS:
        setattr(record, name, _label(getattr(record, name), gate, counts))
    model = record.model
    record.model = gate.name(model, {}) if isinstance(model, str) else _label(model, gate, counts)
    record.direction = _label(record.direction, gate, counts)


def withhold_record(record: CaptureRecord) -> None:
    """Leaves nothing of a record that could not be redacted but what it was and when; whatever it has, nothing raises.

    Nothing of what stays has been through the gate: so it is only what has the form of our own ids and numbers.
    """
    told = record.metadata if isinstance(record.metadata, dict) else {}
    record.payload = None
    record.source = record.destination = record.backend = ""
    record.session_id = record.model = record.key_name = None
    if not (isinstance(record.direction, str) and _DIRECTION.fullmatch(record.direction)):
        record.direction = ""
    if not isinstance(record.content_length, int):
        record.content_length = 0
    kept = {name: told[name] for name in _IDS if name in told and _is_id(told[name])}
    nothing = withheld()
    record.metadata = {**kept, **nothing.facts, "redactions": nothing.counts}


def withhold_payload(record: CaptureRecord) -> None:
    """Leaves a record, the rest of which has been through the gate, without its payload."""
    nothing = withheld()
    record.payload = nothing.payload
    record.metadata |= nothing.facts
    add_redactions(record, nothing.counts)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _ID.fullmatch(value) is not None)


def add_redactions(record: CaptureRecord, counts: Mapping[str, int]) -> None:
    """Adds to what a record says was masked in it."""
    if counts:
        before = record.metadata.get("redactions")
        counted = before.items() if isinstance(before, dict) else ()
        told = {rule: count for rule, count in counted if isinstance(count, int)}
        add_counts(told, counts)
        record.metadata["redactions"] = told


def _payload(record: CaptureRecord, gate: TextGate, counts: dict[str, int]) -> Payload:
    payload = record.payload
    if payload is None:
        return None
    if not isinstance(payload, RawJSON | str | bytes):  # another tool's, whose ``content_type`` says something else
        payload = RawJSON(orjson.dumps(payload))
    if record.direction.startswith("system_"):
        passed = gate.system(payload)
    else:
        is_json = isinstance(payload, RawJSON)
        passed = gate.body(
            payload.data if isinstance(payload, RawJSON) else payload,
            _content_type(record, is_json=is_json),
            is_json=is_json,
            is_whole=record.metadata.keys().isdisjoint({"truncated", "incomplete"}),
        )
    if passed.withheld:
        raise ValueError("a payload could not be redacted")
    if passed.payload != payload:
        add_counts(counts, passed.counts)
    return passed.payload


def _content_type(record: CaptureRecord, *, is_json: bool) -> str:
    if record.metadata.get("assembled") is True:
        return "application/json"
    if record.direction == WEBSOCKET_MESSAGE:
        return ""
    if record.direction == WEBSOCKET_START:  # with the body of an answer that refuses it
        return body_type(record.metadata, "response_headers")
    if record.direction.endswith("_chunk"):
        return "" if is_json else "text/plain"
    return body_type(record.metadata)


def _metadata(metadata: Mapping[str, Any], gate: TextGate, counts: dict[str, int]) -> dict[str, Any]:
    told = {name: _member(name, value, metadata, gate, counts) for name, value in metadata.items()}
    if told.get(INFERRED) is True:
        # What another tool added is no annotation of the application's: it may repeat a body.
        added = {name: value for name, value in told.items() if name not in METADATA_KEYS and name != INFERRED}
        told |= _redacted(lambda found: gate.added(added, found), added, counts)
    fingerprint = fingerprint_in(told)
    document = orjson.dumps({**told, "credential": None} if fingerprint else told)
    redacted = gate.metadata(document, counts)
    if redacted is document:
        return told
    clean: dict[str, Any] = orjson.loads(redacted)
    return {**clean, "credential": fingerprint} if fingerprint else clean


def fingerprint_in(metadata: Mapping[str, Any]) -> str | None:
    """The fingerprint of a credential that one of our records has, which looks like one; None where there is none."""
    value = metadata.get("credential")
    is_ours = "exchange_id" in metadata and metadata.get(INFERRED) is not True
    return value if is_ours and isinstance(value, str) and _FINGERPRINT.fullmatch(value) else None


def _member(name: str, value: Any, metadata: Mapping[str, Any], gate: TextGate, counts: dict[str, int]) -> Any:
    """A member of the metadata, by its name and by the type that the schema gives it."""
    if value is None or name not in METADATA_KEYS:
        return value
    if name in _HEADERS:
        return _headers(value, gate, counts)
    if name == "error":
        return _error(value, gate, counts)
    if isinstance(value, dict) and name in _MAPS:
        return {part: _part(part, within, gate, counts) for part, within in value.items()}
    if name in _NUMBERS or name == "assembled":
        return value if isinstance(value, int | float) else _misplaced(value, gate, counts)
    if not isinstance(value, str):
        return _misplaced(value, gate, counts)
    if name == "url":
        return _redacted(lambda found: gate.url(value, found), value, counts)
    if name == "reason":
        return _redacted(lambda found: gate.reason(metadata.get("status_code"), value, found), value, counts)
    return value


def _part(name: str, value: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    if name == "close_reason":
        return _text(value, gate.error_text, gate, counts)
    if isinstance(value, str) and name in _TEXTS_OF_MAPS:
        return value
    return _misplaced(value, gate, counts)


def _headers(headers: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    """Headers; where another tool has them as an object, what their names say is secret goes, too."""
    if isinstance(headers, list):
        return [_header([str(part) for part in header], gate, counts) for header in headers]
    if isinstance(headers, dict):
        headers = {name: _value(name, value, gate, counts) for name, value in headers.items()}
    return _misplaced(headers, gate, counts)


def _header(header: list[str], gate: TextGate, counts: dict[str, int]) -> list[str]:
    name, value = header
    return _redacted(lambda found: gate.headers([(name, value)], found)[0], header, counts)


def _value(name: str, value: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    told = _header([name, str(value)], gate, counts)[1]
    return value if told == str(value) else told


def _error(error: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    if not isinstance(error, dict):
        return _text(error, gate.error_text, gate, counts)
    return {
        name: _text(value, gate.name if name in _NAMES_OF_ERRORS else gate.error_text, gate, counts)
        for name, value in error.items()
    }


def _text(value: Any, redact: Callable[[str, dict[str, int]], str], gate: TextGate, counts: dict[str, int]) -> Any:
    """What should be a text, redacted by the gate's method for it."""
    if not isinstance(value, str):
        return _misplaced(value, gate, counts)
    return _redacted(lambda found: redact(value, found), value, counts)


def _label(value: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    """A field of the record; what another tool has there that is no text is searched as metadata are."""
    if value is None:
        return None
    if isinstance(value, str):
        return gate.label(value, counts)
    told = _misplaced(value, gate, counts)
    return orjson.loads(gate.metadata(orjson.dumps(told), counts))


def _misplaced(value: Any, gate: TextGate, counts: dict[str, int]) -> Any:
    return _redacted(lambda found: gate.misplaced(value, found), value, counts)


def _redacted(redact: Callable[[dict[str, int]], Redacted], before: Redacted, counts: dict[str, int]) -> Redacted:
    """What ``redact`` makes of something; markers of before are not counted again."""
    found: dict[str, int] = {}
    after = redact(found)
    if after != before:
        add_counts(counts, found)
    return after
