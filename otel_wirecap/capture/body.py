"""A body as it is collected and as it is recorded: capped, decoded, classified, redacted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from otel_wirecap.capture.decoding import ContentDecoder, UndecodableError, cut_text, needs_decoding, text_or_bytes
from otel_wirecap.capture.record import Payload, RawJSON
from otel_wirecap.capture.redaction.prompts import without_prompts
from otel_wirecap.capture.redaction.redactor import Redactor

LOOK_AHEAD = 4096
"""Bytes that are kept beyond the limit for the redactor: it must see a secret whole that the limit cuts."""

NOT_JSON = object()
"""The value of a body that is no JSON (JSON's null is None)."""


class BodyCollector:
    """Collects one body, content-decoded as it comes, and keeps no more than ``limit`` bytes of it.

    Args:
        limit: bytes that are recorded; what follows is only counted and hashed, and its beginning looked at.
        content_encoding: the body's ``content-encoding`` header, "" where there is none.
    """

    def __init__(self, limit: int, content_encoding: str = "") -> None:
        self._limit = limit
        self._content_encoding = content_encoding
        self.clear()

    def clear(self) -> None:
        """Forgets what was collected: the body comes anew."""
        self.length = 0
        self.wire_length = 0
        self.kept = 0
        self.undecodable = False
        self._parts: list[bytes] = []
        self._hash: Any = None
        self._decoder: ContentDecoder | None = None
        if needs_decoding(self._content_encoding):
            try:
                self._decoder = ContentDecoder(self._content_encoding)
            except UndecodableError:
                self._give_up_decoding()

    @property
    def decoded(self) -> bool:
        """Whether the body was compressed on the wire."""
        return self._decoder is not None or self.undecodable

    def add(self, data: bytes) -> None:
        """Takes the next bytes of the wire."""
        self.wire_length += len(data)
        if self._decoder is not None:
            try:
                data = self._decoder.decode(data)
            except UndecodableError:
                self._give_up_decoding()
        if self.undecodable:
            self._hash.update(data)
            return
        if self._hash is None and self.length + len(data) > self._limit:
            self._hash = hashlib.sha256(self.content())
        if self._hash is not None:
            self._hash.update(data)
        self.length += len(data)
        room = self._limit + LOOK_AHEAD - self.kept
        if room > 0:
            self._parts.append(data[:room])
            self.kept += min(len(data), room)

    @property
    def truncated(self) -> dict[str, object] | None:
        """``metadata.truncated`` of a body over the limit, else None."""
        if self._hash is None or self.undecodable:
            return None
        return {"original_length": self.length, "sha256": self._hash.hexdigest()}

    @property
    def is_as_it_came(self) -> bool:
        """Whether it is all there, and was not compressed."""
        return self._hash is None and self._decoder is None and not self.undecodable

    def undecodable_facts(self) -> dict[str, object]:
        """What can be said of a body that could not be decoded."""
        return {"wire_length": self.wire_length, "sha256": self._hash.hexdigest()}

    def content(self) -> bytes:
        """The kept bytes, content-decoded; of a truncated body up to ``LOOK_AHEAD`` more than the limit."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def beyond_limit(self, content: str | bytes) -> int:
        """Bytes that ``content``, the kept part, has over the limit."""
        return max(0, len(content.encode() if isinstance(content, str) else content) - self._limit)

    def _give_up_decoding(self) -> None:
        self._decoder = None
        self.undecodable = True
        self.kept = 0
        self._parts = []
        self._hash = hashlib.sha256()


class RecordedBody(NamedTuple):
    """A body ready for a record: its payload, true length and part of the metadata; its JSON value or NOT_JSON."""

    payload: Payload
    length: int
    metadata: dict[str, Any]
    value: Any


def record_body(
    body: BodyCollector,
    *,
    content_type: str,
    content_encoding: str,
    incomplete: str | None,
    redactor: Redactor,
    counts: dict[str, int],
    credentials: tuple[str, ...],
    as_text: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> RecordedBody:
    """Classifies a collected body and redacts it.

    ``counts`` is ``metadata.redactions`` and is added to; ``as_text``: JSON too is recorded as the text it is;
    ``pause`` is called when it is parsed.
    """
    metadata: dict[str, Any] = {}
    if body.decoded:
        metadata["content_encoding"] = content_encoding
        metadata["wire_length"] = body.wire_length
    if body.undecodable:
        if not body.wire_length:
            return RecordedBody(None, 0, {}, NOT_JSON)
        return RecordedBody(
            None,
            body.wire_length,
            metadata | body.undecodable_facts() | {"incomplete": "undecodable"},
            NOT_JSON,
        )
    if incomplete is not None:
        metadata["incomplete"] = incomplete
    content = body.content()
    if not content:
        return RecordedBody(None, 0, metadata, NOT_JSON)
    truncated = body.truncated
    if truncated is not None:
        metadata["truncated"] = truncated
    is_whole = truncated is None and incomplete is None
    value = parse_json(content, content_type) if is_whole and not as_text else NOT_JSON
    pause()
    try:
        kept = content if truncated is None else cut_text(content)
        beyond = 0 if truncated is None else body.beyond_limit(kept)
        if redactor.masks_prompts:  # what is beyond the limit is content, whatever secret goes on there
            kept, beyond = without_end(kept, beyond), 0
        payload = redact_content(
            kept, content_type, redactor, counts, credentials, is_json=value is not NOT_JSON, is_whole=is_whole
        )
        if beyond and not isinstance(payload, RawJSON):
            payload = without_end(payload, beyond)
    except Exception:  # noqa: BLE001  # fail closed: what could not be redacted is not written
        counts["withheld"] = counts.get("withheld", 0) + 1
        return RecordedBody(None, body.length, metadata | {"incomplete": "withheld"}, value)
    return RecordedBody(payload, body.length, metadata, value)


def parse_json(content: bytes, content_type: str) -> Any:
    """The JSON value of a body, NOT_JSON where it is none: said by its type, or an object or array by its looks."""
    if "json" not in content_type and content.lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
        return NOT_JSON
    try:
        # Within something, as it stands in a record: a parser's limit of nesting must hold for the record, too.
        values = orjson.loads(b"[%b]" % content)
    except orjson.JSONDecodeError:
        return NOT_JSON
    return values[0] if len(values) == 1 else NOT_JSON


def without_end(content: str | bytes, size: int) -> str | bytes:
    """The content less ``size`` bytes at its end, and less the rest of a character that this cuts."""
    if not size:
        return content
    if isinstance(content, bytes):
        return content[:-size]
    return cut_text(content.encode()[:-size])


def redact_content(
    content: str | bytes,
    content_type: str,
    redactor: Redactor,
    counts: dict[str, int],
    credentials: tuple[str, ...],
    *,
    is_json: bool,
    is_whole: bool,
) -> RawJSON | str | bytes:
    """A body that is collected, or that a record has already, redacted: prompts where they are masked, and secrets.

    Args:
        content: the body.
        content_type: its type, with parameters or without; "" where none is told.
        redactor: masks it.
        counts: rule to number of markers; added to.
        credentials: the values that the request was sent with.
        is_json: it is one valid JSON document, and stays one, unless its type says that it is a text.
        is_whole: nothing of it is missing.
    """
    if redactor.masks_prompts:
        data = content.encode() if isinstance(content, str) else content
        content = without_prompts(data, content_type, counts, is_whole=is_whole)
        is_json = is_json and parse_json(content, content_type) is not NOT_JSON
    if is_json:
        return redact_json(content.encode() if isinstance(content, str) else content, redactor, counts, credentials)
    text = text_or_bytes(content) if isinstance(content, bytes) else content
    return redact_body(text, content_type, redactor, counts, credentials)


def redact_body(
    content: str | bytes, content_type: str, redactor: Redactor, counts: dict[str, int], credentials: tuple[str, ...]
) -> str | bytes:
    """A body that is not JSON, redacted: a form by its fields too."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded" and isinstance(content, str):
        return redactor.form(content, counts, credentials)
    if kind == "multipart/form-data":
        data = content.encode() if isinstance(content, str) else content
        clean = redactor.multipart(data, counts, credentials)
        return content if clean is data else text_or_bytes(clean)
    return redact_text(content, redactor, counts, credentials)


def redact_text(
    content: str | bytes, redactor: Redactor, counts: dict[str, int], credentials: tuple[str, ...]
) -> str | bytes:
    """The redacted text or bytes."""
    if isinstance(content, str):
        return redactor.text(content, counts, credentials)
    return redactor.bytes_(content, counts, credentials)


def redact_json(content: bytes, redactor: Redactor, counts: dict[str, int], credentials: tuple[str, ...]) -> RawJSON:
    """A valid JSON document as it stands, redacted, less the newlines between its tokens.

    Inside a string a raw newline is no JSON, so every one that is here may go.
    """
    document = redactor.json(content, counts, credentials)
    if b"\n" in document or b"\r" in document:
        document = document.translate(None, b"\r\n")
    return RawJSON(document)
