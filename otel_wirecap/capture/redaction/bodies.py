"""The secrets in bodies, by what they are: JSON, forms, texts, bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.redaction.spans import add_counts
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.frames.framing import TextLexer, lexer_of
from otel_wirecap.frames.json_values import BLANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.capture.redaction.redactor import Redactor


def redact_body(
    content: str | bytes, content_type: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]
) -> str | bytes:
    """A body that is not JSON: a form by its fields, too; bytes that are text as text."""
    if isinstance(content, bytes):
        content = text_or_bytes(content)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and isinstance(content, str):
        return redactor.form(content, counts, credentials)
    if kind == "multipart/form-data":
        data = content.encode() if isinstance(content, str) else content
        clean = redactor.multipart(data, counts, credentials)
        return content if clean is data else text_or_bytes(clean)
    data = content.encode() if isinstance(content, str) else content
    clean = _redact_frames(data, kind, redactor, counts, credentials)
    content = content if clean == data else text_or_bytes(clean)
    return redact_text(content, redactor, counts, credentials)


def _redact_frames(
    data: bytes, kind: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]
) -> bytes:
    """A body that is events or several JSON values: what their strings say together may be a secret, too."""
    if isinstance(lexer_of(kind, data, len(data), is_end=True), TextLexer):
        return data
    stream = StreamRedactor(redactor, kind, len(data))
    released = stream.feed([data], credentials), stream.close(credentials)
    for _, found, _ in released:
        add_counts(counts, found.get(0, {}))
    return b"".join(piece for pieces, _, _ in released for piece in pieces)


def redact_text(
    content: str | bytes, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]
) -> str | bytes:
    """The redacted text or bytes."""
    if isinstance(content, str):
        return redactor.text(content, counts, credentials)
    return redactor.bytes_(content, counts, credentials)


def redact_json(content: bytes, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]) -> RawJSON:
    """A valid JSON document as it stands, redacted, less the newlines between its tokens.

    Inside a string a raw newline is no JSON, so every one that is here may go. The elements of an array may be the
    events of a stream, as Gemini sends them.

    Raises:
        ValueError: an array is no JSON any more.
    """
    if content[:1] != b"{" and content.lstrip(BLANK)[:1] == b"[":
        content = _redact_frames(content, "application/json", redactor, counts, credentials)
        orjson.loads(content)
    document = redactor.json(content, counts, credentials)
    if b"\n" in document or b"\r" in document:
        document = document.translate(None, b"\r\n")
    return RawJSON(document)
