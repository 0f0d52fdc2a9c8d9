"""Records that the writer makes itself: about the capture, and shortened ones."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import orjson

from otel_wirecap.capture.decoding import cut_text, text_or_bytes
from otel_wirecap.capture.formats import Format
from otel_wirecap.capture.record import CaptureRecord, RawJSON


def system_record(direction: str, payload: Mapping[str, object]) -> CaptureRecord:
    """A ``system_*`` record of this moment."""
    document = orjson.dumps(payload, default=str)
    return CaptureRecord(
        time_ns=time.time_ns(),
        direction=direction,
        source="wirecap",
        destination="capture",
        session_id=None,
        backend="system",
        model=None,
        key_name=None,
        content_length=len(document),
        payload=RawJSON(document),
        metadata={},
    )


def shortened(record: CaptureRecord, form: Format, max_bytes: int) -> bytes:
    """The line of a record that is longer than a file may be: the beginning of its payload, and what it was.

    Raises:
        ValueError: even without a payload the record is too long.
    """
    payload = record.payload
    content = (
        payload.data
        if isinstance(payload, RawJSON)
        else payload.encode()
        if isinstance(payload, str)
        else payload or b""
    )
    if not isinstance(content, bytes):
        content = orjson.dumps(content, default=str)
    binary = isinstance(text_or_bytes(content), bytes)
    record.metadata.setdefault(
        "truncated",
        {"original_length": record.content_length, "sha256": hashlib.sha256(content).hexdigest()},
    )
    keep = max_bytes
    while keep:
        keep //= 2
        record.payload = content[:keep] if binary else cut_text(content[:keep])
        line = form.encode(record)
        if len(line) <= max_bytes:
            return line
    raise ValueError("the record's metadata alone is longer than a file may be")
