"""The secrets in bodies, by what they are: JSON, forms, texts, bytes."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.redaction.spans import add_counts
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.frames.framing import TextLexer, lexer_of
from otel_wirecap.frames.json_values import BLANK
from otel_wirecap.llm.text import json_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.capture.redaction.redactor import Redactor

_MARKS: Final = {
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
_PIECE: Final = 1 << 15
"""Bytes of events that are looked at together: what is made of small ones takes many times the room."""
_LOOKED_AT: Final = 1024
_MIN_WIDE: Final = 16
"""Bytes that must be there to tell by zeros: shorter texts hold no key."""


def redact_body(
    content: str | bytes, content_type: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]
) -> str | bytes:
    """A body that is not JSON: a form by its fields, too; bytes that are text as text."""
    data = content.encode() if isinstance(content, str) else content
    encoding = _wide_encoding(data)
    if encoding is not None:  # or something else that looks like it, and is searched as it is, too
        wide = data.decode(encoding, "surrogatepass")
        data = redactor.text(wide, counts, credentials).encode(encoding, "surrogatepass")
    content = text_or_bytes(data)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and isinstance(content, str):
        return redactor.form(content, counts, credentials)
    if kind == "multipart/form-data":
        clean = redactor.multipart(data, counts, credentials)
        return content if clean is data else text_or_bytes(clean)
    clean = _redact_frames(data, kind, redactor, counts, credentials)
    content = content if clean == data else text_or_bytes(clean)
    return redact_text(content, redactor, counts, credentials)


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, if a text is in one of these; a byte order mark is one of its characters.

    Where there is none, the zeros tell: most characters of what is sent as JSON, or of keys, are ASCII.
    """
    for encoding, mark in _MARKS.items():
        if data.startswith(mark) and len(data) % len(mark) == 0:
            return encoding if _can_be(data, encoding) else None
    first = data[:_LOOKED_AT]
    if 4 * first.count(0) < len(first) or len(first) < _MIN_WIDE:
        return None
    return next((encoding for encoding in _MARKS if _is_ascii(first, encoding) and _can_be(data, encoding)), None)


def _is_ascii(first: bytes, encoding: str) -> bool:
    width = len(_MARKS[encoding])
    places = range(1, width) if encoding.endswith("le") else range(width - 1)
    return all(first[place::width].count(0) * 4 >= 3 * len(first[place::width]) for place in places)


def _can_be(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _redact_frames(
    data: bytes, kind: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str]
) -> bytes:
    """A body that is events or several JSON values: what their strings say together may be a secret, too."""
    if isinstance(lexer_of(kind, data, len(data), is_end=True), TextLexer):
        return data
    stream = StreamRedactor(redactor, kind, len(data))
    clean = bytearray()
    for begin in range(0, len(data) + 1, _PIECE):
        is_last = begin + _PIECE > len(data)
        for pieces, found, _ in (
            stream.feed([data[begin : begin + _PIECE]], credentials),
            *([stream.close(credentials)] if is_last else ()),
        ):
            clean += b"".join(pieces)
            for rules in found.values():
                add_counts(counts, rules)
    return data if clean == data else bytes(clean)


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
        clean = _redact_frames(content, "application/json", redactor, counts, credentials)
        if clean is not content:
            json_value(clean)
        content = clean
    document = redactor.json(content, counts, credentials)
    if b"\n" in document or b"\r" in document:
        document = document.translate(None, b"\r\n")
    return RawJSON(document)
