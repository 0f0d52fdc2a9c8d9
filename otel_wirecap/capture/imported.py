"""Records that come from elsewhere as JSON objects: payload events of finished spans."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from otel_wirecap.capture.body import redact_json
from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.record import Payload, RawJSON, Record
from otel_wirecap.capture.redaction.prompts import (
    headers_without_prompts,
    text_without_prompts,
    url_without_prompts,
    without_prompts,
)
from otel_wirecap.capture.redaction.redactor import Redactor

_NUMBERS = ("process", "pid", "seq")


def record_of(document: str, redactor: Redactor) -> Record:
    """The record that a JSON object of the schema describes, redacted anew.

    Its numbers were another process's: they are kept as ``metadata.imported``, and it gets new ones.

    Raises:
        ValueError: it is no record.
    """
    try:
        counts: dict[str, int] = {}
        told = redact_json(document.encode(), redactor, counts, ()).value()
        metadata = dict(told["metadata"])
        payload = _payload(told)
        if redactor.masks_prompts:
            payload = _without_prompts(payload, metadata, counts)
        numbers = {name: metadata.pop(name) for name in _NUMBERS if name in metadata}
        if numbers:
            metadata["imported"] = numbers
        if counts:
            metadata["redactions"] = counts | metadata.get("redactions", {})
        return Record(
            time_ns=round(told["timestamp_unix"] * 1_000_000) * 1000,
            direction=str(told["direction"]),
            source=str(told["source"]),
            destination=str(told["destination"]),
            session_id=told["session_id"],
            backend=str(told["backend"]),
            model=told["model"],
            key_name=told["key_name"],
            content_length=int(told["content_length"]),
            payload=payload,
            metadata=metadata,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no capture record: {type(error).__name__}") from None


def _without_prompts(payload: Payload, metadata: dict[str, Any], counts: dict[str, int]) -> Payload:
    """The payload with its content masked; that of the metadata is, too."""
    for name in ("headers", "request_headers", "response_headers"):
        if name in metadata:
            metadata[name] = headers_without_prompts(metadata[name], counts)
    if "url" in metadata:
        metadata["url"] = url_without_prompts(metadata["url"], counts)
    for inner, name in (("error", "message"), ("websocket", "close_reason")):
        if name in metadata.get(inner, ()):
            metadata[inner] = metadata[inner] | {name: text_without_prompts(str(metadata[inner][name]), counts)}
    if isinstance(payload, RawJSON):
        return RawJSON(without_prompts(payload.data, "application/json", counts))
    if isinstance(payload, str | bytes):  # a piece, perhaps, that begins within a text: no JSON, whatever it looks like
        content = payload.encode() if isinstance(payload, str) else payload
        return text_or_bytes(without_prompts(content, "text/plain", counts))
    return payload


def _payload(told: dict[str, Any]) -> Payload:
    payload = told["payload"]
    if told["content_type"] == "json":
        return RawJSON(orjson.dumps(payload))
    if told["content_type"] == "bytes":
        return base64.b64decode(payload["data"])
    return None if payload is None else str(payload)
