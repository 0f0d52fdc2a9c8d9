"""The redaction of messages that come one by one: a websocket's, of one side.

A secret may be split over messages as it may be over the events of a stream, so they go the way of a stream; each is
a document, or text.

Invariant: a message that is whole is searched as a whole, whatever came before it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from otel_wirecap.capture.redaction.documents import Document, parsed
from otel_wirecap.capture.redaction.edits import Released
from otel_wirecap.capture.redaction.stream import StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_wirecap.capture.redaction.documents import Recognised
    from otel_wirecap.capture.redaction.redactor import Redactor

_BETWEEN = b"\n"
"""Stands between messages in the stream that is made of them: no word goes on over it."""


class _Messages:
    """Each message is a document of its own; ``sizes`` says how long the next ones are. See ``Documents``."""

    def __init__(self) -> None:
        self.sizes: deque[int] = deque()
        self.consumed = 0

    def read(self, data: bytes, _recognised: Recognised, *, is_end: bool) -> Iterator[Document]:
        """See ``Documents``."""
        begin, place = 0, self.consumed
        while self.sizes:
            size = self.sizes.popleft()
            content = data[begin : begin + size]
            yield Document(place + begin, place + begin, content, parsed(content))
            begin += size + len(_BETWEEN)
        self.consumed = place + begin


class MessageRedactor:
    """Redacts the messages of one side.

    Args:
        redactor: what finds secrets.
        max_held_bytes: messages that wait for the rest of a secret have no more bytes than that.
    """

    def __init__(self, redactor: Redactor, max_held_bytes: int) -> None:
        self._messages = _Messages()
        self._stream = StreamRedactor(redactor, self._messages, max_held_bytes)

    def feed(self, messages: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """Takes the next messages; returns those, in order, that can be told now."""
        self._messages.sizes += map(len, messages)
        return _apart(self._stream.feed([message + _BETWEEN for message in messages], credentials))

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """Returns the messages that are left, as if no more came; more may come."""
        return _apart(self._stream.close(credentials))


def _apart(released: Released) -> Released:
    return Released([piece.removesuffix(_BETWEEN) for piece in released.pieces], released.counts)
