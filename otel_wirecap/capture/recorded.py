"""Records that are there already, redacted: those that are exported, and those that come from elsewhere.

Invariants:

- What the settings mask when a capture is written, they mask when it is passed on: each part of a record goes through
  the function that the recorder has for it.
- What was masked before stays as it is, and is not counted again.
- Annotations stay, and so do records about the capture itself, but for secrets in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from otel_wirecap.capture.body import redact_content, redact_json, redact_text
from otel_wirecap.capture.metadata import redact_headers, redact_message, redact_name, redact_reason, redact_url
from otel_wirecap.capture.record import METADATA_KEYS, Payload, RawJSON, Record
from otel_wirecap.capture.redaction.prompts import without_prompts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_wirecap.capture.redaction.redactor import Redactor

INFERRED: Final = "inferred"
"""A key of metadata: true on records of other tools that name no exchange."""

_HEADERS: Final = ("headers", "request_headers", "response_headers")
_NAMES: Final = ("source", "destination", "session_id", "backend", "key_name")
_NAMES_OF_ERRORS: Final = frozenset({"type", "provider_type", "provider_code"})

Redacted = TypeVar("Redacted")


def redact_payload(record: Record, redactor: Redactor, counts: dict[str, int]) -> Payload:
    """The payload of a record, redacted by itself; the record stays as it is.

    A chunk of a stream may begin within a text that looks like structure: where prompts are masked, all of it is taken
    for content. Whoever has the whole stream gives it to ``stream_redaction``.

    Args:
        record: whose payload it is.
        redactor: masks it.
        counts: rule to number of markers; added to.
    """
    payload = record.payload
    if not isinstance(payload, RawJSON | str | bytes):
        return payload
    if record.direction.startswith("system_"):
        if isinstance(payload, RawJSON):
            return redact_json(payload.data, redactor, counts, ())
        return redact_text(payload, redactor, counts, ())
    is_json = isinstance(payload, RawJSON)
    content = payload.data if isinstance(payload, RawJSON) else payload
    content_type = _content_type(record, is_json=is_json)
    is_whole = record.metadata.keys().isdisjoint({"truncated", "incomplete"})
    return _again(
        lambda found: redact_content(
            content, content_type, redactor, found, (), is_json=is_json, is_whole=is_whole
        ),
        payload,
        counts,
    )  # fmt: skip


def redact_facts(record: Record, redactor: Redactor, counts: dict[str, int]) -> None:
    """Redacts all of a record but for its payload, in place.

    Args:
        record: the record.
        redactor: masks it.
        counts: rule to number of markers; added to.
    """
    record.metadata = _metadata(record.metadata, redactor, counts)
    for name in _NAMES:
        if isinstance(value := getattr(record, name), str):
            setattr(record, name, redactor.text(value, counts))
    if isinstance(model := record.model, str):
        record.model = redact_name(model, redactor, {})


def content_type_of(metadata: Mapping[str, Any], of: str = "headers") -> str:
    """What the headers in ``metadata`` say of a body's type; "" where they say nothing."""
    pairs = metadata.get(of) or ()
    return next((str(value) for name, value in pairs if str(name).lower() == "content-type"), "")


def _content_type(record: Record, *, is_json: bool) -> str:
    if record.metadata.get("assembled") is True:
        return "application/json"
    if record.direction == "websocket_message":
        return ""
    if record.direction == "websocket_start":  # with the body of an answer that refuses it
        return content_type_of(record.metadata, "response_headers")
    if record.direction.endswith("_chunk"):
        return "" if is_json else "text/plain"
    return content_type_of(record.metadata)


def _metadata(metadata: Mapping[str, Any], redactor: Redactor, counts: dict[str, int]) -> dict[str, Any]:
    told = dict(metadata)
    for name in _HEADERS:
        if isinstance(headers := told.get(name), list):
            told[name] = [_header([str(part) for part in header], redactor, counts) for header in headers]
    if isinstance(url := told.get("url"), str):
        told["url"] = _again(lambda found: redact_url(url, redactor, found), url, counts)
    if isinstance(reason := told.get("reason"), str):
        status = told.get("status_code")
        told["reason"] = _again(lambda found: redact_reason(status, reason, redactor, found), reason, counts)
    if "error" in told:
        told["error"] = _error(told["error"], redactor, counts)
    if isinstance(websocket := told.get("websocket"), dict) and "close_reason" in websocket:
        told["websocket"] = {**websocket, "close_reason": _message(websocket["close_reason"], redactor, counts)}
    if told.get(INFERRED) is True:
        # What another tool added is no annotation of the application's: it may repeat a body.
        added = {name: value for name, value in told.items() if name not in METADATA_KEYS and name != INFERRED}
        told |= _structure(added, redactor, counts)
    document = orjson.dumps(told)
    redacted = redactor.json(document, counts)
    return told if redacted is document else orjson.loads(redacted)


def _header(header: list[str], redactor: Redactor, counts: dict[str, int]) -> list[str]:
    name, value = header
    return _again(lambda found: redact_headers([(name, value)], redactor, found)[0], header, counts)


def _error(error: Any, redactor: Redactor, counts: dict[str, int]) -> Any:
    if not isinstance(error, dict):
        return _message(error, redactor, counts)
    return {
        name: _name(value, redactor, counts) if name in _NAMES_OF_ERRORS else _message(value, redactor, counts)
        for name, value in error.items()
    }


def _name(value: Any, redactor: Redactor, counts: dict[str, int]) -> Any:
    if not isinstance(value, str):
        return _message(value, redactor, counts)
    return _again(lambda found: redact_name(value, redactor, found), value, counts)


def _message(value: Any, redactor: Redactor, counts: dict[str, int]) -> Any:
    """A text; what another tool has in its place as JSON keeps its structure."""
    if isinstance(value, str):
        return _again(lambda found: redact_message(value, redactor, found), value, counts)
    return _structure(value, redactor, counts) if isinstance(value, dict | list) else value


def _structure(value: Any, redactor: Redactor, counts: dict[str, int]) -> Any:
    """What is left of a JSON value where prompts are masked."""
    if not redactor.masks_prompts:
        return value
    return _again(
        lambda found: orjson.loads(without_prompts(orjson.dumps(value), "application/json", found)), value, counts
    )


def _again(redact: Callable[[dict[str, int]], Redacted], before: Redacted, counts: dict[str, int]) -> Redacted:
    """What ``redact`` makes of something; what had been masked before is not counted."""
    found: dict[str, int] = {}
    after = redact(found)
    if after != before:
        for rule, count in found.items():
            counts[rule] = counts.get(rule, 0) + count
    return after
