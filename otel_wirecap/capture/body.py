"""A body as it is collected and as it is recorded: capped, decoded, classified, and through the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_wirecap.capture.decoding import (
    NOT_JSON,
    ContentDecoder,
    UndecodableError,
    cut_text,
    needs_decoding,
    parse_json,
)
from otel_wirecap.capture.events import LOOK_AHEAD

if TYPE_CHECKING:
    from otel_wirecap.capture.record import Payload
    from otel_wirecap.capture.redaction.gate import Gate


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
        self.chunks = 0
        self.undecodable = False
        self._has_all = True
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
        self.chunks += 1
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

    def leave_out(self, size: int) -> None:
        """So many bytes of the wire follow that never came here."""
        self._has_all = False
        self.wire_length += size
        if self._decoder is None and not self.undecodable:
            self._hash = self._hash or hashlib.sha256()
            self.length += size

    @property
    def is_cut(self) -> bool:
        """Whether bytes are missing of which nobody knows how long they are decoded."""
        return self._decoder is not None and not self._has_all

    @property
    def truncated(self) -> dict[str, object] | None:
        """``metadata.truncated`` of a body over the limit, else None."""
        if self._hash is None or self.undecodable:
            return None
        return {"original_length": self.length} | self._hashed()

    @property
    def is_as_it_came(self) -> bool:
        """Whether it is all there, and was not compressed."""
        return self._hash is None and self._decoder is None and not self.undecodable

    def undecodable_facts(self) -> dict[str, object]:
        """What can be said of a body that could not be decoded."""
        return {"wire_length": self.wire_length} | self._hashed()

    def _hashed(self) -> dict[str, object]:
        return {"sha256": self._hash.hexdigest()} if self._has_all else {}

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
    """A body ready for a record.

    Attributes:
        payload: what is left of it.
        length: its true length, in bytes.
        metadata: its part of the metadata.
        value: its JSON value, as it came, or NOT_JSON; never to be written.
        counts: rule to number of markers, for ``metadata.redactions``.
    """

    payload: Payload
    length: int
    metadata: dict[str, Any]
    value: Any = NOT_JSON
    counts: Mapping[str, int] = {}


def record_body(
    body: BodyCollector,
    gate: Gate,
    credentials: Sequence[str] = (),
    *,
    content_type: str,
    content_encoding: str = "",
    incomplete: str | None = None,
    as_text: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> RecordedBody:
    """Classifies a collected body and redacts it.

    Args:
        body: the body.
        gate: what it leaves through.
        credentials: the values that the request was sent with.
        content_type: the body's.
        content_encoding: as in its header.
        incomplete: why it is not all there; None where it is.
        as_text: JSON too is recorded as the text it is.
        pause: is called when it is parsed.
    """
    metadata: dict[str, Any] = {}
    if body.decoded:
        metadata["content_encoding"] = content_encoding
        metadata["wire_length"] = body.wire_length
    if body.undecodable:
        if not body.wire_length:
            return RecordedBody(None, 0, {})
        metadata |= body.undecodable_facts() | {"incomplete": "undecodable"}
        return RecordedBody(None, body.wire_length, metadata)
    if incomplete is None and body.is_cut:
        incomplete = "dropped"
    if incomplete is not None:
        metadata["incomplete"] = incomplete
    content = body.content()
    if not content:
        return RecordedBody(None, 0, metadata)
    truncated = body.truncated
    if truncated is not None:
        metadata["truncated"] = truncated
    is_whole = truncated is None and incomplete is None
    value = parse_json(content, content_type) if is_whole and not as_text else NOT_JSON
    pause()
    kept = content if truncated is None else cut_text(content)
    beyond = 0 if truncated is None else body.beyond_limit(kept)
    passed = gate.body(
        kept, content_type, credentials, is_json=value is not NOT_JSON, is_whole=is_whole, beyond=beyond
    )  # fmt: skip
    if passed.withheld:
        metadata |= passed.facts
    return RecordedBody(passed.payload, body.length, metadata, value, passed.counts)
